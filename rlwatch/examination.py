"""The examination of one checkpoint after the other: explain, measure, compare with what came before."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rlwatch.atari.probe import Probe
from rlwatch.attribution.explain import Explanation, explain_actions, explain_targets
from rlwatch.attribution.inputs import Observe, fit
from rlwatch.attribution.randomise import untrained
from rlwatch.measures.onset import sentence, spells, threshold
from rlwatch.measures.relevance import (
    ObjectRelevance,
    TargetRelevance,
    drift,
    object_relevance,
    pixels,
    q_statistics,
    target_relevance,
)
from rlwatch.report import Finding, Report
from rlwatch.trust import Sample, device_of, numbers, sample, trust, validity

Network = Callable[[Tensor], Any]

TARGETS = ("greedy", "contrast")
FULL_ACTION_SET = 18
MAPS_AT_ONCE = 72
"""Maps of single actions that are made at once: 8 MB of them, for all together may be 98 MB."""
log = logging.getLogger("rlwatch")


@dataclass(frozen=True)
class Maps:
    """One checkpoint's relevance on the probe or a part of it, as the pictures need it."""

    q_values: Float[np.ndarray, "probe action"]
    relevance: Mapping[str, Float[np.ndarray, "probe stack y x"]]


@dataclass(frozen=True)
class Look:
    """What one checkpoint yields by itself, whatever came before it.

    `targets`: the statistics of its maps, without a drift. `validity`: the figures of the checks on them, empty where
    they were not made. `cost`: seconds per part of the work. `actions`: the maps of every action, where asked for.
    """

    maps: Maps
    targets: Mapping[str, TargetRelevance]
    method: str
    validity: Mapping[str, float]
    cost: Mapping[str, float]
    actions: Maps | None = None


