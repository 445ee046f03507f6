"""Where a probe's objects stand on each of its screens, whichever way they were found."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from rlwatch.atari import background, screen
from rlwatch.atari.background import Sureness
from rlwatch.atari.objects import ObjectMap
from rlwatch.atari.screen import Box, Size


class Shape(NamedTuple):
    """A piece of an object on a screen: its box and, within it, its pixels, or None where it fills the box."""

    box: Box
    pixels: Bool[np.ndarray, "h w"] | None = None


Shapes = Mapping[str, Sequence[tuple[Shape, ...]]]
"""Each object's pieces on each raw screen: two screens a frame, one after the other."""
SCROLLS = 0.5
"""Part of the frames in which nearly all that moves must go the same way for the scene to be said to scroll."""


@dataclass(frozen=True, eq=False, repr=False)
class Placed:
    """The objects of a probe.

    `how`: "ram", by an exact map of the game's memory, or "background", by what differs from it. `reason`: why there is
    no object, or "". `sureness`: of the objects that were followed. `steady`: part of the screens in which the
    background holds still. `named`: part of the pixels standing out from it that belong to an object with a name.
    `scrolling`: part of the frames in which nearly all that moves goes the same way.
    """

    how: Literal["ram", "background"]
    shapes: Shapes
    reason: str = ""
    sureness: Mapping[str, Sureness] = field(default_factory=dict)
    steady: float = 1.0
    named: float = 1.0
    scrolling: float = 0.0

    def __str__(self) -> str:
        if self.how == "ram":
            return "objects exact, from the RAM"
        if self.reason:
            return f"no map of the RAM; {self.reason} (it holds still in {100 * self.steady:.0f} % of the screens)"
        found = f"objects found against the background; they are {100 * self.named:.0f} % of what stands out from it"
        scrolls = f"; the scene scrolls ({100 * self.scrolling:.0f} % of the frames), they may be scenery"
        return found + scrolls * (self.scrolling >= SCROLLS)


def by_ram(mapped: ObjectMap, ram: UInt8[np.ndarray, "frame 3 128"]) -> Placed:
    """The objects that a map tells from the memory."""
    shaped = cache(lambda boxes: tuple(map(Shape, boxes)))  # few sets of boxes come again and again
    everywhere = [mapped.boxes(ram[frame, raw]) for frame in range(len(ram)) for raw in (1, 2)]
    return Placed("ram", {name: [shaped(boxes[name]) for boxes in everywhere] for name in everywhere[0]})


def by_background(found: background.Found, screens: int) -> Placed:
    """The objects that stand out from the background of so many raw screens."""
    shapes: dict[str, list[tuple[Shape, ...]]] = {name: [()] * screens for name in found.parts}
    for name, parts in found.parts.items():
        for part in parts:
            shapes[name][part.screen] += (Shape(part.box, part.pixels),)
    displays = {name: [tuple(map(Shape, boxes)) for boxes in everywhere] for name, everywhere in found.displays.items()}
    sure = found.sureness, found.steady, found.named, found.scrolling
    return Placed("background", shapes | displays, found.reason, *sure)


def masks(
    shapes: Shapes, lines: int, *, size: Size = screen.SIZE, dilation: int
) -> dict[str, Bool[np.ndarray, "frame y x"]]:
    """Each object's pixels in the agent's picture of each frame, which is pooled from its two screens."""
    return {name: np.stack(_drawn(everywhere, lines, size, dilation)) for name, everywhere in shapes.items()}


def _drawn(
    everywhere: Sequence[tuple[Shape, ...]], lines: int, size: Size, dilation: int
) -> list[Bool[np.ndarray, "y x"]]:
    drawn: dict[tuple[Box, ...], np.ndarray] = {}
    frames = []
    for first, second in zip(everywhere[::2], everywhere[1::2], strict=True):
        pieces = first + second
        boxes = tuple(piece.box for piece in pieces if piece.pixels is None)
        if boxes not in drawn:
            drawn[boxes] = screen.mask(boxes, lines, size=size, dilation=dilation)
        figures = [piece for piece in pieces if piece.pixels is not None]
        frames.append(drawn[boxes] | _shrunk(figures, lines, size, dilation) if figures else drawn[boxes])
    return frames


def _shrunk(pieces: Iterable[Shape], lines: int, size: Size, dilation: int) -> Bool[np.ndarray, "y x"]:
    """Which pixels of the agent's picture hold a part, however small, of one of the pieces, grown on every side."""
    whole = np.zeros((lines, screen.WIDTH), np.float32)
    for (x, y, w, h), pixels in pieces:
        whole[y : y + h, x : x + w] += 1.0 if pixels is None else pixels
    small = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA) > 0
    side = 2 * dilation + 1
    grown: Bool[np.ndarray, "y x"] = cv2.dilate(small.view(np.uint8), np.ones((side, side), np.uint8)) > 0
    return grown
