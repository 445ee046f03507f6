"""What stands out from a game's background: the connected parts of each screen that the scene's plate does not hold."""

from collections import Counter
from itertools import groupby
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from rlwatch.atari.ghosts import bared, ghosts
from rlwatch.atari.screen import Box, commonest

CHANGED = 0.25
"""Part of a screen that may differ from its scene's plate; what differs more is a flash, or a scene that scrolls."""
SCENE = 16
"""Screens that a scene has at least: of fewer, the commonest colour of a pixel is no background."""
STANDING = 0.9
"""Part of a segment's screens in which a pixel of what stands still has one colour."""
TOUCHED = 0.08
"""Part of its rim that, on average, may stand out beside what stands still: more, and it is the core of something."""
OFTEN = 0.05
"""Part of the screens, at least, in which a look must be seen alone to be cut from what it touches."""
LINE = 0.6
"""Part of a line that may differ from the plate: what differs more is a line of water or sky, and no thing's."""
SMALLEST = 2
"""Pixels of a part at least: what is smaller is a stray."""

UNSTEADY = -1
CORNER = Box(0, 0, 0, 0)


class Part(NamedTuple):
    """One connected set of pixels of one screen: `pixels`, within its box, and their mean colour, 0 to 255.

    `stands`: it stands still over its whole segment.
    """

    screen: int
    box: Box
    pixels: Bool[np.ndarray, "h w"]
    colour: Float[np.ndarray, "3"]
    stands: bool


class Scenes(NamedTuple):
    """`plates`: each scene's background. `of`: the scene of each screen, `UNSTEADY` where it is like none."""

    plates: UInt8[np.ndarray, "scene y x"]
    of: Int[np.ndarray, " screen"]


def scenes(screens: UInt8[np.ndarray, "screen y x"], background: UInt8[np.ndarray, "y x"]) -> Scenes:
    """The scenes of some screens (rooms, levels, day and night); the first is that of the whole recording's background.

    A screen that is unlike all scenes before begins a new one, whose plate is the commonest colour of each pixel.
    """
    leaders, led = [background], [0] * len(screens)
    for index, screen in enumerate(screens):
        apart = [_changed(screen, leader) for leader in leaders]
        led[index] = int(np.argmin(apart))
        if apart[led[index]] > CHANGED:
            led[index] = len(leaders)
            leaders.append(screen)
    sizes = np.bincount(led, minlength=len(leaders))
    others = [commonest(screens[np.equal(led, one)]) for one in range(1, len(leaders)) if sizes[one] >= SCENE]
    plates = np.stack([background, *others])
    changed = np.array([[_changed(screen, plate) for plate in plates] for screen in screens])
    return Scenes(plates, np.where(changed.min(axis=1) <= CHANGED, changed.argmin(axis=1), UNSTEADY))


def parts(
    screens: UInt8[np.ndarray, "screen y x"],
    found: Scenes,
    segment: Int[np.ndarray, " screen"],
    palette: UInt8[np.ndarray, "256 4"],
) -> list[Part]:
    """The parts of all steady screens, in the order of the screens and, within one, of their boxes.

    What differs from the plate but stands still over a segment (a hole that bricks left, a figure that waits) is told
    apart from what moves past it: it is a part of its own wherever half of it is there, and background for the rest.
    Where the plate holds a thing that is not there, the ground that stands out is no part, and is put into the plate.
    """
    everything, missing = _told_apart(_differing(screens, found, segment, palette), screens, found.plates[found.of])
    plates = [
        bared(plate, screens[own], missing[own], segment[own])
        for plate, own in ((plate, found.of == scene) for scene, plate in enumerate(found.plates))
    ]
    if np.array_equal(plates, found.plates):
        return everything
    found = found._replace(plates=np.stack(plates))
    return _told_apart(_differing(screens, found, segment, palette), screens, found.plates[found.of])[0]


def _told_apart(
    everything: list[Part], screens: np.ndarray, plates: np.ndarray
) -> tuple[list[Part], Bool[np.ndarray, "screen y x"]]:
    """The parts that are things, and the pixels of those that are ghosts. `plates`: of each screen."""
    things: list[Part] = []
    missing = np.zeros(screens.shape, bool)
    for index, own in groupby(everything, key=lambda part: part.screen):
        numbered = dict(enumerate(own, 1))
        labels = np.zeros(screens[index].shape, int)
        for number, (_, (x, y, w, h), pixels, *_) in numbered.items():
            labels[y : y + h, x : x + w][pixels] = number
        ghost = ghosts(labels, screens[index], plates[index])
        missing[index] = ghost[labels]
        things += [part for number, part in numbered.items() if not ghost[number]]
    return things, missing