@dataclass(frozen=True)
class Past:
    """What a log says of a run's earlier checkpoints: the objects' lifts by step and target, and the colour scales."""

    objects: Mapping[int, Mapping[str, Mapping[str, ObjectRelevance]]] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Examination:
    """Asks one network about one probe, again and again, and remembers what the comparison over checkpoints needs.

    `method` as of `explain`, `options` are its keywords. `targets`: what is explained, `greedy` always among it.
    `observe` turns the probe's uint8 frames (probe, stack, y, x) into what the network takes; found by trial if left
    out. `twins`: how many freshly drawn networks make up the untrained baseline. `dilation`: by how many pixels of the
    84 × 84 picture an object's mask is widened.

    Raises: ValueError when network and probe do not fit, with what was expected and got.
    """

    network: Network
    probe: Probe
    method: Any = "epsilon_gamma_box"
    options: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = TARGETS
    observe: Observe | None = None
    seed: int = 0
    twins: int = 3
    dilation: int = 1
    maps: Maps | None = None
    baseline: dict[str, dict[str, ObjectRelevance]] = field(default_factory=dict)
    _history: dict[tuple[str, str], list[ObjectRelevance]] = field(default_factory=lambda: defaultdict(list))
    _steps: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.objects = pixels(self.probe.masks(dilation=self.dilation))
        frames = torch.from_numpy(self.probe.observations()).to(device_of(self.network))
        self.observe = self.observe or fit(self.network, frames[:2])
        observed: object = self.observe(frames)
        if not isinstance(observed, Tensor):
            got = type(observed).__name__
            raise TypeError(f"observe= must return the tensor that the network takes, got {got}: return it")
        self._observations = observed
        explained = self._first_explained()
        self._check(explained)
        self.action_count = explained["greedy"].q_values.shape[1]

    def untrained_baseline(self) -> None:
        """Measure freshly drawn copies of the network; a plain function cannot be drawn anew and gets no baseline."""
        if not isinstance(self.network, nn.Module):
            log.warning("rlwatch: the network is no torch module, so there is no untrained baseline to compare with")
            return
        drawn: dict[str, list[dict[str, ObjectRelevance]]] = {target: [] for target in self.targets}
        for twin in range(self.twins):
            explained = self._explain(untrained(self.network, self.seed + twin), self._observations)
            for target, one in explained.items():
                generator = np.random.default_rng(self.seed)
                relevance = numbers(one.relevance)
                drawn[target].append(object_relevance(relevance, self.objects, self.probe.episode, generator))
        self.baseline = {target: _merged(twins) for target, twins in drawn.items()}

    def report(
        self, step: int, *, network: Network | None = None, checkpoint: str = "", returns: float = np.nan
    ) -> Report:
        """Everything that this checkpoint yields; its maps stand in `maps` until the next one.

        Raises: ValueError when the network's output holds NaN or infinity.
        """
        return self.follow(step, self.look(network), checkpoint=checkpoint, returns=returns)

    def look(
        self,
        network: Network | None = None,
        *,
        judge: bool = False,
        actions_on: Int[np.ndarray, " shown"] | None = None,
    ) -> Look:
        """What one network yields by itself; `judge`: with the checks on its maps, too.

        `actions_on`: observations of the probe on which every action gets a map.

        Raises: as `report` and `judged` do.
        """
        cost: dict[str, float] = {}
        with _timed(cost, "explain"):
            explained = self._explain(network or self.network, self._observations)
        self._check(explained)
        with _timed(cost, "measure"):
            targets = {target: self._measure(one) for target, one in explained.items()}
        relevance = {target: numbers(one.relevance) for target, one in explained.items()}
        figures = self._validity(network, cost) if judge else {}
        actions = None
        if actions_on is not None:
            with _timed(cost, "actions"):
                actions = self.every_action(actions_on, network)
        maps = Maps(numbers(explained["greedy"].q_values), relevance)
        return Look(maps, targets, explained["greedy"].method, figures, cost, actions)

    def every_action(self, observations: Int[np.ndarray, " shown"], network: Network | None = None) -> Maps:
        """The relevance for the Q-value of every action on some of the probe's observations, as `action=k`.

        Raises: as `explain_actions` does.
        """
        asked = self._observations[torch.from_numpy(observations).to(self._observations.device)]
        q_values: list[np.ndarray] = []
        relevance: dict[str, np.ndarray] = {}
        for part in explain_actions(network or self.network, asked, self.method, maps=MAPS_AT_ONCE, **self.options):
            begin, found = sum(map(len, q_values)), numbers(part.relevance)
            q_values.append(numbers(part.q_values))
            names = [f"action={action}" for action in range(found.shape[1])]
            relevance = relevance or {name: np.empty((len(asked), *found.shape[2:]), np.float32) for name in names}
            for action, name in enumerate(names):
                relevance[name][begin : begin + len(found)] = found[:, action]
        return Maps(np.concatenate(q_values), relevance)

    def follow(self, step: int, look: Look, *, checkpoint: str = "", returns: float = np.nan) -> Report:
        """The report of a look, compared with the checkpoint before; its maps stand in `maps` until the next one."""
        cost, before = dict(look.cost), self.maps
        with _timed(cost, "compare"):
            q = q_statistics(look.maps.q_values, None if before is None else before.q_values)
            targets = dict(look.targets) if before is None else _drifted(look, before)
        self.maps = look.maps
        self.recall(step, {target: measured.objects for target, measured in targets.items()})
        return Report(
            step=step,
            checkpoint=checkpoint,
            game=self.probe.game,
            probe=self.probe.digest,
            method=look.method,
            q=q,
            targets=targets,
            untrained=self.baseline,
            findings=tuple(self._findings()),
            validity=look.validity,
            trust=trust(look.validity) if look.validity else "",
            all_actions=look.actions is not None,
            returns=float(returns),
            cost=cost,
        )

    def remember(self, report: Report) -> None:
        """Go on behind a report that another examination of the same network and probe has made."""
        self.baseline = {target: dict(objects) for target, objects in report.untrained.items()}
        self.recall(report.step, {target: measured.objects for target, measured in report.targets.items()})

    def judged(self, report: Report, *, network: Network | None = None) -> Report:
        """The report with the checks on its maps, which cost several times as much as all the rest.

        Raises: as `report` does; TypeError when the network cannot be copied.
        """
        cost = dict(report.cost)
        figures = self._validity(network, cost)
        return replace(report, validity=figures, trust=trust(figures), cost=cost)

    def recall(self, step: int, targets: Mapping[str, Mapping[str, ObjectRelevance]]) -> None:
        """Count a checkpoint that was examined before, per target and object, to those that findings are about."""
        self._steps.append(step)
        for target, objects in targets.items():
            for name, one in objects.items():
                self._history[target, name].append(one)

    @cached_property
    def _sample(self) -> Sample:
        return sample(self.probe, self.objects)

    def _explain(self, network: Network, observations: Tensor) -> dict[str, Explanation]:
        return explain_targets(network, observations, targets=self.targets, method=self.method, **self.options)

    def _first_explained(self) -> dict[str, Explanation]:
        """Raises: TypeError, ValueError when the network, or the method's keywords, do not fit."""
        reserved = sorted(self.options.keys() & {"network", "observations", "targets", "target", "method"})
        if reserved:
            raise ValueError(f"options are the method's own keywords, got {', '.join(reserved)}: give it by itself")
        try:
            return self._explain(self.network, self._observations[:2])
        except TypeError as error:
            if not self.options:
                raise
            told = ", ".join(f"{name}={value!r:.40}" for name, value in self.options.items())
            raise TypeError(f"{self.method} must be able to use {told}, it cannot: {error}") from error

    def _check(self, explained: dict[str, Explanation]) -> None:
        actions = explained["greedy"].q_values.shape[1]
        if actions not in {len(self.probe.actions), FULL_ACTION_SET}:
            raise ValueError(
                f"the probe is of {self.probe.game}, which has {len(self.probe.actions)} actions "
                f"({', '.join(self.probe.actions)}), the network has {actions}: take the probe of the game it is "
                "trained on, or make one with `rlwatch record GAME --out FILE`"
            )

    def _measure(self, explained: Explanation) -> TargetRelevance:
        generator = np.random.default_rng(self.seed)
        relevance, score = numbers(explained.relevance), numbers(explained.score)
        return target_relevance(relevance, score, self.objects, self.probe.episode, generator)

    def _validity(self, network: Network | None, cost: dict[str, float]) -> dict[str, float]:
        assert self.observe is not None  # noqa: S101 - __post_init__ has set it
        with _timed(cost, "validity"):
            generator = np.random.default_rng(self.seed)
            method = {"method": self.method, "options": self.options}
            return validity(network or self.network, self._sample, self.observe, generator, **method)

    def _findings(self) -> Iterator[Finding]:
        for (target, name), history in self._history.items():
            if target not in self.baseline:
                continue
            baseline = self.baseline[target][name]
            for spell in spells(history, threshold(baseline)):
                text = sentence(name, target, spell, self._steps, history, baseline)
                yield Finding(self._steps[spell.start], target, name, text)


def _drifted(look: Look, before: Maps) -> dict[str, TargetRelevance]:
    """The look's statistics with the drift since the maps before."""
    found = {}
    for target, measured in look.targets.items():
        spearman, cosine = drift(look.maps.relevance[target], before.relevance[target])
        found[target] = replace(measured, drift_spearman=spearman, drift_cosine=cosine)
    return found


def _merged(twins: list[dict[str, ObjectRelevance]]) -> dict[str, ObjectRelevance]:
    """The untrained baseline: means over freshly drawn networks; `low` and `high` are the extremes among them."""
    return {name: _merge_object([one[name] for one in twins]) for name in twins[0]}


def _merge_object(drawn: list[ObjectRelevance]) -> ObjectRelevance:
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


@contextmanager
def _timed(cost: dict[str, float], part: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    cost[part] = time.perf_counter() - began
