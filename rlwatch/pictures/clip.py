"""Animated GIFs, lossless and quick: a known palette, and only the pixels that change."""

import io
import struct
from collections.abc import Iterable

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

SAME = 255
"""The palette entry that stands for "as in the frame before"."""

_DESCRIPTOR = 0x2C
_EXTENSION = 0x21


def encode_gif(
    frames: Iterable[UInt8[ndarray, "y x"]], palette: UInt8[ndarray, "colour rgb"], milliseconds: int = 100
) -> bytes:
    """An endless GIF of `frames` (or of a "time y x" array) of palette entries, which decoders show pixel for pixel.

    `milliseconds` per frame go in steps of ten. A frame that repeats the one before keeps its time.

    Raises: ValueError on more than 255 colours, an entry without a colour, no frame, frames of different size, or
    milliseconds below 20.
    """
    if len(palette) > SAME:
        raise ValueError(f"palette must have at most {SAME} colours, got {len(palette)}: use fewer shades")
    if milliseconds < 20:  # noqa: PLR2004 - browsers slow faster clips down to 100 ms
        raise ValueError(f"milliseconds must be at least 20, got {milliseconds}: browsers show faster clips at 100")
    control = struct.pack("<BBBBHBB", _EXTENSION, 0xF9, 4, 0x05, round(milliseconds / 10), SAME, 0)
    parts: list[bytes] = []
    before = None
    for frame in frames:
        _check(frame, before, len(palette))
        top, left, pixels = (0, 0, frame) if before is None else _changes(before, frame)
        place = struct.pack("<BHHHHB", _DESCRIPTOR, left, top, pixels.shape[1], pixels.shape[0], 0)
        parts += [control, place, _compress(pixels)]
        before = frame
    if before is None:
        raise ValueError("frames must hold at least one frame, got none: choose some frames of the probe")
    return b"".join([_header(before.shape, palette), *parts, b";"])


def _header(shape: tuple[int, ...], palette: UInt8[ndarray, "colour rgb"]) -> bytes:
    """Size, palette and "repeat for ever"."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    screen = struct.pack("<HHBBB", shape[1], shape[0], 0xF7, 0, 0)
    return b"GIF89a" + screen + table.tobytes() + b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"


def _changes(before: UInt8[ndarray, "y x"], now: UInt8[ndarray, "y x"]) -> tuple[int, int, ndarray]:
    """Top and left of the smallest rectangle around what changes, and its pixels; one pixel where nothing does."""
    changed = cv2.compare(before, now, cv2.CMP_NE)
    left, top, width, height = cv2.boundingRect(changed)
    window = slice(top, top + max(1, height)), slice(left, left + max(1, width))
    return top, left, cv2.bitwise_or(now[window], cv2.bitwise_not(changed[window]))


def _compress(pixels: UInt8[ndarray, "y x"]) -> bytes:
    """The pixels as GIF image data (code size, LZW blocks, terminator), taken from a one-frame GIF of Pillow's."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "GIF", optimize=False, interlace=0)
    data = file.getvalue()
    start = 13 + 3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 13
    while data[start] == _EXTENSION:
        start += 2
        while data[start]:
            start += data[start] + 1
        start += 1
    return data[start + 10 : -1]


def _check(frame: ndarray, before: ndarray | None, colours: int) -> None:
    if frame.size == 0 or (before is not None and frame.shape != before.shape):
        wanted = "at least one pixel" if before is None else str(before.shape)
        raise ValueError(f"frames must all have one size, {wanted}, got {frame.shape}: cut them alike")
    if int(frame.max()) >= colours:
        raise ValueError(f"frames must hold entries of the {colours} colours, got {frame.max()}: add its colour")
