"""A probe as film: the screen, the relevance upon it, the objects, the Q-values, and what the colours mean.

made = film(screens, relevance, scale=0.012, …)
gif = encode_gif(made.indices, made.palette)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int8, UInt8
from numpy import ndarray

from rlwatch.pictures import heatmap, panel
from rlwatch.pictures.panel import Caption

__all__ = ["Box", "Boxes", "Caption", "Film", "film"]

Box = tuple[int, int, int, int]
"""x, y, width and height in pixels of the screen."""
Boxes = Mapping[str, tuple[Box, ...]]

ZOOM = 3
_THICK = 2


@dataclass(frozen=True)
class Film:
    """Pictures as entries of a palette, as `encode_gif` takes them.

    `indices` draws each picture when it is read and can be read once: a whole film would take 36 MB. `saturated`:
    fraction of the pixels whose relevance is beyond the colour scale.
    """

    indices: Iterator[UInt8[ndarray, "y x"]]
    palette: UInt8[ndarray, "colour rgb"]
    saturated: float


def film(
    screens: UInt8[ndarray, "time screen_y screen_x 3"],
    relevance: Float32[ndarray, "time *stack y x"],
    *,
    scale: float,
    boxes: Sequence[Boxes],
    q_values: Float[ndarray, "time action"],
    actions: Sequence[str],
    caption: Caption,
) -> Film:
    """One picture per frame: the screen three times as large with the relevance upon it, and what a reader needs.

    Relevance with a stack axis is summed over it. Its map covers the whole screen, as the area resize of the usual
    Atari preprocessing does: a pixel of an 84 by 84 map is 2.5 lines of the screen high and 1.9 columns wide. `scale`
    is the relevance per pixel at full colour: one number for all films of a run.

    Raises: ValueError when the parts differ in their number of frames or actions, or hold NaN.
    """
    _check(screens, relevance, boxes, q_values, actions, caption)
    summed = relevance.reshape(len(relevance), -1, *relevance.shape[-2:]).sum(axis=1)
    levels, saturated = heatmap.levels(summed, scale), heatmap.saturated(summed, scale)
    names = list(dict.fromkeys(name for frame in boxes for name, some in frame.items() if some))
    size = ZOOM * screens.shape[1], ZOOM * screens.shape[2]
    page = panel.page(size, q_values, actions, names, caption, scale, saturated)

    def pictures() -> Iterator[UInt8[ndarray, "y x"]]:
        for index, screen in enumerate(screens):
            picture = page.still.copy()
            area, beside = page.parts(picture)
            _draw_screen(area, screen, levels[index])
            _draw_outlines(area, boxes[index], names)
            page.bars.draw(beside, q_values[index])
            panel.draw_moment(beside, index, len(screens), caption.situations[index] if caption.situations else "")
            yield picture

    return Film(pictures(), panel.palette(), saturated)


def _draw_screen(
    area: UInt8[ndarray, "y x"], screen: UInt8[ndarray, "screen_y screen_x 3"], levels: Int8[ndarray, "map_y map_x"]
) -> None:
    """The screen in dimmed greys, and the heat upon it: each pixel of either is a rectangle."""
    shades = np.asarray(cv2.LUT(cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY), _SHADES))
    heat = ((levels + heatmap.LEVELS // 2) * panel.GREYS).astype(np.uint8)
    enlarged = cv2.resize(heat, (area.shape[1], area.shape[0]), interpolation=cv2.INTER_NEAREST)
    np.add(shades.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1), enlarged, out=area)


_SHADES = (np.arange(256) * panel.GREYS // 256).astype(np.uint8)


def _draw_outlines(area: UInt8[ndarray, "y x"], objects: Boxes, names: Sequence[str]) -> None:
    """A line around each object, outside of it, so that its own pixels and their heat stay as they are."""
    for index, name in enumerate(names):
        corners = _corners(objects.get(name, ()))
        inner = [area[top:bottom, left:right].copy() for left, top, right, bottom in corners]
        for left, top, right, bottom in corners:
            around = slice(max(0, top - _THICK), bottom + _THICK), slice(max(0, left - _THICK), right + _THICK)
            area[around] = panel.OUTLINE + index % len(panel.OUTLINES)
        for (left, top, right, bottom), pixels in zip(corners, inner, strict=True):
            area[top:bottom, left:right] = pixels


@lru_cache(maxsize=256)
def _corners(boxes: tuple[Box, ...]) -> list[Box]:
    """Left, top, right and bottom on the enlarged screen, of boxes or of rows of boxes that touch (as bricks do)."""
    joined: list[list[int]] = []
    for y, height, x, width in sorted((y, height, x, width) for x, y, width, height in boxes):
        if joined and joined[-1][1::2] == [y, y + height] and joined[-1][2] == x:
            joined[-1][2] = x + width
        else:
            joined.append([x, y, x + width, y + height])
    return [
        (ZOOM * max(0, left), ZOOM * max(0, top), ZOOM * max(0, right), ZOOM * max(0, bottom))
        for left, top, right, bottom in joined
    ]


def _check(
    screens: ndarray,
    relevance: ndarray,
    boxes: Sequence[Boxes],
    q_values: ndarray,
    actions: Sequence[str],
    caption: Caption,
) -> None:
    frames = {"screens": len(screens), "relevance": len(relevance), "boxes": len(boxes), "q_values": len(q_values)}
    if caption.situations:
        frames["situations"] = len(caption.situations)
    if len(set(frames.values())) > 1 or not len(screens):
        raise ValueError(f"every part must have one entry per frame, got {frames}: cut them from the same probe frames")
    if q_values.shape[1] != len(actions) or not actions:
        raise ValueError(f"q_values must have a column for each of {len(actions)} actions, got {q_values.shape[1]}")
    if not np.isfinite(q_values).all():
        raise ValueError("q_values must be finite, got NaN or infinity: look for diverged weights")
