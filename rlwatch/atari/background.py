"""The objects of any game, found without a map of it: what differs from the background, followed and grouped by looks.

The background is the commonest colour of each pixel. tests/test_background.py holds how many of the objects of Breakout
and Pong, which are known exactly, are found in this way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from rlwatch.atari.displays import displays, written
from rlwatch.atari.foreground import UNSTEADY, Part, parts, scenes
from rlwatch.atari.kinds import Kind, named
from rlwatch.atari.screen import SKIP, Box, within
from rlwatch.atari.scrolling import scrolling
from rlwatch.atari.tracking import Thing, follow

LARGE, WIDE = 1 / 6, 0.6
"""Part of the screen, and of its width or height, that a thing may span; what is larger is scenery."""
STEADY = 0.5
"""Part of the screens in which the background must hold still for any object to be believed."""
RESIZED = 0.5
"""Doublings of its pixels from one screen to the next from which on a thing is not taken to be whole."""
UNRELIABLE = "the background moves: no objects found reliably"


@dataclass(frozen=True)
class Sureness:
    """How sure it is that what bears one name is one kind of thing.

    `tracked`: in which part of the screens, between its first and its last, a thing was found; parts that belong to
    none count against it; 1 = in all. `whole`: in which part of them its size stayed nearly the same, as it does not
    when things touch or fall apart; 1 = always.
    """

    tracked: float
    whole: float


@dataclass(frozen=True, eq=False)
class Found:
    """The objects of some frames of two raw screens each.

    `parts`: each object's parts, by screen (2 × frame, and one more for the second). `displays`: each display's boxes
    on each screen. `steady`: part of the screens that are like a background. `named`: part of the pixels that stand out
    from it which belong to an object. `scrolling`: part of the frames in which nearly all that moves goes the same way.
    `reason`: why there are no objects, or "".
    """

    parts: Mapping[str, Sequence[Part]]
    displays: Mapping[str, Sequence[tuple[Box, ...]]]
    sureness: Mapping[str, Sureness]
    steady: float
    named: float
    scrolling: float = 0.0
    reason: str = ""


def find(
    screens: UInt8[np.ndarray, "frame 2 y x"],
    background: UInt8[np.ndarray, "y x"],
    palette: UInt8[np.ndarray, "256 4"],
    segment: Int[np.ndarray, " frame"],
    score: Float[np.ndarray, " frame"],
) -> Found:
    """The objects of frames that stand in runs of consecutive agent steps, one run a `segment`; no chance is involved.

    `moving-1`, `moving-2`, … by how many frames show them, `static-1` what changes and stands still, `score` and `hud`
    the displays. `score`: that of each frame, NaN where it is not known.
    """
    flat, segments = screens.reshape(-1, *screens.shape[2:]), segment.repeat(2)
    scenery = scenes(flat, background)
    everything = parts(flat, scenery, segments, palette)
    large, wide = _oversized(everything, flat[0].shape)
    steady, calm = float((scenery.of != UNSTEADY).mean()), 1 - _screens(everything, large) / len(flat)
    if min(steady, calm) < STEADY:
        return Found({}, {}, {}, min(steady, calm), 0.0, reason=UNRELIABLE)

    moments = SKIP * np.arange(len(screens))[:, None] + np.arange(2)
    things = follow(list(compress(everything, ~(large | wide))), segments, moments.ravel())
    moving, still = [thing for thing in things if thing.travels], [thing for thing in things if not thing.travels]
    shown = displays(_parts(still), _parts(moving), flat[1::2], background, score)
    boxes = [box for own in shown.values() for box in own]
    playing = [thing for thing in things if not within(thing.box, boxes)]
    kinds = named(playing, len(screens))
    return Found(
        parts={name: sorted(_parts(kind.things), key=lambda part: part.screen) for name, kind in kinds.items()},
        displays={name: _written(own, flat) for name, own in shown.items()},
        sureness={name: _sureness(kind) for name, kind in kinds.items()},
        steady=steady,
        named=sum(kind.area for kind in kinds.values()) / max(sum(thing.area for thing in playing), 1),
        scrolling=scrolling(playing, len(screens)),
    )


def _written(boxes: Sequence[Box], flat: UInt8[np.ndarray, "screen y x"]) -> list[tuple[Box, ...]]:
    """On each screen, the boxes of a display in which there is something."""
    shown = zip(*(written(box, flat).tolist() for box in boxes), strict=True)
    return [tuple(compress(boxes, there)) for there in shown]


def _oversized(
    everything: Sequence[Part], shape: tuple[int, ...]
) -> tuple[Bool[np.ndarray, " part"], Bool[np.ndarray, " part"]]:
    """Which parts are too large for an object, and which are too wide or high, as waves and borders are.

    What stands still is measured by its pixels, and may be as wide as it likes: holes in a wall are.
    """
    stands = np.array([part.stands for part in everything], bool)
    sides = np.array([part.pixels.shape for part in everything]).reshape(len(everything), 2)
    filled = np.array([np.count_nonzero(part.pixels) for part in everything])
    large = np.where(stands, filled, sides.prod(axis=1)) > LARGE * shape[0] * shape[1]
    return large, ~stands & (sides > WIDE * np.array(shape)).any(axis=1)


def _parts(things: Iterable[Thing]) -> list[Part]:
    return [part for thing in things for part in thing.parts]


def _screens(everything: Sequence[Part], chosen: Bool[np.ndarray, " part"]) -> int:
    """On how many screens the chosen parts stand."""
    return len({part.screen for part in compress(everything, chosen)})


def _sureness(kind: Kind) -> Sureness:
    lasting = [thing for thing in kind.things if thing.lasts]
    found = sum(len(thing.parts) for thing in lasting)
    spans = sum(thing.parts[-1].screen - thing.parts[0].screen + 1 for thing in lasting)
    strays = sum(len(thing.parts) for thing in kind.things if not thing.lasts)
    sizes = [np.log2([part.pixels.sum() for part in thing.parts]) for thing in lasting]
    jumps = sum(int((np.abs(np.diff(size)) > RESIZED).sum()) for size in sizes)
    return Sureness(found / max(spans + strays, 1), 1 - jumps / max(found, 1))
