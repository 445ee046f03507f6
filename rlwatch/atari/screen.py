"""What an agent sees of the emulator's screen, and which of its pixels a box on the screen becomes."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8

SIZE = (84, 84)
"""Lines and columns of the agent's picture, unless the training makes others."""
SIZES = (SIZE, (64, 64), (105, 80), (80, 80), (96, 96), (42, 42), (110, 84), (128, 128), (210, 160))
"""Those that trainings make, the usual ones first: what is not said is found out by trying these."""
Size = tuple[int, int]
STACK = 4
"""Pictures that an agent sees at once. Source: Mnih et al., Human-level control, 2015, doi 10.1038/nature14236."""
SKIP = 4
"""Raw frames that one agent step lasts. Source: the same."""
WIDTH = 160
"""Columns of every game's screen; most have 210 lines."""


class Box(NamedTuple):
    """Left, top, width and height in pixels of the screen."""

    x: int
    y: int
    w: int
    h: int


def within(box: Box, others: Iterable[Box]) -> bool:
    """Whether the middle of a box lies in one of the others."""
    x, y = box.x + box.w / 2, box.y + box.h / 2
    return any(other.x <= x <= other.x + other.w and other.y <= y <= other.y + other.h for other in others)


def rgb(screens: UInt8[np.ndarray, "*any y x"], palette: UInt8[np.ndarray, "256 4"]) -> UInt8[np.ndarray, "*any y x 3"]:
    """The screens as `ALEInterface.getScreenRGB` gives them; `palette` holds red, green, blue and grey per index."""
    colours: UInt8[np.ndarray, "*any y x 3"] = np.take(palette, screens, axis=0)[..., :3]
    return colours


def grey(screens: UInt8[np.ndarray, "*any y x"], palette: UInt8[np.ndarray, "256 4"]) -> UInt8[np.ndarray, "*any y x"]:
    """The screens as `ALEInterface.getScreenGrayscale` gives them."""
    shades = cv2.LUT(screens.reshape(-1, screens.shape[-1]), np.ascontiguousarray(palette[:, 3]))
    found: UInt8[np.ndarray, "*any y x"] = shades.reshape(screens.shape)
    return found


def commonest(screens: UInt8[np.ndarray, "screen y x"]) -> UInt8[np.ndarray, "y x"]:
    """The commonest colour index of each pixel."""
    colours = np.unique(screens)
    counts = np.stack([np.count_nonzero(screens == colour, axis=0) for colour in colours])
    modes: UInt8[np.ndarray, "y x"] = colours[counts.argmax(axis=0)]
    return modes


def pooled_rgb(
    screens: UInt8[np.ndarray, "frame 2 y x"], palette: UInt8[np.ndarray, "256 4"]
) -> UInt8[np.ndarray, "frame y x 3"]:
    """The maximum, per colour channel, of the two raw frames that an agent's picture is made of."""
    pooled = np.maximum(*(np.take(palette, screens[:, raw], axis=0) for raw in (0, 1)))
    without_grey = cv2.cvtColor(pooled.reshape(-1, screens.shape[-1], 4), cv2.COLOR_RGBA2RGB)
    colours: UInt8[np.ndarray, "frame y x 3"] = without_grey.reshape(*pooled.shape[:-1], 3)
    return colours


def pictures(
    screens: UInt8[np.ndarray, "frame 2 screen_y screen_x"], palette: UInt8[np.ndarray, "256 4"], size: Size = SIZE
) -> UInt8[np.ndarray, "frame y x"]:
    """The agent's pictures, bit for bit those of gymnasium's `AtariPreprocessing`: maximum of greys, area resize."""
    shrunk = np.empty((len(screens), *size), np.uint8)
    for both, small in zip(screens, shrunk, strict=True):
        cv2.resize(np.maximum(*grey(both, palette)), size[::-1], dst=small, interpolation=cv2.INTER_AREA)
    return shrunk


def stacks(
    steps: Int[np.ndarray, " probe"], start: Int[np.ndarray, " probe"], depth: int = STACK
) -> Int[np.ndarray, "probe stack"]:
    """For each of `steps`, the steps whose pictures it stacks, oldest first; `start` is where its episode begins.

    As in gymnasium's `FrameStackObservation` an episode's first picture fills the places before it.
    """
    stacked: Int[np.ndarray, "probe stack"] = np.maximum(steps[:, None] - np.arange(depth - 1, -1, -1), start[:, None])
    return stacked


def mask(boxes: Iterable[Box], lines: int, *, size: Size = SIZE, dilation: int = 1) -> Bool[np.ndarray, "y x"]:
    """Which pixels of the agent's picture hold a part, however small, of one of the boxes.

    `lines`: how many the screen has. `dilation`: by how many pixels of the agent's picture a box grows on every side.
    What lies beyond the screen is cut off.
    """
    inside = np.zeros(size, bool)
    for box in boxes:
        inside[_span(box.y, box.h, lines, size[0], dilation), _span(box.x, box.w, WIDTH, size[1], dilation)] = True
    return inside


def _span(start: int, length: int, whole: int, shrunk: int, dilation: int) -> slice:
    """The pixels of `shrunk` that the area resize makes of `length` pixels from `start` of `whole`."""
    first, last = max(start, 0), min(start + length, whole)
    if first >= last:
        return slice(0)
    return slice(max(first * shrunk // whole - dilation, 0), -(-last * shrunk // whole) + dilation)
