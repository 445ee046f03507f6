"""What is kept of the maps of a probe, which come batch after batch: all of them would take 29 MB a target."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from rlwatch.atari.probe import Probe
from rlwatch.attribution.explain import Explanation
from rlwatch.measures.drift import Trace, traced
from rlwatch.measures.relevance import TargetRelevance, target_relevance
from rlwatch.measures.sums import Pixels, Sums, joined, sums
from rlwatch.monitor.asking import numbers

FRAMES = 48
"""Frames of a probe that pictures show."""
EVERY = 8
"""Of so many frames one has its pixels put in order: those of all would take longer than to explain them."""
ROUNDING = 1e-6
"""Of a frame's largest Q-value: what float32 leaves of a difference of equal ones."""


class Gathering:
    """One target's maps, of which sums, each `EVERY`-th and those of the frames `shown` are kept.

    `objects`: where they are in the whole probe. `shown`: in ascending order.
    """

    def __init__(self, objects: Mapping[str, Pixels], shown: Int[np.ndarray, " shown"]) -> None:
        self._objects, self._shown, self._seen = objects, shown, 0
        self._sums: list[Sums] = []
        self._some: list[Float[np.ndarray, "frame stack y x"]] = []
        self._kept: list[Float[np.ndarray, "frame stack y x"]] = []
        self._scores: list[Float[np.ndarray, " frame"]] = []
        self._adds_up = True

    def add(self, explained: Explanation) -> None:
        """The next batch."""
        relevance, begin = above_rounding(explained), self._seen
        self._seen += len(relevance)
        self._sums.append(sums(relevance, self._objects, begin=begin))
        self._some.append(relevance[-begin % EVERY :: EVERY].copy())
        here = self._shown[(self._shown >= begin) & (self._shown < self._seen)]
        self._kept.append(relevance[here - begin])
        self._scores.append(numbers(explained.score))
        self._adds_up &= not explained.absorbed.isnan().any()

    def measured(self, episodes: Int[np.ndarray, " probe"], generator: np.random.Generator) -> TargetRelevance:
        """The statistics of all that was added; nothing is absorbed of scores that the method's maps do not add up to.

        Raises: as `target_relevance` does.
        """
        some, score = np.concatenate(self._some), np.concatenate(self._scores)
        found = target_relevance(joined(self._sums), some, score, self._objects, episodes, generator)
        return found if self._adds_up else replace(found, absorbed=math.nan)

    @property
    def trace(self) -> Trace:
        """What the next checkpoint's maps are compared with."""
        return traced(np.concatenate(self._some))

    @property
    def relevance(self) -> Float[np.ndarray, "shown stack y x"]:
        """The maps of the frames `shown`."""
        return np.concatenate(self._kept)


def above_rounding(explained: Explanation) -> Float[np.ndarray, "probe stack y x"]:
    """The relevance, 0 where a frame's score is no more than the rounding of its Q-values: equal ones leave none."""
    relevance, largest = numbers(explained.relevance), numbers(explained.q_values.abs().amax(1))
    silent = np.abs(numbers(explained.score)) <= ROUNDING * largest
    return np.where(silent[:, None, None, None], np.float32(0), relevance) if silent.any() else relevance


def shown_frames(probe: Probe, frames: int = FRAMES) -> Int[np.ndarray, " shown"]:
    """Indices of whole segments, spread evenly over the probe, that together hold about `frames` frames."""
    names = np.unique(probe.segment)
    wanted = max(1, round(frames * len(names) / len(probe)))
    chosen = names[np.linspace(0, len(names) - 1, min(wanted, len(names))).round().astype(int)]
    return np.flatnonzero(np.isin(probe.segment, chosen))
