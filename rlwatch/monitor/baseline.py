"""The untrained baseline: what freshly drawn copies of a network say of the objects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rlwatch.measures.relevance import ObjectRelevance

Baseline = Mapping[str, Mapping[str, ObjectRelevance]]
"""The objects' statistics with random weights, per target and object: of one drawing, or merged over several."""


def merged(twins: Sequence[Baseline]) -> Baseline:
    """The untrained baseline: means over freshly drawn networks; `low` and `high` are the extremes among them."""
    return {
        target: {name: _mean([twin[target][name] for twin in twins]) for name in objects}
        for target, objects in twins[0].items()
    }


def _mean(drawn: Sequence[ObjectRelevance]) -> ObjectRelevance:
    lifts = [one.lift for one in drawn]
    return replace(
        drawn[0],
        lift=float(np.mean(lifts)),
        low=min(lifts),
        high=max(lifts),
        share=float(np.mean([one.share for one in drawn])),
        share_negative=float(np.mean([one.share_negative for one in drawn])),
        relevance=float(np.mean([one.relevance for one in drawn])),
    )
