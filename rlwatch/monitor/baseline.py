"""The untrained baseline: what freshly drawn copies of a network say of the objects."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from rlwatch.measures.relevance import ObjectRelevance
from rlwatch.measures.sums import Pixels, pixels_on

Baseline = Mapping[str, Mapping[str, ObjectRelevance]]
"""The objects' statistics with random weights, per target and object: of one drawing, or merged over several."""


def part_of_probe(
    objects: Mapping[str, Pixels], shape: tuple[int, ...], *, every: int = 4, few: int = 16
) -> tuple[Int[np.ndarray, " part"], dict[str, Pixels]]:
    """The frames of a probe (probe, stack, y, x) that the baseline is of, and where the objects are on these.

    They are each `every`-th, and all with an object of which these show fewer than `few`. Lifts of fresh networks vary
    from one to the next by 10 to 120 % of their mean, but hardly from frame to frame: on Breakout, Pong and Seaquest
    the means over three networks are those of all frames, to 1 % for the median object and 8 % for all that are often
    seen.
    """
    chosen = np.arange(shape[0]) % every == 0
    visible = [where.area > 0 for where in objects.values()]
    rare = [seen for seen in visible if (seen & chosen).sum() < few]
    frames = np.flatnonzero(np.any([chosen, *rare], axis=0))
    return frames, {name: pixels_on(where, frames, math.prod(shape[1:])) for name, where in objects.items()}


def merged(twins: Sequence[Baseline]) -> Baseline:
    """The untrained baseline: means over freshly drawn networks; `low` and `high` are the extremes among them.

    Each is of those networks that have the number: of some nothing may be measured; NaN where of all.
    """
    return {
        target: {name: _mean([twin[target][name] for twin in twins]) for name in objects}
        for target, objects in twins[0].items()
    }


def _mean(drawn: Sequence[ObjectRelevance]) -> ObjectRelevance:
    def known(name: str) -> list[float]:
        values = [getattr(one, name) for one in drawn]
        return [value for value in values if not math.isnan(value)] or [math.nan]

    means: dict[str, Any] = {
        name: float(np.mean(known(name))) for name in ("lift", "share", "share_negative", "relevance")
    }
    return replace(drawn[0], low=min(known("lift")), high=max(known("lift")), **means)
