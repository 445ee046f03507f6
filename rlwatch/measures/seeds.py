"""What several seeds of one training say together: means and intervals over runs, on one axis of steps."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class Band:
    """A curve over runs: its interquartile mean per step with a 95 % interval, and how many runs have a value there.

    NaN where no run has a value; `low` and `high` are NaN where fewer than two have.
    """

    middle: Float[np.ndarray, " step"]
    low: Float[np.ndarray, " step"]
    high: Float[np.ndarray, " step"]
    runs: Int[np.ndarray, " step"]


@dataclass(frozen=True)
class Median:
    """The median over runs and its 95 % interval, infinite where half of the runs (or of a resample) never got there.

    NaN where it cannot be known, since runs ended early; `low` and `high` are NaN with fewer than two runs, too.
    `reached`: how many runs got there at all; `ended`: how many ended early without.
    """

    middle: float
    low: float
    high: float
    reached: int
    ended: int = 0


def interquartile_mean(scores: Float[np.ndarray, "*resample run task"]) -> Float[np.ndarray, "*resample"]:
    """The mean of the middle half of all scores, runs and tasks taken together; of three or fewer, of all.

    Source: Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice, section 4.3.
    """
    from scipy.stats import trim_mean  # noqa: PLC0415 - takes long to load, and the other commands need it not

    return np.asarray(trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1))


def stratified_interval(
    scores: Float[np.ndarray, "run task"],
    generator: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of the interquartile mean when the runs of each task are drawn again by themselves.

    NaN with fewer than two runs. Two thousand resamples are what rliable takes for curves.
    Source: Agarwal et al. 2021, section 4.1.
    """
    runs, tasks = scores.shape
    if runs < 2:  # noqa: PLR2004 - one run has no spread
        return math.nan, math.nan
    drawn = generator.integers(runs, size=(resamples, runs, tasks))
    low, high = np.quantile(interquartile_mean(scores[drawn, np.arange(tasks)]), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def band(curves: Float[np.ndarray, "run step"], generator: np.random.Generator) -> Band:
    """The interquartile mean of runs on one axis, step by step; a run that has NaN at a step is left out there."""
    measured = [column[np.isfinite(column)] for column in curves.T]
    middle = [float(interquartile_mean(column[:, None])) if len(column) else math.nan for column in measured]
    ends = np.array([stratified_interval(column[:, None], generator) for column in measured]).reshape(-1, 2)
    return Band(np.array(middle), ends[:, 0], ends[:, 1], np.array([len(column) for column in measured], int))


def median(
    reached: Float[np.ndarray, " run"],
    generator: np.random.Generator,
    *,
    ended: Float[np.ndarray, " run"] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
) -> Median:
    """The median of when each run got somewhere; infinity stands for a run that has not.

    `ended`: when a run was cut off, infinity where it was not; one that had not got there is unknown from then on, and
    counts as the others do that went on. Without such the lower one of two middle runs, and a percentile interval by
    drawing runs again. A mean over the runs that got there would make a variant look the earlier the fewer of its seeds
    ever do.
    Source: Kaplan and Meier 1958, doi:10.1080/01621459.1958.10501452.
    """
    count, ended = len(reached), np.full(len(reached), math.inf) if ended is None else ended
    got = np.isfinite(reached)
    cut = np.isfinite(ended) & ~got
    times = np.where(got, reached, ended)
    middle = float(_half(times[None], got[None])[0])
    earliest = float(_half(times[None], (got | cut)[None])[0])  # had those that were cut off got there right then
    middle = math.nan if math.isinf(middle) and math.isfinite(earliest) else middle
    told = int(got.sum()), int(cut.sum())
    if count < 2:  # noqa: PLR2004 - one run has no spread
        return Median(middle, math.nan, math.nan, *told)
    drawn = generator.integers(count, size=(resamples, count))
    halves = _half(times[drawn], got[drawn])
    low, high = np.quantile(halves, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    low, high = (math.nan if math.isinf(end) and cut.any() else float(end) for end in (low, high))
    return Median(middle, low, high, *told)


def _half(times: Float[np.ndarray, "sample run"], got: Bool[np.ndarray, "sample run"]) -> Float[np.ndarray, " sample"]:
    """When half of the runs have got there, by the product-limit estimate; infinity where they have not."""
    order = np.lexsort((~got, times), axis=1)
    times, got = np.take_along_axis(times, order, 1), np.take_along_axis(got, order, 1)
    left = np.cumprod(1 - got / np.arange(times.shape[1], 0, -1), axis=1)
    reached = left <= 0.5 + 1e-9  # half, but for rounding
    half: np.ndarray = np.where(reached.any(axis=1), times[np.arange(len(times)), reached.argmax(axis=1)], math.inf)
    return half


def interpolated(
    axis: Int[np.ndarray, " step"], steps: Int[np.ndarray, " point"], values: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " step"]:
    """A run's values on the axis, on straight lines between its own steps (which must rise); NaN outside of them."""
    curve: np.ndarray = np.interp(axis, steps, values, left=math.nan, right=math.nan)
    return curve


def since_last(
    axis: Int[np.ndarray, " step"], steps: Int[np.ndarray, " point"], values: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " step"]:
    """At each step of the axis the mean of the values that came since the one before, or else the newest earlier one.

    NaN before the first value and after the last. Values of episodes are noisy and come when they come: no step gets
    a value from its future. `steps` must not fall; several values may share one.
    """
    ends = np.searchsorted(steps, axis, side="right")
    before = np.append(0, ends[:-1])
    starts = np.minimum(before, np.maximum(ends - 1, 0))
    known = [float(values[start:end].mean()) if end else math.nan for start, end in zip(starts, ends, strict=True)]
    return np.where((ends == len(steps)) & (before == ends), math.nan, known)
