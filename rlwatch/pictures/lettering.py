"""Text for pictures whose colours are palette entries: a ramp of shades, so that small letters stay smooth."""

from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

SHADES = 8
"""Steps from the background to the colour of the letters."""

_STROKE = 0.6
_FIGURES = frozenset("0123456789.+-/ ")


def write(
    picture: UInt8[ndarray, "y x"], text: str, at: tuple[int, int], *, size: int, ramp: int, align: float = 0.0
) -> None:
    """Draws `text` in place with the ramp that starts at palette entry `ramp`; what lies around the letters stays.

    `at` is (x, y of the middle of the line); `align` is the part of the text left of x: 0 begins there, 1 ends there.
    What does not fit into the picture is cut off.
    """
    ink = _ink(text, size)
    height, width = ink.shape
    x, y = round(at[0] - align * width), at[1] - height // 2
    window = picture[max(0, y) : y + height, max(0, x) : x + width]
    seen = ink[max(0, -y) :, max(0, -x) :][: window.shape[0], : window.shape[1]]
    np.copyto(window, seen + np.uint8(ramp), where=seen > 0)


def width(text: str, size: int) -> int:
    """Pixels that a line of `text` is wide."""
    return int(_ink(text, size).shape[1])


def fitted(text: str, size: int, room: int) -> str:
    """The text, or so much of it as fits into `room` pixels and an ellipsis."""
    if width(text, size) <= room:
        return text
    kept = next((end for end in range(len(text), 0, -1) if width(text[:end] + "…", size) <= room), 0)
    return text[:kept].rstrip() + "…"


def _ink(text: str, size: int) -> UInt8[ndarray, "y x"]:
    """How dark each pixel is, from 0 to SHADES - 1; every line of one size is equally high.

    Numbers are set from single figures, all of one width, because a film shows a new one in every frame.
    """
    if len(text) > 1 and set(text) <= _FIGURES:
        return np.hstack([_drawn(figure, size) for figure in text])
    return _drawn(text, size)


@lru_cache(maxsize=512)
def _drawn(text: str, size: int) -> UInt8[ndarray, "y x"]:
    font = _font(size)
    line = Image.new("L", (max(1, round(font.getlength(text) + 2 * _STROKE)), size + size // 3))
    draw = ImageDraw.Draw(line)
    draw.text((_STROKE, line.height // 2), text, font=font, fill=255, anchor="lm", stroke_width=_STROKE)
    ink: ndarray = np.rint(np.asarray(line) * ((SHADES - 1) / 255))
    return ink.astype(np.uint8)


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError(  # noqa: TRY004 - what is missing is a feature, not an argument of another type
            "Pillow must have FreeType to draw text, got one without: install Pillow's own wheel"
        )
    return font
