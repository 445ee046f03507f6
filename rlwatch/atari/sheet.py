"""The contact sheet of a probe: one screen a segment, with its objects outlined in colours that a legend names."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from rlwatch.atari.objects import Boxes

ZOOM, COLUMNS, EDGE, LINE, SIZE = 2, 4, 16, 26, 17
PAPER, INK = (22, 24, 29), (240, 242, 245)
OUTLINES = (
    (255, 224, 70),
    (70, 225, 130),
    (240, 130, 240),
    (60, 220, 220),
    (255, 160, 60),
    (255, 255, 255),
    (190, 235, 60),
    (175, 150, 255),
)


def draw(
    title: str,
    screens: UInt8[np.ndarray, "segment y x 3"],
    boxes: Sequence[Boxes],
    labels: Sequence[str],
    visible: Mapping[str, int],
) -> UInt8[np.ndarray, "sheet_y sheet_x 3"]:
    """The screens at twice their size, four in a row, each under its label; on top the title and what is outlined."""
    height, width = ZOOM * screens.shape[1], ZOOM * screens.shape[2]
    rows = -(-len(screens) // COLUMNS)
    top = 2 * LINE + 2 * EDGE
    size = (EDGE + COLUMNS * (width + EDGE), top + rows * (height + LINE + EDGE))
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    colours = {name: OUTLINES[index % len(OUTLINES)] for index, name in enumerate(visible)}
    _write(pen, (EDGE, EDGE), title, INK)
    _legend(pen, colours, visible)
    for index, (picture, objects, label) in enumerate(zip(screens, boxes, labels, strict=True)):
        row, column = divmod(index, COLUMNS)
        x, y = EDGE + column * (width + EDGE), top + row * (height + LINE + EDGE)
        _write(pen, (x, y), label, INK)
        page.paste(Image.fromarray(_outlined(picture, objects, colours)), (x, y + LINE))
    return np.asarray(page)


def _outlined(
    picture: UInt8[np.ndarray, "y x 3"], objects: Boxes, colours: Mapping[str, tuple[int, int, int]]
) -> np.ndarray:
    """The enlarged screen with a line around each box, just outside of it, so that the object stays to be seen."""
    large = np.repeat(np.repeat(picture, ZOOM, axis=0), ZOOM, axis=1)
    for name, boxes in objects.items():
        for x, y, w, h in boxes:
            corners = (ZOOM * x - 1, ZOOM * y - 1), (ZOOM * (x + w), ZOOM * (y + h))
            cv2.rectangle(large, *corners, colours[name], 1)
    return large


def _legend(pen: ImageDraw.ImageDraw, colours: Mapping[str, tuple[int, int, int]], visible: Mapping[str, int]) -> None:
    x = EDGE
    for name, count in visible.items():
        text = f"{name.replace('_', ' ')} {count}"
        _write(pen, (x, EDGE + LINE), text, colours[name])
        x += round(pen.textlength(text, font=ImageFont.load_default(SIZE))) + EDGE


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: tuple[int, int, int]) -> None:
    pen.text(at, text, fill=colour, font=ImageFont.load_default(SIZE))
