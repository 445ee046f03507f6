"""Statistics of relevance maps, on which objects it lies and how it is spread, and of the Q-values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float, Int

from rlwatch.measures.sums import Pixels, Sums, sums


@dataclass(frozen=True)
class ObjectRelevance:
    """What one object gets.

    `lift`: mean relevance of its pixels / mean relevance of all pixels of the stack, on the positive part, averaged
    over the frames in which it is visible; 1 = no preference, 0 = none, NaN = never visible or no positive relevance.
    `low`, `high`: 95 % bootstrap interval of the lift over episodes; NaN with fewer than two episodes.
    `share`: its part of all positive relevance, 0 to 1. `share_negative`: its part of the negative relevance.
    `relevance`: positive relevance on it per frame in which it is visible, in Q units. `frames`: how many those are.

    Source: Lapuschkin et al. 2019, Fig. 2c, doi 10.1038/s41467-019-08987-4 (relative relevance).
    """

    lift: float
    low: float
    high: float
    share: float
    share_negative: float
    relevance: float
    frames: int


@dataclass(frozen=True)
class Spot:
    """A square of a seventh of the picture's side: its centre in pixels, and its part of all positive relevance."""

    y: float
    x: float
    share: float


@dataclass(frozen=True)
class TargetRelevance:
    """The statistics of one target's relevance on one probe at one checkpoint.

    `stack`: share of the positive relevance per stacked frame, oldest first.
    `gini`: 0 = even over all pixels, 1 = one pixel. `entropy`: 1 = even, 0 = one pixel.
    `centre`: (y, x) of the positive relevance in pixels. `conservation`: sum of relevance / sum of scores.
    `absorbed`: mean score that biases and stabilisers took, in Q units, NaN where a method's maps add up to nothing.
    `score`: mean of what is explained, in Q units.
    `unnamed`: its part that lies on no object; `spot`: where most of that lies, NaN without positive relevance.
    `drift_spearman`, `drift_cosine`: likeness to the checkpoint before, 1 = the same map, NaN = there was none.
    """

    objects: Mapping[str, ObjectRelevance]
    stack: tuple[float, ...]
    gini: float
    entropy: float
    centre: tuple[float, float]
    conservation: float
    absorbed: float
    score: float
    unnamed: float = math.nan
    spot: Spot = field(default_factory=lambda: Spot(math.nan, math.nan, math.nan))
    drift_spearman: float = math.nan
    drift_cosine: float = math.nan


@dataclass(frozen=True)
class QStatistics:
    """Q-values over the probe, means over its frames, in Q units.

    `greedy`: of the best action. `gap`: best minus second best. `spread`: standard deviation over the actions.
    `churn`: part of the frames whose greedy action changed since the checkpoint before; NaN when there was none.
    """

    greedy: float
    gap: float
    spread: float
    churn: float


def target_relevance(
    found: Sums,
    some: Float[np.ndarray, "frame stack y x"],
    score: Float[np.ndarray, " probe"],
    objects: Mapping[str, Pixels],
    episodes: Int[np.ndarray, " probe"],
    generator: np.random.Generator,
    *,
    resamples: int = 1000,
) -> TargetRelevance:
    """All statistics of one target's relevance but its drift.

    `found`: the sums over its maps of the whole probe. `some`: those maps of which the concentration is measured, since
    that takes their pixels in order. `objects`: those that `found` is of. `resamples`: of the episodes, for intervals.

    Raises: ValueError when relevance holds NaN or infinity.
    """
    if not (np.isfinite(found.positive).all() and np.isfinite(found.negative).all()):
        raise ValueError("relevance must be finite, got NaN or infinity: look for diverged weights")
    gini, entropy = concentration(some)
    frames, explained = found.positive.sum(axis=0), found.positive.sum(axis=1) - found.negative
    unnamed, spot = beside_objects(found)
    return TargetRelevance(
        objects=_objects(found, objects, episodes, generator, resamples),
        stack=tuple(_ratio(part, frames.sum()) for part in frames),
        gini=gini,
        entropy=entropy,
        centre=centre_of_mass(found.picture),
        conservation=_ratio(explained.sum(), score.sum()),
        absorbed=float((score - explained).mean()),
        score=float(score.mean()),
        unnamed=unnamed,
        spot=spot,
    )


def object_relevance(
    relevance: Float[np.ndarray, "probe stack y x"],
    objects: Mapping[str, Pixels],
    episodes: Int[np.ndarray, " probe"],
    generator: np.random.Generator,
    *,
    resamples: int = 1000,
) -> dict[str, ObjectRelevance]:
    """What each object gets of one target's relevance."""
    return _objects(sums(relevance, objects), objects, episodes, generator, resamples)


