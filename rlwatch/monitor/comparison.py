"""What one checkpoint yields by itself, and the report that the comparison with those before makes of it."""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from rlwatch.measures.drift import Trace, drift
from rlwatch.measures.onset import sentence, spells, threshold
from rlwatch.measures.relevance import ObjectRelevance, TargetRelevance, q_statistics
from rlwatch.monitor.baseline import Baseline
from rlwatch.monitor.trust import trust
from rlwatch.report import Finding, Report

RESTS = {"greedy": "the value", "contrast": "the choice"}
SILENT = {
    "greedy": "no map of the value holds positive relevance: Q does not rise with anything in the frames",
    "contrast": "no map of the choice holds positive relevance: nothing in the frames speaks for the best action",
}
STILL = "no Q-value has changed since step {:,}: nothing was learnt in between, or it is another network that learns"


@dataclass(frozen=True)
class Maps:
    """One checkpoint's Q-values and relevance on those frames of the probe that pictures show, in their order."""

    q_values: Float[np.ndarray, "shown action"]
    relevance: Mapping[str, Float[np.ndarray, "shown stack y x"]]


@dataclass(frozen=True)
class Look:
    """What one checkpoint yields by itself, whatever came before it.

    `targets`: the statistics of its maps, without a drift, for which `traces` are kept. `validity`: the figures of the
    checks on them, empty where they were not made. `cost`: seconds per part of the work. `actions`: the maps of every
    action, where asked for. `fallback`: why the maps were made by another method than the one that was asked for.
    `options`: the method's own keywords, as of `plainly`.
    """

    q_values: Float[np.ndarray, "probe action"]
    maps: Maps
    targets: Mapping[str, TargetRelevance]
    traces: Mapping[str, Trace]
    method: str
    validity: Mapping[str, float]
    cost: Mapping[str, float]
    actions: Maps | None = None
    fallback: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


Mark = tuple[Look | None, int]
"""The newest look of a comparison, and how many checkpoints it remembers."""


@dataclass(frozen=True)
class Past:
    """What a log says of a run's earlier checkpoints: the objects' lifts by step and target, and the colour scales.

    `baseline`: what it says of untrained networks. Drawn anew, they may be others: what layers hold besides weights
    that they draw at birth (buffers, parameters of unknown layers) is as the training has made it until then.
    """

    objects: Mapping[int, Mapping[str, Mapping[str, ObjectRelevance]]] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    baseline: Baseline = field(default_factory=dict)


@dataclass
class Comparison:
    """Makes the reports of one checkpoint after the other, about one probe, and remembers what this takes.

    `probe`: its digest. `baseline`: what untrained networks say, empty until it is known. `last`: the newest look.
    """

    game: str
    probe: str
    baseline: Baseline = field(default_factory=dict, init=False)
    last: Look | None = field(default=None, init=False)
    _history: dict[tuple[str, str], list[ObjectRelevance]] = field(
        default_factory=lambda: defaultdict(list), init=False
    )
    _steps: list[int] = field(default_factory=list, init=False)

    def follow(self, step: int, look: Look, *, checkpoint: str = "", returns: float = math.nan) -> Report:
        """The report of a look, compared with the one before; it stands in `last` until the next one."""
        cost, before = dict(look.cost), self.last
        changed = list(_other_actions(look, before))
        stands = before is not None and np.array_equal(look.q_values, before.q_values)
        still = [STILL.format(self._steps[-1])] if stands else []
        with timed(cost, "compare"):
            q = q_statistics(look.q_values, None if before is None or changed else before.q_values)
            targets = dict(look.targets) if before is None else _drifted(look, before)
        self.last = look
        self.recall(step, {target: measured.objects for target, measured in targets.items()})
        return Report(
            step=step,
            checkpoint=checkpoint,
            game=self.game,
            probe=self.probe,
            method=look.method,
            options=look.options,
            q=q,
            targets=targets,
            untrained=self.baseline,
            findings=tuple(self._findings()),
            notes=(*changed, *_notes(look), *still),
            validity=look.validity,
            trust=trust(look.validity) if look.validity else "",
            all_actions=look.actions is not None,
            returns=float(returns),
            cost=cost,
        )

    def let_go(self) -> None:
        """Keep the newest look without its maps, which take 11 MB: the next one is compared with its traces."""
        if self.last is not None:
            self.last = replace(self.last, maps=replace(self.last.maps, relevance={}))

    def remember(self, report: Report) -> None:
        """Go on behind a report that another comparison on the same probe has made."""
        self.baseline = {target: dict(objects) for target, objects in report.untrained.items()}
        self.recall(report.step, {target: measured.objects for target, measured in report.targets.items()})

    def recall(self, step: int, targets: Mapping[str, Mapping[str, ObjectRelevance]]) -> None:
        """Count a checkpoint that was examined before, per target and object, to those that findings are about."""
        self._steps.append(step)
        for target, objects in targets.items():
            for name, one in objects.items():
                self._history[target, name].append(one)

    def mark(self) -> Mark:
        """Where it stands, for `go_back`."""
        return self.last, len(self._steps)

    def go_back(self, mark: Mark) -> None:
        """Forget what it was told since: a checkpoint that was not logged may be made again, and counts but once."""
        self.last, count = mark
        del self._steps[count:]
        for history in self._history.values():
            del history[count:]

    def _findings(self) -> Iterator[Finding]:
        for (target, name), history in self._history.items():
            if target not in self.baseline:
                continue
            baseline = self.baseline[target][name]
            for spell in spells(history, threshold(baseline)):
                text = sentence(name, target, spell, self._steps, history, baseline)
                yield Finding(self._steps[spell.start], target, name, text)


def _notes(look: Look, *, much: float = 1 / 3) -> Iterator[str]:
    """What a reader must know of the maps; `much`: the part of relevance in one place without a name that is told.

    Such a place is a fiftieth of the picture (`Spot`). A good agent's holds up to a quarter: edges of what is named.
    """
    if look.fallback:
        yield look.fallback
    for target, measured in look.targets.items():
        told = RESTS.get(target, target)
        if math.isnan(measured.unnamed):
            yield SILENT.get(target, f"the maps of {target} hold no positive relevance")
        elif measured.spot.share > much:
            yield (
                f"{100 * measured.spot.share:.0f} % of what {told} rests on lies in one place that belongs to no "
                f"object, around line {measured.spot.y:.0f}, column {measured.spot.x:.0f} of the agent's picture"
            )


def _other_actions(look: Look, before: Look | None) -> Iterator[str]:
    """What a reader must know where greedy actions cannot be compared with those before."""
    now, then = (0 if one is None else one.q_values.shape[1] for one in (look, before))
    if then and now != then:
        yield f"the network has {now} actions, {then} at the checkpoint before: their churn is not known"


@contextmanager
def timed(cost: dict[str, float], part: str) -> Iterator[None]:
    """Add the seconds that the block takes, also where it fails."""
    began = time.perf_counter()
    try:
        yield
    finally:
        cost[part] = cost.get(part, 0.0) + time.perf_counter() - began


def _drifted(look: Look, before: Look) -> dict[str, TargetRelevance]:
    """The look's statistics with the drift since the one before."""
    found = {}
    for target, measured in look.targets.items():
        spearman, cosine = drift(look.traces[target], before.traces[target])
        found[target] = replace(measured, drift_spearman=spearman, drift_cosine=cosine)
    return found
