"""Where a game shows the score, lives and the like, found by place and by how it behaves."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from rlwatch.atari.foreground import Part
from rlwatch.atari.screen import Box

TOP, FOOT = 0.15, 0.22
"""Part of the screen's height, at its top and at its foot, where a display is looked for."""
GAP = (12, 3)
"""Pixels, across and down, between signs that belong to one display."""
PLAYED = 0.01
"""Part of the screens in which something moves through a line that belongs to the game and not to a display."""
TELLS = 0.5
"""How much a display of the score tells of the score: adjusted mutual information, 1 = everything, 0 = by chance."""
LEAST = 4
"""Pixels that a display is wide and high at least."""
SHIFT = 4
"""Pixels by which what is in a box may shift from one screen to the next, as floes do and digits do not."""
REMAINS = 0.25
"""Part of the pixels that changed which may remain so after the shift."""
SHOWN = 0.05
"""Part of the screens, at least, on which something must be written in a display."""


def displays(
    signs: Sequence[Part],
    movers: Sequence[Part],
    screens: UInt8[np.ndarray, "screen y x"],
    plate: UInt8[np.ndarray, "y x"],
    score: Float[np.ndarray, " screen"],
) -> dict[str, tuple[Box, ...]]:
    """The boxes of the displays: `score`, whose content tells the score, and `hud`, all others; none has no entry.

    A display stands at the top or at the foot, in lines through which hardly anything moves, and changes now and then,
    but not by shifting as a whole. It is no higher than the strip at the top, wherever it stands. What the background
    holds of it, beside the signs that change, is told by their colours. `score`: the score that a screen shows, NaN
    where it is not known.
    """
    y, x = plate.shape
    at_edge = [part for part in signs if not TOP < (part.box.y + part.box.h / 2) / y < 1 - FOOT]
    changing = painted(at_edge, (y, x)) & ~_played(movers, len(screens), y)[:, None]
    boxes = [_whole(box, screens, plate) for box in gathered(changing) if min(box.w, box.h) >= LEAST]
    boxes = list(dict.fromkeys(box for box in boxes if box.h <= TOP * y and not _shifts(box, screens)))
    boxes = [box for box in boxes if written(box, screens).mean() >= SHOWN]
    telling = [_tells(box, screens, score) >= TELLS for box in boxes]
    sorted_out = {
        "score": tuple(box for box, tells in zip(boxes, telling, strict=True) if tells),
        "hud": tuple(box for box, tells in zip(boxes, telling, strict=True) if not tells),
    }
    return {name: own for name, own in sorted_out.items() if own}


def written(box: Box, screens: UInt8[np.ndarray, "screen y x"]) -> Bool[np.ndarray, " screen"]:
    """On which screens there is something in a box: more than one colour, or one that does not go on beside it."""
    y, x = (slice(max(start - 1, 0), start + long + 1) for start, long in ((box.y, box.h), (box.x, box.w)))
    inside = np.zeros(screens.shape[1:], bool)
    inside[box.y : box.y + box.h, box.x : box.x + box.w] = True
    within, beside = screens[:, y, x][:, inside[y, x]], screens[:, y, x][:, ~inside[y, x]]
    one = within[:, :1]
    something: Bool[np.ndarray, " screen"] = (within != one).any(axis=1) | (beside != one).all(axis=1)
    return something


def _shifts(box: Box, screens: np.ndarray) -> bool:
    """Whether what is in and around a box shifts sideways in most of the screens in which it changes."""
    around = screens[:, box.y : box.y + box.h, max(box.x - SHIFT, 0) : box.x + box.w + SHIFT]
    before, after = around[:-1], around[1:]
    lines = (before != after).any(axis=2, keepdims=True)
    apart = (before != after).sum(axis=(1, 2))
    pairs = [pair for by in range(1, SHIFT + 1) for pair in ((np.s_[by:], np.s_[:-by]), (np.s_[:-by], np.s_[by:]))]
    shifted = [(lines & (before[..., old] != after[..., new])).sum(axis=(1, 2)) for old, new in pairs]
    return bool(2 * np.count_nonzero(np.min(shifted, axis=0) < REMAINS * apart) > np.count_nonzero(apart))


def _played(movers: Sequence[Part], screens: int, lines: int) -> Bool[np.ndarray, " y"]:
    """The lines that something moves through."""
    counts = np.zeros(lines)
    for part in movers:
        counts[part.box.y : part.box.y + part.box.h] += 1
    played: Bool[np.ndarray, " y"] = counts > PLAYED * screens
    return played


def _whole(box: Box, screens: np.ndarray, plate: np.ndarray) -> Box:
    """The box of a display, widened by what the background holds of it in the same lines and colours."""
    lines = slice(box.y, box.y + box.h)
    paper = np.bincount(plate[lines].ravel()).argmax()
    ink = np.setdiff1d(screens[:, lines, box.x : box.x + box.w], [paper])
    written = np.zeros(plate.shape, bool)
    written[lines] = np.isin(plate[lines], ink)
    written[lines, box.x : box.x + box.w] = True
    return next(one for one in gathered(written) if one.x <= box.x < one.x + one.w)


def painted(parts: Sequence[Part], shape: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """The pixels of all parts' boxes."""
    plate = np.zeros(shape, bool)
    for x, y, w, h in {part.box for part in parts}:
        plate[y : y + h, x : x + w] = True
    return plate


def gathered(signs: Bool[np.ndarray, "y x"]) -> list[Box]:
    """The boxes around pixels that lie no further apart than the gap between signs."""
    kernel = np.ones((2 * (GAP[1] // 2) + 1, 2 * (GAP[0] // 2) + 1), np.uint8)
    labels = cv2.connectedComponents(cv2.dilate(signs.view(np.uint8), kernel), connectivity=8)[1]
    return [_around(signs & (labels == label)) for label in range(1, labels.max() + 1)]


def _around(pixels: np.ndarray) -> Box:
    y, x = np.nonzero(pixels)
    left, top = int(x.min()), int(y[0])
    return Box(left, top, int(x.max()) + 1 - left, int(y[-1]) + 1 - top)


def _tells(box: Box, screens: np.ndarray, score: np.ndarray) -> float:
    """How much the content of a box tells of the score."""
    from sklearn.metrics import adjusted_mutual_info_score  # noqa: PLC0415 - takes half a second to load

    known = np.flatnonzero(~np.isnan(score))
    if not len(known):
        return 0.0
    contents = screens[known, box.y : box.y + box.h, box.x : box.x + box.w].reshape(len(known), -1)
    shown = np.unique(contents, axis=0, return_inverse=True)[1].ravel()
    return float(adjusted_mutual_info_score(np.unique(score[known], return_inverse=True)[1], shown))