def _objects(
    found: Sums,
    objects: Mapping[str, Pixels],
    episodes: Int[np.ndarray, " probe"],
    generator: np.random.Generator,
    resamples: int,
) -> dict[str, ObjectRelevance]:
    totals, measured = found.positive.sum(axis=1), {}
    for name, where in objects.items():
        on, against = found.on[name], found.against[name]
        visible = (where.area > 0) & (totals > 0)
        lifts = (on[visible] / where.area[visible]) / (totals[visible] / found.size)
        low, high = bootstrap_interval(lifts, episodes[visible], generator, resamples=resamples)
        frames = int((where.area > 0).sum())
        measured[name] = ObjectRelevance(
            lift=float(lifts.mean()) if len(lifts) else math.nan,
            low=low,
            high=high,
            share=_ratio(on.sum(), totals.sum()),
            share_negative=_ratio(against.sum(), found.negative.sum()),
            relevance=_ratio(on.sum(), frames),
            frames=frames,
        )
    return measured


def beside_objects(found: Sums) -> tuple[float, Spot]:
    """The part of positive relevance that lies on no object, and the square of the picture that gets most of it.

    Sums over the probe and its stacks: what is looked at without a name shows where it stands still.
    """
    total, picture = found.positive.sum(), found.beside
    side = max(1, round(min(picture.shape) / 7))
    summed = np.pad(picture, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    squares = summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side] + summed[:-side, :-side]
    y, x = np.unravel_index(squares.argmax(), squares.shape)
    if not total:
        return math.nan, Spot(math.nan, math.nan, math.nan)
    middle = (side - 1) / 2
    return _ratio(picture.sum(), total), Spot(float(y + middle), float(x + middle), _ratio(squares[y, x], total))


def _ratio(part: SupportsFloat, whole: SupportsFloat) -> float:
    return float(part) / float(whole) if float(whole) else math.nan


def bootstrap_interval(
    values: Float[np.ndarray, " frame"],
    episodes: Int[np.ndarray, " frame"],
    generator: np.random.Generator,
    *,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of the mean when whole episodes are drawn again; NaN with fewer than two episodes.

    Frames of one episode resemble each other, so episodes are the units that are drawn.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 8 and 13.
    """
    names, unit = np.unique(episodes, return_inverse=True)
    if len(names) < 2:  # noqa: PLR2004 - one unit has no spread
        return math.nan, math.nan
    totals, counts = np.bincount(unit, weights=values), np.bincount(unit)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    means = (drawn @ totals) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def concentration(relevance: Float[np.ndarray, "frame stack y x"]) -> tuple[float, float]:
    """Gini coefficient and normalised entropy of the positive part over a stack's pixels, averaged over frames.

    Gini: 0 = even, near 1 = one pixel has all. Entropy: 1 = even, 0 = one pixel. NaN where no frame has any relevance.
    Source: Gini 1912; Shannon 1948, divided by log(pixels).
    """
    rows = relevance.reshape(-1, relevance[:1].size)
    found = [_concentration(np.sort(row[row > 0]), row.size) for row in rows if (row > 0).any()]
    gini, entropy = np.mean(found, axis=0) if found else (math.nan, math.nan)
    return float(gini), float(entropy)


def _concentration(ordered: Float[np.ndarray, " value"], size: int) -> tuple[float, float]:
    """Gini coefficient and normalised entropy of `size` pixels, of which the ordered values are those above 0."""
    part = np.maximum(ordered / ordered.sum(), np.finfo(ordered.dtype).tiny)  # a share may be too small for a number
    rank = 2 * np.arange(size - len(part), size) + 1 - size
    return float(part @ rank.astype(part.dtype)) / size, -float(part @ np.log(part)) / math.log(size)


def centre_of_mass(picture: Float[np.ndarray, "y x"]) -> tuple[float, float]:
    """(y, x) of the relevance in pixels from the upper left; NaN where there is none."""
    total = picture.sum()
    rows, columns = picture.sum(axis=1), picture.sum(axis=0)
    return (
        _ratio(rows @ np.arange(len(rows)), total),
        _ratio(columns @ np.arange(len(columns)), total),
    )


def q_statistics(
    q_values: Float[np.ndarray, "probe action"], before: Float[np.ndarray, "probe action"] | None = None
) -> QStatistics:
    """The Q statistics of a checkpoint; `before` are the Q-values of the checkpoint before on the same probe."""
    ordered = np.sort(q_values, axis=1)
    changed = math.nan if before is None else float((q_values.argmax(1) != before.argmax(1)).mean())
    gap = float((ordered[:, -1] - ordered[:, -2]).mean()) if q_values.shape[1] > 1 else math.nan
    return QStatistics(float(ordered[:, -1].mean()), gap, float(q_values.std(axis=1).mean()), changed)
