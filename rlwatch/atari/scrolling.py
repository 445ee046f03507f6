"""Scenes that scroll: nearly all that moves goes the same way."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rlwatch.atari.screen import Box
from rlwatch.atari.tracking import Thing

SEVERAL = 3
"""Things that must move at a time for their ways to tell anything."""
MOST = 0.75
"""Part of them that goes the same way where the scene scrolls; of two or more swarms, none is so large."""
NEAR = 1
"""Pixels by which their ways may differ."""


def scrolling(things: Sequence[Thing], frames: int) -> float:
    """In which part of the frames nearly all that moves goes the same way up to the next; 0 where few things move.

    A thing that enters or leaves goes with its inner edges, while its outer ones stay at the border.
    """
    ways: dict[int, list[tuple[Box, Box]]] = defaultdict(list)
    for thing in things:
        if thing.lasts:
            boxes = {part.screen: part.box for part in thing.parts if part.screen % 2}
            for screen in boxes.keys() & {later - 2 for later in boxes}:
                ways[screen].append((boxes[screen], boxes[screen + 2]))
    return sum(_together(np.array(pairs, int)) for pairs in ways.values()) / frames


def _together(pairs: np.ndarray) -> bool:
    """Whether most of the boxes that changed went the same way."""
    corners = np.stack([pairs[..., :2], pairs[..., :2] + pairs[..., 2:]], axis=2)
    ways = corners[:, 1] - corners[:, 0]
    ways = ways[ways.any(axis=(1, 2))]
    if len(ways) < SEVERAL:
        return False
    alike = np.abs(ways[:, :, None] - ways.reshape(-1, 2)).max(axis=3) <= NEAR
    shared = alike.any(axis=1).mean(axis=0)
    return bool(shared[ways.reshape(-1, 2).any(axis=1)].max() >= MOST)
