"""Things of one kind, told by their looks and by whether they are seen together, and the kinds that get a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

from rlwatch.atari.tracking import Thing

NAMES, STATIC = 7, 3
"""How many names there are at most, and for what does not move; the displays come on top."""
ALIKE = 0.35
"""How far apart looks of one kind are on average at most; 1 = twice as high, or a colour channel from none to all."""
RESHAPED, RECOLOURED = 1.5, 0.8
"""The same for one thing's several looks: in size, where the colours are alike, and in colour, where the sizes are."""
TOGETHER = 0.1
"""Part of the screens of the rarer of two kinds that may show both, if they are one thing's several looks."""
MOVED = 3
"""Pixels that a thing's middle must go for it to be one that moves."""
STIRS = 0.08
"""Part of what is seen of a kind that must belong to things that move: a wall that crawls hardly does in a segment."""
RARE, COMMON = 0.05, 0.2
"""Part of the frames in which a kind must be seen to get a name, and to get one before what does not move."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class Kind:
    """Things of one kind."""

    things: tuple[Thing, ...]

    @cached_property
    def screens(self) -> frozenset[int]:
        """The screens that show a thing of the kind."""
        return frozenset(part.screen for thing in self.things for part in thing.parts)

    @property
    def frames(self) -> int:
        """How many frames of two screens show one."""
        return len({screen // 2 for screen in self.screens})

    @property
    def look(self) -> Float[np.ndarray, " look"]:
        """The mean of the things' looks."""
        mean: Float[np.ndarray, " look"] = np.mean([thing.look for thing in self.things], axis=0)
        return mean

    @property
    def area(self) -> int:
        """Pixels, over all screens."""
        return sum(thing.area for thing in self.things)

    @property
    def stirs(self) -> bool:
        """Whether a part of what is seen of it belongs to things that move."""
        moving = sum(len(thing.parts) for thing in self.things if thing.way >= MOVED)
        return moving >= STIRS * sum(len(thing.parts) for thing in self.things)

    def __add__(self, other: "Kind") -> "Kind":
        return Kind(self.things + other.things)


def named(things: Sequence[Thing], frames: int) -> Mapping[str, Kind]:
    """`moving-1`, … by how many of the frames show them, and `static-1`, … by size.

    What never moves is of one kind if it has one colour, whatever its shape: holes in a wall are of many. Where there
    are more kinds than names, those seen least have none: kinds that look different share no name.
    """
    movers = [thing for thing in things if thing.lasts and thing.way >= MOVED]
    kinds = [Kind(tuple(own)) for own in _grouped(movers, [one.look for one in movers])]
    kinds = _alternatives(_adopting([kind for kind in kinds if kind.frames >= RARE * frames], things))
    taken = {thing for kind in kinds for thing in kind.things}
    still = [thing for thing in things if thing.lasts and thing.way < MOVED and thing not in taken]
    patches = _grouped(still, [thing.look[2:] for thing in still])
    static = [*(kind for kind in kinds if not kind.stirs), *(Kind(tuple(own)) for own in patches)]
    static = sorted((kind for kind in static if kind.frames >= RARE * frames), key=lambda kind: -kind.area)[:STATIC]
    moving = sorted((kind for kind in kinds if kind.stirs), key=_rank)
    common = sum(kind.frames >= COMMON * frames for kind in moving)
    chosen = [*moving[:common], *static, *moving[common:]][:NAMES]
    groups = {
        "moving": [kind for kind in moving if kind in chosen],
        "static": [kind for kind in static if kind in chosen],
    }
    return {f"{word}-{place}": kind for word, own in groups.items() for place, kind in enumerate(own, 1)}


def _adopting(kinds: Sequence[Kind], things: Sequence[Thing]) -> list[Kind]:
    """The kinds, each with the other things that look like it or, where it is not to be seen, like another look."""
    for another in (False, True):
        taken = {thing for kind in kinds for thing in kind.things}
        looks = _looks(kinds)
        adopted: list[list[Thing]] = [[] for _ in kinds]
        for thing in (thing for thing in things if thing not in taken):
            apart = looks - thing.look
            fits = np.abs(apart).sum(axis=1) <= ALIKE
            if another and thing.lasts:
                for index in np.flatnonzero(_related(apart)).tolist():
                    fits[index] |= _apart(kinds[index], Kind((thing,)))
            if fits.any():
                adopted[int(np.where(fits, np.abs(apart).sum(axis=1), np.inf).argmin())].append(thing)
        kinds = [kind + Kind(tuple(own)) for kind, own in zip(kinds, adopted, strict=True)]
    return list(kinds)


def _alternatives(kinds: list[Kind]) -> list[Kind]:
    """The kinds, of which those that are hardly ever seen together may be one thing's several looks."""
    looks = _looks(kinds)
    pairs = [
        (float(np.abs(looks[a] - looks[b]).sum()), a, b)
        for a, b in combinations(range(len(kinds)), 2)
        if _apart(kinds[a], kinds[b]) and _related(looks[a] - looks[b])
    ]
    if not pairs:
        return kinds
    _, a, b = min(pairs)
    return _alternatives([kind for index, kind in enumerate(kinds) if index not in {a, b}] + [kinds[a] + kinds[b]])


def _apart(kind: Kind, other: Kind) -> bool:
    """Whether hardly a screen shows both."""
    return len(kind.screens & other.screens) <= TOGETHER * min(len(kind.screens), len(other.screens))


def _related(apart: Float[np.ndarray, "*kind look"]) -> Bool[np.ndarray, "*kind"]:
    """Whether looks that are so far apart may be one thing's: cut off or grown, or of another colour, but not both."""
    size, colour = np.abs(apart[..., :2]).sum(axis=-1), np.abs(apart[..., 2:]).sum(axis=-1)
    return np.asarray(((size <= RESHAPED) & (colour <= ALIKE)) | ((size <= ALIKE) & (colour <= RECOLOURED)))


def _rank(kind: Kind) -> tuple[float, ...]:
    return float(-kind.frames), float(-kind.area), *kind.look.tolist()


def _looks(kinds: Sequence[Kind]) -> Float[np.ndarray, "kind look"]:
    return np.array([kind.look for kind in kinds]).reshape(len(kinds), 5)


def _grouped(values: Sequence[_Value], looks: Sequence[Float[np.ndarray, " look"]]) -> list[list[_Value]]:
    """The values in groups of near looks, by average linkage."""
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 - only games without a map need it

    if len(values) < 2:  # noqa: PLR2004 - a pair is needed to link
        return [[value] for value in values]
    group = fcluster(linkage(np.array(looks), method="average", metric="cityblock"), t=ALIKE, criterion="distance")
    return [[value for value, own in zip(values, group, strict=True) if own == one] for one in np.unique(group)]
