"""Measures on relevance maps: NumPy in, NumPy out."""

from rlwatch.measures.relevance import (
    ObjectRelevance,
    Pixels,
    QStatistics,
    TargetRelevance,
    pixels,
    q_statistics,
    target_relevance,
)

__all__ = ["ObjectRelevance", "Pixels", "QStatistics", "TargetRelevance", "pixels", "q_statistics", "target_relevance"]
