"""Parts of successive screens that are the same thing: followed over a segment, by the Hungarian method."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from rlwatch.atari.foreground import Part
from rlwatch.atari.screen import Box

REACH, FASTEST = 4.0, 4.0
"""Pixels by which a part may be off the place expected, and by how many more for each raw frame in between."""
LOST = 4
"""Screens after which a part that was not seen again is lost."""
RESIZED = 1.6
"""How many doublings its width and height may change by, together, from one screen to the next."""
UNLIKE = 1e6
"""The cost of an assignment that must not be made."""
LASTING = 4
"""Screens in which a part must have been followed to count as a thing of its own."""
FAR = 12
"""Pixels within which the changing parts of a digit seem to move."""


@dataclass(frozen=True, eq=False)
class Thing:
    """The parts of one track, by screen, and what `features` says of each."""

    parts: Sequence[Part]
    described: Float[np.ndarray, "part feature"]

    @cached_property
    def look(self) -> Float[np.ndarray, " look"]:
        """Doublings of width and height, and red, green and blue from 0 to 1, in the median."""
        median: Float[np.ndarray, " look"] = np.median(self.described[:, 2:], axis=0)
        return median

    @cached_property
    def way(self) -> float:
        """How far its middle goes, beyond where growth on one side would take it, in pixels."""
        (low, high), (least, most) = (
            np.percentile(values, (5, 95), axis=0) for values in (self.described[:, :2], 2 ** self.described[:, 2:4])
        )
        return float((high - low - (most - least) / 2).max())

    @cached_property
    def travels(self) -> bool:
        """Whether it goes far, and not in one leap as the changing parts of a digit seem to."""
        return self.way >= FAR and bool(2 * np.abs(np.diff(self.described[:, :2], axis=0)).max() <= self.way)

    @property
    def lasts(self) -> bool:
        """Whether it was followed for long enough to count."""
        return len(self.parts) >= LASTING

    @cached_property
    def box(self) -> Box:
        """Where its parts lie in the median."""
        return Box(*np.median([part.box for part in self.parts], axis=0).astype(int).tolist())

    @cached_property
    def area(self) -> int:
        """Its pixels on all screens."""
        return int(sum(part.pixels.sum() for part in self.parts))


class _Track(NamedTuple):
    """What a track is known by: its last part's features, its speed in pixels a raw frame, when it was last seen."""

    number: int
    features: np.ndarray
    speed: np.ndarray
    seen: int
    frame: int


def features(parts: Sequence[Part]) -> Float[np.ndarray, "part 7"]:
    """Centre (x, y) in pixels, doublings of width and height, and red, green and blue from 0 to 1, of each part."""
    boxes = np.array([part.box for part in parts], float).reshape(len(parts), 4)
    colours = np.array([part.colour for part in parts]).reshape(len(parts), 3)
    return np.hstack([boxes[:, :2] + boxes[:, 2:] / 2, np.log2(boxes[:, 2:]), colours / 255])


def follow(
    parts: Sequence[Part], segment: Int[np.ndarray, " screen"], frame: Int[np.ndarray, " screen"]
) -> list[Thing]:
    """The things that the parts, which stand by screen, belong to. `frame`: the raw frame of each screen.

    A part continues the thing whose expected place, size and colour are nearest to it; all parts of a screen are
    assigned together, at least cost (Kuhn 1955, doi 10.1002/nav.3800020109).
    """
    described = features(parts)
    owner = np.array([part.screen for part in parts], int)
    tracks: list[list[int]] = []
    alive: list[_Track] = []
    before = -1
    for screen in range(len(segment)):
        if segment[screen] != before:
            alive, before = [], segment[screen]
        own = range(*np.searchsorted(owner, (screen, screen + 1)).tolist())
        alive = [one for one in alive if screen - one.seen <= LOST]
        continued = _assign(alive, described[own], int(frame[screen]))
        seen = {}
        for place, part in enumerate(own):
            old = alive[continued[place]] if place in continued else None
            number = len(tracks) if old is None else old.number
            tracks += [[]] if old is None else []
            tracks[number].append(part)
            seen[number] = _update(old, number, described[part], screen, int(frame[screen]))
        alive = [one for one in alive if one.number not in seen] + list(seen.values())
    return [Thing([parts[index] for index in own], described[own]) for own in tracks]


def _assign(alive: list[_Track], described: np.ndarray, frame: int) -> dict[int, int]:
    """For each part that continues a track, which of those alive."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - only games without a map need it

    if not alive or not len(described):
        return {}
    elapsed = np.array([frame - one.frame for one in alive])
    expected = np.array([one.features for one in alive])
    expected[:, :2] += np.array([one.speed for one in alive]) * elapsed[:, None]
    apart = np.abs(described[:, None] - expected[None])
    distance = np.hypot(apart[..., 0], apart[..., 1]) / (REACH + FASTEST * elapsed)
    resized = apart[..., 2:4].sum(axis=2)
    cost = distance + resized + apart[..., 4:].sum(axis=2) / 2
    cost[(distance > 1) | (resized > RESIZED)] = UNLIKE
    rows, columns = linear_sum_assignment(cost)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if cost[row, column] < UNLIKE}


def _update(old: _Track | None, number: int, now: np.ndarray, screen: int, frame: int) -> _Track:
    speed = np.zeros(2) if old is None else (now[:2] - old.features[:2]) / max(frame - old.frame, 1)
    return _Track(number, now, speed, screen, frame)
