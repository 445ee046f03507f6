"""What stands around the screen of a film: title, Q-values, names of the outlines, colour scale; and its palette."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from rlwatch.pictures import heatmap
from rlwatch.pictures.lettering import SHADES, fitted, width, write

GREYS = 14
"""Shades of the screen; with 15 levels of heat they take 210 of the 255 colours."""
BRIGHT = GREYS * heatmap.LEVELS
FAINT = BRIGHT + SHADES
OUTLINE = FAINT + SHADES
OUTLINES = (
    (255, 224, 70),
    (70, 225, 130),
    (240, 130, 240),
    (255, 160, 60),
    (255, 255, 255),
    (60, 220, 220),
    (190, 235, 60),
    (200, 160, 120),
    (175, 150, 255),
    (255, 190, 200),
)
"""Yellow, green and so on: neither red nor blue, which mean relevance."""

MARGIN, HEADER, PANEL, GAP = 14, 84, 280, 18
_PAPER, _WHITE, _GREY = (22, 24, 29), (244, 245, 247), (150, 155, 165)
_DIMMED = 150
_BARS, _FOOT = HEADER + 84, 172
_LONGEST_NAME, _VALUE = 140, 78
_HEADING = "Q-values"
_LOWEST_ROW, _TALLEST_ROW = 18, 34


@dataclass(frozen=True)
class Caption:
    """The words of a film.

    `title`: the game. `returns`: the checkpoint's mean return, NaN when nobody told. `explains`: what the heatmap is
    about. `red` and `blue`: what the two colours say. `situations`: one name per frame ("late game"), or none at all.
    """

    title: str
    step: int
    returns: float = math.nan
    explains: str = "where the value of the best action comes from"
    red: str = "speaks for it"
    blue: str = "speaks against it"
    situations: Sequence[str] = ()


@dataclass(frozen=True)
class Bars:
    """How the Q-values of a film are drawn: an axis for all of its frames, and how high a row is."""

    actions: Sequence[str]
    low: float
    high: float
    row: int

    @property
    def size(self) -> int:
        """Height of the letters."""
        return min(24, self.row - 3)

    @property
    def left(self) -> int:
        """Where the bars begin: behind the longest name."""
        return min(_LONGEST_NAME, max(width(action, self.size) for action in self.actions)) + 8

    @property
    def room(self) -> int:
        """Width of the numbers behind the bars."""
        return max(_VALUE, *(width(self.words(value), self.size) + 4 for value in (self.low, self.high)))

    def words(self, value: float) -> str:
        """A Q-value with as many decimals as tell the actions of the film apart."""
        decimals = 2 if self.high - self.low > 0.5 else 3  # noqa: PLR2004 - the gap of two actions is a part of it
        return f"{round(value, decimals) + 0.0:.{decimals}f}"

    def draw(self, panel: UInt8[ndarray, "y x"], values: Float[ndarray, " action"]) -> None:
        """A bar and a number per action, those of the best action in white."""
        best, size, left = int(values.argmax()), self.size, self.left
        lengths = 4 + (values - self.low) / ((self.high - self.low) or 1.0) * (PANEL - left - self.room - 4)
        _draw_best(panel, self.actions[best])
        for index, action in enumerate(self.actions):
            y, ramp = _BARS + self.row * index + self.row // 2, BRIGHT if index == best else FAINT
            write(panel, fitted(action, size, left - 8), (0, y), size=size, ramp=ramp)
            half = max(2, self.row // 2 - 2)
            panel[y - half : y + half, left : left + round(float(lengths[index]))] = ramp + SHADES - 1
            write(panel, self.words(float(values[index])), (PANEL, y), size=size, ramp=ramp, align=1.0)


def palette() -> UInt8[ndarray, "colour rgb"]:
    """Heat on dimmed greys (entry = level · GREYS + shade), two ramps for letters, the colours of outlines."""
    greys = np.rint(np.linspace(0, 1, GREYS) ** 0.9 * _DIMMED).astype(int)
    heat = np.stack([heatmap.palette(backdrop=(grey, grey, grey)) for grey in greys.tolist()], axis=1)
    parts = [heat.reshape(-1, 3), _ramp(_WHITE), _ramp(_GREY), np.asarray(OUTLINES)]
    return np.concatenate(parts).astype(np.uint8)


@dataclass(frozen=True)
class Page:
    """What stands still in a film, how its bars are drawn, and the height and width of its screen."""

    still: UInt8[ndarray, "y x"]
    bars: Bars
    size: tuple[int, int]

    def parts(self, picture: UInt8[ndarray, "y x"]) -> tuple[ndarray, ndarray]:
        """The screen and the panel beside it, as views of a picture."""
        height, width = self.size
        return picture[HEADER:, MARGIN:][:height, :width], picture[:, MARGIN + width + GAP :]


def page(
    size: tuple[int, int],
    q_values: Float[ndarray, "time action"],
    actions: Sequence[str],
    names: Sequence[str],
    caption: Caption,
    scale: float,
    saturated: float,
) -> Page:
    """Everything but the screen, the bars and the situation; higher than the screen where there are many actions."""
    needed = _around_bars(len(names)) + _LOWEST_ROW * len(actions)
    height, width = max(HEADER + size[0], needed) + MARGIN, 2 * MARGIN + size[1] + GAP + PANEL
    still = np.full((height, width), BRIGHT, np.uint8)
    _draw_header(still, caption)
    beside = still[:, MARGIN + size[1] + GAP :]
    bars = _draw_axis(beside, q_values, actions, len(names))
    _draw_names(beside, names, _BARS + bars.row * len(actions) + 44)
    _draw_colour_scale(beside, caption, scale, saturated)
    return Page(still, bars, size)


def _draw_header(still: UInt8[ndarray, "y x"], caption: Caption) -> None:
    """Title, step and return, and below them what the heatmap explains."""
    returns = "" if math.isnan(caption.returns) else f"  ·  return {caption.returns:.1f}"
    room = still.shape[1] - 2 * MARGIN
    headline = fitted(f"{caption.title}  ·  step {caption.step:,}{returns}", 30, room)
    write(still, headline, (MARGIN, 28), size=30, ramp=BRIGHT)
    write(still, fitted(f"Heat: {caption.explains}", 22, room), (MARGIN, 62), size=22, ramp=FAINT)


def _draw_axis(
    panel: UInt8[ndarray, "y x"], q_values: Float[ndarray, "time action"], actions: Sequence[str], names: int
) -> Bars:
    """The heading of the bars and, below them, the Q-values at which they begin and end; how the bars are drawn.

    Rows are as high as the outlines' `names` and the colour scale leave room for.
    """
    low, high = float(q_values.min()), float(q_values.max())
    row = min(_TALLEST_ROW, (len(panel) - MARGIN - _around_bars(names)) // len(actions))
    write(panel, _HEADING, (0, HEADER + 56), size=24, ramp=BRIGHT)
    bars = Bars(actions, low, high, row)
    axis = f"bars from {bars.words(low)} to {bars.words(high)}"
    write(panel, axis, (PANEL, _BARS + row * len(actions) + 12), size=20, ramp=FAINT, align=1.0)
    return bars


def _draw_best(panel: UInt8[ndarray, "y x"], action: str) -> None:
    """The name of the best action beside the heading of the bars, in letters as large as there is room for."""
    told, room = f"best: {action}", PANEL - width(_HEADING, 24) - 12
    size = next((size for size in range(24, 12, -2) if width(told, size) <= room), 14)
    write(panel, fitted(told, size, room), (PANEL, HEADER + 56), size=size, ramp=BRIGHT, align=1.0)


def _draw_names(panel: UInt8[ndarray, "y x"], names: Sequence[str], top: int) -> None:
    """The names of the outlines in two columns, each beside its colour."""
    if not names:
        return
    write(panel, "Outlines", (0, top), size=24, ramp=BRIGHT)
    room = PANEL // 2 - 30
    size = 24 if max(width(name, 24) for name in names) <= room else 18
    for index, name in enumerate(names):
        x, y = (index % 2) * PANEL // 2, top + 32 + index // 2 * 28
        panel[y - 8 : y + 8, x : x + 16] = OUTLINE + index % len(OUTLINES)
        panel[y - 6 : y + 6, x + 2 : x + 14] = BRIGHT
        write(panel, fitted(name, size, room), (x + 24, y), size=size, ramp=BRIGHT)


def _draw_colour_scale(panel: UInt8[ndarray, "y x"], caption: Caption, scale: float, saturated: float) -> None:
    """All levels from blue to red, the relevance at both ends, and what they say."""
    top = len(panel) - MARGIN - _FOOT
    write(panel, "Heat in Q per pixel", (0, top + 10), size=24, ramp=BRIGHT)
    panel[top + 30 : top + 54, :PANEL] = np.arange(PANEL) * heatmap.LEVELS // PANEL * GREYS
    for text, x, align in ((f"{-scale:.3g}", 0, 0.0), ("0", PANEL // 2, 0.5), (f"+{scale:.3g}", PANEL, 1.0)):
        write(panel, text, (x, top + 70), size=22, ramp=BRIGHT, align=align)
    meanings = (heatmap.LEVELS - 1, f"red {caption.red}"), (0, f"blue {caption.blue}")
    for y, (level, text) in zip((top + 102, top + 132), meanings, strict=True):
        panel[y - 8 : y + 8, :16] = level * GREYS
        write(panel, fitted(text, 24, PANEL - 24), (24, y), size=24, ramp=BRIGHT)
    if saturated > 0:
        write(panel, f"{100 * saturated:.2g} % of pixels are stronger", (0, top + 160), size=20, ramp=FAINT)


def draw_moment(panel: UInt8[ndarray, "y x"], frame: int, frames: int, situation: str) -> None:
    """The situation of a frame, and which frame of how many it is."""
    count = f"{frame + 1}/{frames}"
    write(panel, count, (PANEL, HEADER + 12), size=24, ramp=FAINT, align=1.0)
    room = PANEL - width(count, 24) - 12
    write(panel, fitted(situation, 26, room), (0, HEADER + 12), size=26, ramp=BRIGHT)


def _around_bars(names: int) -> int:
    """Height of everything in the panel but the bars."""
    return _BARS + (74 + 28 * math.ceil(names / 2) if names else 20) + 20 + _FOOT


def _ramp(colour: tuple[int, int, int]) -> Float[ndarray, "shade rgb"]:
    part = np.linspace(0, 1, SHADES)[:, None]
    mixed: ndarray = np.rint(part * np.asarray(colour) + (1 - part) * np.asarray(_PAPER))
    return mixed
