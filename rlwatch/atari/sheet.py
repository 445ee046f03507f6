"""The contact sheet of a probe: one screen a segment, its objects outlined and named, and a legend of how many."""

import colorsys
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from rlwatch.atari.objects import Boxes

ZOOM, COLUMNS, EDGE, LINE, SIZE = 2, 4, 16, 26, 17
PAPER, INK = (22, 24, 29), (240, 242, 245)
LEGEND = "observations with:"
SMALL = 10
"""Size of a name beside its box."""
GOLDEN = 0.381966
"""Part of the colour circle from one object to the next: however many there are, no two get the same hue."""
SATURATIONS = (0.75, 0.4)

Colour = tuple[int, int, int]
Place = tuple[int, int, int, int]


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
    across = EDGE + COLUMNS * (width + EDGE)
    colours = {name: colour_of(index) for index, name in enumerate(visible)}
    lines = _wrapped(title, across - 2 * EDGE)
    words = [(LEGEND, INK), *((f"{_said(name)} {count}", colours[name]) for name, count in visible.items())]
    places = list(_legend([text for text, _ in words], across, EDGE + LINE * len(lines)))
    top = places[-1][1] + LINE + EDGE
    page = Image.new("RGB", (across, top + rows * (height + LINE + EDGE)), PAPER)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        _write(pen, (EDGE, EDGE + LINE * number), line, INK)
    for at, (text, colour) in zip(places, words, strict=True):
        _write(pen, at, text, colour)
    for index, (picture, objects, label) in enumerate(zip(screens, boxes, labels, strict=True)):
        row, column = divmod(index, COLUMNS)
        x, y = EDGE + column * (width + EDGE), top + row * (height + LINE + EDGE)
        _write(pen, (x, y), label, INK)
        outlined = Image.fromarray(_outlined(picture, objects, colours))
        _name(outlined, objects, colours)
        page.paste(outlined, (x, y + LINE))
    return np.asarray(page)


def colour_of(index: int) -> Colour:
    """The colour of the object of this index."""
    hue, saturation = index * GOLDEN % 1, SATURATIONS[index % len(SATURATIONS)]
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, 1))
    return red, green, blue


def _outlined(picture: UInt8[np.ndarray, "y x 3"], objects: Boxes, colours: Mapping[str, Colour]) -> np.ndarray:
    """The enlarged screen with a line around each box, just outside of it, so that the object stays to be seen."""
    large = np.repeat(np.repeat(picture, ZOOM, axis=0), ZOOM, axis=1)
    for name, boxes in objects.items():
        for x, y, w, h in boxes:
            corners = (ZOOM * x - 1, ZOOM * y - 1), (ZOOM * (x + w), ZOOM * (y + h))
            cv2.rectangle(large, *corners, colours[name], 1)
    return large


def _name(picture: Image.Image, objects: Boxes, colours: Mapping[str, Colour]) -> None:
    """Write each object's name at one of its boxes, above or below, where no box, name or edge is in the way."""
    pen = ImageDraw.Draw(picture)
    taken = [(ZOOM * x, ZOOM * y, ZOOM * w, ZOOM * h) for boxes in objects.values() for x, y, w, h in boxes]
    for name, boxes in objects.items():
        text = _said(name)
        width = round(pen.textlength(text, font=ImageFont.load_default(SMALL)))
        for x, y, _, h in boxes:
            left = min(ZOOM * x, picture.width - width)
            tops = ZOOM * y - SMALL - 4, ZOOM * (y + h) + 1
            free = [one for top in tops if _is_free(one := (left, top, width, SMALL + 2), taken, picture.height)]
            if free:
                taken.append(free[0])
                pen.rectangle((left, free[0][1], left + width, free[0][1] + SMALL + 2), fill=PAPER)
                pen.text(free[0][:2], text, fill=colours[name], font=ImageFont.load_default(SMALL))
                break


def _is_free(place: Place, taken: Sequence[Place], bottom: int) -> bool:
    x, y, w, h = place
    inside = y >= 0 and y + h <= bottom
    return inside and all(x >= a + c or a >= x + w or y >= b + d or b >= y + h for a, b, c, d in taken)


def _wrapped(title: str, width: int) -> list[str]:
    """The title in as many lines as it needs."""
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if ImageFont.load_default(SIZE).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _legend(words: Sequence[str], across: int, y: int) -> Iterator[tuple[int, int]]:
    """Where the words stand, in as many lines as they need, the first at height `y`."""
    x = EDGE
    for text in words:
        width = round(ImageFont.load_default(SIZE).getlength(text))
        if x > EDGE and x + width + EDGE > across:
            x, y = EDGE, y + LINE
        yield x, y
        x += width + EDGE


def _said(name: str) -> str:
    return name.replace("_", " ")


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: Colour) -> None:
    pen.text(at, text, fill=colour, font=ImageFont.load_default(SIZE))
