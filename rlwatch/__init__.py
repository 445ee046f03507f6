"""See what a DQN looks at while it trains."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlwatch.atari.probe import Probe
    from rlwatch.attribution.explain import Explanation, explain, explain_actions
    from rlwatch.attribution.lrp.composites import Composite
    from rlwatch.report import Report
    from rlwatch.watch import Watch

__all__ = ["Composite", "Explanation", "Probe", "Report", "Watch", "explain", "explain_actions"]

_HOMES = {
    "Composite": "rlwatch.attribution.lrp.composites",
    "Explanation": "rlwatch.attribution.explain",
    "Probe": "rlwatch.atari.probe",
    "Report": "rlwatch.report",
    "Watch": "rlwatch.watch",
    "explain": "rlwatch.attribution.explain",
    "explain_actions": "rlwatch.attribution.explain",
}


def __getattr__(name: str) -> Any:
    """A public name, loaded on first use: torch takes seconds, and `rlwatch --help` and TensorBoard need none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rlwatch' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
