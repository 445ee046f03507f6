"""Pixel flipping: does the score fall sooner when the pixels that a map calls relevant go first?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlwatch.measures.relevance import bootstrap_interval

Ask = Callable[[UInt8[np.ndarray, "copy stack y x"]], Float[np.ndarray, "copy action"]]
"""The Q-values of frames."""

Weights = Float[np.ndarray, "probe action"]
Order = Int[np.ndarray, "probe y x"]
"""The place of each pixel: 0 is flipped first."""

DIRECTIONS = ("deletion", "insertion")


@dataclass(frozen=True)
class Gain:
    """By how much a map's order of pixels beats random orders, over the frames.

    1: the score moves at once and as far as it moves at all, where under random orders it moves last; 0: no better than
    chance; negative: worse. `low`, `high`: 95 % bootstrap interval over episodes (over frames where all are of one);
    where it lies above 0 the map has power. An even map has no order of pixels: its gain is 0 in that frame. `parts`:
    the gain of each direction and start, such as `deletion_black`.
    """

    mean: float
    low: float
    high: float
    parts: Mapping[str, float]


def gains(
    ask: Ask,
    frames: UInt8[np.ndarray, "probe stack y x"],
    maps: Mapping[str, tuple[Float[np.ndarray, "probe y x"], Weights]],
    starts: Mapping[str, UInt8[np.ndarray, "y x"]],
    episodes: Int[np.ndarray, " probe"],
    generator: np.random.Generator,
    *,
    step: int = 84,
    points: int = 12,
    orders: int = 2,
) -> dict[str, Gain]:
    """The gain of each of `maps` over random maps, by deletion and insertion from each of `starts`.

    A map comes with the weights of its score: score = Σ weights · Q, so that the action stays what it was. Deletion
    replaces pixels, the most relevant first, by the start picture; insertion brings them back into it. A pixel is
    flipped in all stacked frames. The area is taken between the curve and the mean of `orders` random ones, and divided
    by how far the frame's score moves at all. They look at every `step` of 84 pixels (a row of the picture); we at
    `points` multiples of it, dense at first and sparse later, because the curves bend at first and queries cost time.

    The network is asked about frames × points × starts × 2 × (maps + orders) pictures; both ends of a curve are the
    same for all orders, so they are asked about once.

    Source: Samek et al. 2017, doi 10.1109/TNNLS.2016.2599820 (flipping, area against random orders); Petsiuk et al.
    2018, arXiv 1806.07421 (insertion); Huber et al. 2022, arXiv 2101.07312 (84 pixels, black start).
    """
    pixels = frames[0, 0].size
    sizes = _sizes(pixels, min(step, pixels // 2), points)
    ranks = {name: _places(-relevance) for name, (relevance, _) in maps.items()}
    chance = [_places(generator.random((len(frames), *frames.shape[2:]))) for _ in range(orders)]
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in maps}
    whole = ask(frames)
    empty = {name: ask(np.tile(picture, (1, frames.shape[1], 1, 1))) for name, picture in starts.items()}
    for direction, (start, picture) in product(DIRECTIONS, starts.items()):
        ends = np.stack([whole, np.broadcast_to(empty[start], whole.shape)], axis=1)
        curves = (_curves(ask, frames, order, picture, sizes[1:-1], direction) for order in [*ranks.values(), *chance])
        own = dict(zip(ranks, curves, strict=False))
        random = np.stack(list(curves))
        for name, (relevance, weights) in maps.items():
            gain = _gain(own[name], random, ends, weights, sizes, direction)
            parts[name][f"{direction}_{start}"] = np.where(np.ptp(relevance, axis=(1, 2)) > 0, gain, 0)
    return {name: _summary(found, episodes, generator) for name, found in parts.items()}


def _sizes(pixels: int, step: int, points: int) -> Int[np.ndarray, " point"]:
    """How many pixels are flipped at each point of a curve: from 0 to all, in multiples of `step`, dense at first."""
    steps = -(-pixels // step)
    multiples = (
        np.unique(np.geomspace(1, steps, points).round().astype(int)) if points < steps else np.arange(steps) + 1
    )
    sizes: Int[np.ndarray, " point"] = np.minimum(np.concatenate([[0], multiples]) * step, pixels)
    return sizes


def _places(values: Float[np.ndarray, "probe y x"]) -> Order:
    """The place of each pixel in ascending order of values; equal ones stand in reading order."""
    order = values.reshape(len(values), -1).argsort(axis=1, kind="stable")
    places: Order = order.argsort(axis=1).reshape(values.shape)
    return places


def _curves(
    ask: Ask,
    frames: UInt8[np.ndarray, "probe stack y x"],
    order: Order,
    start: UInt8[np.ndarray, "y x"],
    sizes: Int[np.ndarray, " point"],
    direction: str,
) -> Float[np.ndarray, "probe point action"]:
    """The Q-values with so many pixels flipped; 64 copies are made and asked about at a time."""
    frame, point = np.divmod(np.arange(len(frames) * len(sizes)), len(sizes))
    asked = []
    for begin in range(0, len(frame), 64):
        some = slice(begin, begin + 64)
        flipped = order[frame[some]] < sizes[point[some], None, None]
        asked.append(ask(np.where((flipped == (direction == "deletion"))[:, None], start, frames[frame[some]])))
    return np.concatenate(asked).reshape(len(frames), len(sizes), -1)


def _gain(
    own: Float[np.ndarray, "probe point action"],
    random: Float[np.ndarray, "order probe point action"],
    ends: Float[np.ndarray, "probe 2 action"],
    weights: Weights,
    sizes: Int[np.ndarray, " size"],
    direction: str,
    *,
    still: float = 1e-5,
) -> Float[np.ndarray, " probe"]:
    """The area between the map's curve and random ones over how far they move; 0 where nothing moves.

    `still`: a movement below this part of the largest Q-value is rounding in float32.
    """
    curves = np.concatenate([own[None], random]).astype(np.float64)
    scores = np.einsum("opta,pa->opt", curves, weights)
    ahead = np.pad(scores[1:].mean(axis=0) - scores[0], ((0, 0), (1, 1)))  # at the ends all orders are even
    area = (ahead[:, 1:] + ahead[:, :-1]) / 2 @ np.diff(sizes / sizes[-1])  # the trapezoidal rule
    every = np.concatenate([*scores, np.einsum("pta,pa->pt", ends.astype(np.float64), weights)], axis=1)
    moved = np.ptp(every, axis=1)
    real = moved > still * max(np.abs(own).max(), np.abs(ends).max())
    sign = 1 if direction == "deletion" else -1
    gain: Float[np.ndarray, " probe"] = sign * np.divide(area, moved, out=np.zeros(len(area)), where=real)
    return gain


def _summary(
    parts: Mapping[str, Float[np.ndarray, " probe"]],
    episodes: Int[np.ndarray, " probe"],
    generator: np.random.Generator,
) -> Gain:
    together = np.mean(list(parts.values()), axis=0)
    units = episodes if len(np.unique(episodes)) > 1 else np.arange(len(episodes))
    low, high = bootstrap_interval(together, units, generator)
    return Gain(float(together.mean()), low, high, {name: float(part.mean()) for name, part in parts.items()})
