"""Sums over relevance maps, a few frames at a time, so that what is read again still lies in the cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

AT_ONCE = 1 << 20
"""Bytes of maps that are read at a time."""


@dataclass(frozen=True)
class Pixels:
    """Where one object is in a probe: the flat index of its pixels, frame after frame, and how many each frame has."""

    index: Int[np.ndarray, " pixel"]
    area: Int[np.ndarray, " probe"]


@dataclass(frozen=True)
class Sums:
    """Sums over one target's maps; what speaks against the target is counted as a positive number.

    `positive`: per frame and stacked picture. `negative`: per frame. `picture`: positive relevance over all frames and
    stacks; `beside`: what of it lies on no object. `on`, `against`: on each object, per frame.
    """

    positive: Float[np.ndarray, "probe stack"]
    negative: Float[np.ndarray, " probe"]
    picture: Float[np.ndarray, "y x"]
    beside: Float[np.ndarray, "y x"]
    on: Mapping[str, Float[np.ndarray, " probe"]]
    against: Mapping[str, Float[np.ndarray, " probe"]]

    @property
    def size(self) -> int:
        """Pixels of a stack."""
        return int(self.positive.shape[1] * self.picture.size)


def pixels(masks: Mapping[str, Bool[np.ndarray, "probe stack y x"]]) -> dict[str, Pixels]:
    """Each object's pixels as flat indices, so that thousands of sums over them stay cheap."""
    return {name: Pixels(np.flatnonzero(mask), mask.sum(axis=(1, 2, 3))) for name, mask in masks.items()}


def pixels_on(where: Pixels, frames: Int[np.ndarray, " part"], size: int) -> Pixels:
    """An object's pixels on some of a probe's frames, of `size` pixels each, as of a probe of these alone."""
    ends = where.area.cumsum()
    moved = (np.arange(len(frames)) - frames) * size
    parts = [where.index[ends[one] - where.area[one] : ends[one]] for one in frames]
    index = [part + by for part, by in zip(parts, moved, strict=True)]
    return Pixels(np.concatenate(index) if index else where.index[:0], where.area[frames])


def sums(relevance: Float[np.ndarray, "part stack y x"], objects: Mapping[str, Pixels], *, begin: int = 0) -> Sums:
    """What is summed of one target's relevance on the part of a probe that starts at frame `begin`.

    NaN or infinity in it is found in `positive` or `negative`.
    """
    relevance = np.ascontiguousarray(relevance)
    found = Sums(
        positive=np.zeros(relevance.shape[:2]),
        negative=np.zeros(len(relevance)),
        picture=np.zeros(relevance.shape[2:]),
        beside=np.zeros(relevance.shape[2:]),
        on={name: np.zeros(len(relevance)) for name in objects},
        against={name: np.zeros(len(relevance)) for name in objects},
    )
    ends = {name: np.append(0, where.area.cumsum()) for name, where in objects.items()}
    at_once = max(1, AT_ONCE // relevance[:1].nbytes) if len(relevance) else 1
    room = np.empty_like(relevance[:at_once])
    for row in range(0, len(relevance), at_once):
        part, first = relevance[row : row + at_once], begin + row
        last, before = first + len(part), first * part[0].size
        here = {
            name: Pixels(where.index[ends[name][first] : ends[name][last]] - before, where.area[first:last])
            for name, where in objects.items()
        }
        _add(found, slice(row, row + len(part)), part, here, room[: len(part)])
    return found


def joined(parts: Sequence[Sums]) -> Sums:
    """The sums of a probe of those of its parts, in their order."""
    first = parts[0]
    return Sums(
        positive=np.concatenate([part.positive for part in parts]),
        negative=np.concatenate([part.negative for part in parts]),
        picture=np.sum([part.picture for part in parts], axis=0),
        beside=np.sum([part.beside for part in parts], axis=0),
        on={name: np.concatenate([part.on[name] for part in parts]) for name in first.on},
        against={name: np.concatenate([part.against[name] for part in parts]) for name in first.against},
    )


def _add(
    found: Sums,
    rows: slice,
    part: Float[np.ndarray, "frame stack y x"],
    objects: Mapping[str, Pixels],
    one_sided: Float[np.ndarray, "frame stack y x"],
) -> None:
    """Put the sums of some frames where they belong; `one_sided`: memory for one sign of the maps."""
    found.negative[rows] = -np.minimum(part, 0, out=one_sided).sum(axis=(1, 2, 3))
    np.maximum(part, 0, out=one_sided)
    found.positive[rows] = one_sided.sum(axis=(2, 3))
    found.picture[...] += one_sided.sum(axis=(0, 1))
    for name, where in objects.items():
        on, against = _per_frame(part.reshape(-1)[where.index], where.area)
        found.on[name][rows], found.against[name][rows] = on, against
        one_sided.reshape(-1)[where.index] = 0
    found.beside[...] += one_sided.sum(axis=(0, 1))


def _per_frame(
    values: Float[np.ndarray, " pixel"], area: Int[np.ndarray, " part"]
) -> tuple[Float[np.ndarray, " part"], Float[np.ndarray, " part"]]:
    """The positive and the negative part of an object's pixels, summed over each frame's, both as positive numbers."""
    seen, positive, both = area > 0, np.maximum(values, 0), np.zeros((2, len(area)))
    starts = (area.cumsum() - area)[seen]
    if len(starts):
        both[:, seen] = np.add.reduceat(positive, starts), np.add.reduceat(positive - values, starts)
    return both[0], both[1]
