"""Why a network gives an observation its Q-values: relevance per pixel."""

from rlwatch.attribution.explain import (
    METHODS,
    ActionExplanation,
    Explanation,
    explain,
    explain_actions,
    explain_targets,
)
from rlwatch.attribution.lrp.composites import COMPOSITES, Composite
from rlwatch.attribution.lrp.pixel_rules import Flat, WSquare, ZBox
from rlwatch.attribution.lrp.rules import AlphaBeta, Epsilon, Gamma, Pass, Rule, Zero, ZPlus

__all__ = [
    "COMPOSITES",
    "METHODS",
    "ActionExplanation",
    "AlphaBeta",
    "Composite",
    "Epsilon",
    "Explanation",
    "Flat",
    "Gamma",
    "Pass",
    "Rule",
    "WSquare",
    "ZBox",
    "ZPlus",
    "Zero",
    "explain",
    "explain_actions",
    "explain_targets",
]
