"""How maps differ from those of the checkpoint before."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from rlwatch.measures.ranks import ranks


@dataclass(frozen=True)
class Trace:
    """What is kept of one target's maps, summed over the stack, to tell how those of the next checkpoint differ.

    `ranks` of the pixels: 1 = least relevance; float32 holds them exactly.
    """

    summed: Float[np.ndarray, "frame pixel"]
    ranks: Float[np.ndarray, "frame pixel"]


def traced(relevance: Float[np.ndarray, "frame stack y x"]) -> Trace:
    """The trace of one target's maps."""
    summed = relevance.sum(axis=1).reshape(len(relevance), -1)
    return Trace(summed, ranks(summed).astype(np.float32))


def drift(now: Trace, then: Trace) -> tuple[float, float]:
    """Signed Spearman correlation and cosine to the checkpoint before; 1 = the same map.

    Both are averaged over the frames of the traces; one whose map is constant in either checkpoint has no correlation
    and is left out; NaN when all are.
    """
    ranked = (one.ranks.astype(np.float64) for one in (now, then))
    summed = (one.summed.astype(np.float64) for one in (now, then))  # float32 cannot hold the squares of all it holds
    return _mean_correlation(*ranked, centred=True), _mean_correlation(*summed)


def _mean_correlation(
    now: Float[np.ndarray, "probe pixel"], then: Float[np.ndarray, "probe pixel"], *, centred: bool = False
) -> float:
    """The mean cosine over the rows, with `centred` of their differences from their means; NaN where no row has one."""
    if centred:
        now, then = (rows - rows.mean(axis=1, keepdims=True) for rows in (now, then))
    norms = np.linalg.norm(now, axis=1) * np.linalg.norm(then, axis=1)
    kept = norms > 0
    return float(((now * then).sum(axis=1)[kept] / norms[kept]).mean()) if kept.any() else math.nan