def _differing(screens: np.ndarray, found: Scenes, segment: np.ndarray, palette: np.ndarray) -> list[Part]:
    """All parts of all steady screens, ghosts too."""
    everything: list[Part] = []
    for one, scene in sorted(set(zip(segment.tolist(), found.of.tolist(), strict=True))):
        if scene == UNSTEADY:
            continue
        own = np.flatnonzero((segment == one) & (found.of == scene))
        standing = _standing(screens[own], found.plates[scene])
        for index in own:
            stands, rest = _labelled(screens[index], found.plates[scene], standing)
            everything += _cut(int(index), screens[index], stands, palette, stands=True)
            everything += _cut(int(index), screens[index], rest, palette)
    everything.sort(key=lambda part: (part.screen, part.box))  # whatever order OpenCV numbers them in
    return _untouched(everything, screens, palette)


def _untouched(everything: list[Part], screens: np.ndarray, palette: np.ndarray) -> list[Part]:
    """The parts; what touches one, and often stands alone in just this shape and colour, is a part of its own."""
    insides = [screens[number, y : y + h, x : x + w] for number, (x, y, w, h), *_ in everything]
    colours = [np.unique(inside[one.pixels]).tolist() for one, inside in zip(everything, insides, strict=True)]
    alone = Counter(
        (*one.pixels.shape, int(np.count_nonzero(one.pixels)), own[0])
        for one, own in zip(everything, colours, strict=True)
        if len(own) == 1
    )
    often = {look for look, count in alone.items() if count >= OFTEN * len(screens)}
    taken: list[Part] = []
    for one, inside, own in zip(everything, insides, colours, strict=True):
        touching = [c for c in own if _look(one.pixels & (inside == c), c) in often] if len(own) > 1 else []
        labels = np.where(np.isin(inside, touching), 2 + inside.astype(int), 1) * one.pixels if touching else inside
        taken += _cut(one.screen, inside, labels, palette, at=one.box, stands=one.stands) if touching else [one]
    return taken


def _look(pixels: np.ndarray, colour: int) -> tuple[int, int, int, int]:
    """The height, width and size of a set of pixels, and its colour."""
    y, x = np.nonzero(pixels)
    return int(y[-1] - y[0]) + 1, int(np.ptp(x)) + 1, len(y), colour


def _changed(screen: np.ndarray, plate: np.ndarray) -> float:
    return float(np.count_nonzero(screen != plate)) / plate.size


class _Standing(NamedTuple):
    """What stands still over a segment: its colours, its connected sets by number from 1 (0 is none), their sizes."""

    colour: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray


def _standing(screens: np.ndarray, plate: np.ndarray) -> _Standing:
    """What has one colour nearly all the time and stands free: the core of a thing that moves slowly does not."""
    middle = np.sort(screens, axis=0)[len(screens) // 2]  # a colour that a pixel has in most screens is its median
    stable = (screens == middle).mean(axis=0) >= STANDING
    labels = _connected(stable & (middle != plate))
    rim = np.where(labels == 0, cv2.dilate(labels.astype(np.float32), np.ones((3, 3))).astype(int), 0)
    y, x = np.nonzero(rim)
    around = rim[y, x]
    touched = np.bincount(around, (screens[:, y, x] != plate[y, x]).mean(axis=0), minlength=labels.max() + 1)
    free = touched <= TOUCHED * np.bincount(around, minlength=labels.max() + 1)
    labels = np.where(free[labels], labels, 0)
    return _Standing(middle, labels, np.bincount(labels.ravel(), minlength=len(free)))


def _connected(pixels: np.ndarray) -> np.ndarray:
    """The connected sets of pixels, diagonals counting, numbered from 1."""
    labels: np.ndarray = cv2.connectedComponents(pixels.view(np.uint8), connectivity=8)[1]
    return labels


def _labelled(screen: np.ndarray, plate: np.ndarray, standing: _Standing) -> tuple[np.ndarray, np.ndarray]:
    """Two pictures of numbered sets of pixels: what stands still, and the rest."""
    holds = screen == standing.colour
    there = np.bincount(standing.labels[holds], minlength=len(standing.sizes)) > standing.sizes / 2
    there[0] = False
    standing_there = there[standing.labels]
    rest = screen != np.where(standing_there, standing.colour, plate)
    rest[rest.mean(axis=1) > LINE] = False
    return np.where(standing_there & holds, standing.labels, 0), _connected(rest)


def _cut(
    index: int,
    picture: np.ndarray,
    labels: np.ndarray,
    palette: np.ndarray,
    *,
    at: Box = CORNER,
    stands: bool = False,
) -> list[Part]:
    """The parts of the numbered sets of pixels of a piece of a screen, whose corner is `at`."""
    y, x = np.nonzero(labels)
    numbers = labels[y, x]
    order = np.argsort(numbers, kind="stable")
    cut = []
    for own in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        if len(own) >= SMALLEST:
            down, across = y[own], x[own]
            left, top = int(across.min()), int(down[0])
            pixels = np.zeros((int(down[-1]) + 1 - top, int(across.max()) + 1 - left), bool)
            pixels[down - top, across - left] = True
            box = Box(at.x + left, at.y + top, pixels.shape[1], pixels.shape[0])
            cut.append(Part(index, box, pixels, palette[picture[down, across], :3].mean(axis=0), stands))
    return cut
