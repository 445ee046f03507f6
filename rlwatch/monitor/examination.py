"""The examination of one checkpoint after the other: explain and measure."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from rlwatch.atari.names import MOST_ACTIONS
from rlwatch.atari.probe import Probe
from rlwatch.attribution.explain import Explanation, explain_actions, explain_batches, explain_targets
from rlwatch.attribution.inputs import Observe
from rlwatch.attribution.methods import of_part
from rlwatch.attribution.randomise import untrained
from rlwatch.measures.relevance import object_relevance
from rlwatch.measures.sums import Pixels, pixels
from rlwatch.monitor.asking import TARGETS, Network, device_of, numbers
from rlwatch.monitor.baseline import Baseline, merged, part_of_probe
from rlwatch.monitor.comparison import Comparison, Look, Maps, timed
from rlwatch.monitor.gathering import Gathering, above_rounding, shown_frames
from rlwatch.monitor.matching import check_places, matched
from rlwatch.monitor.trust import Sample, sample, trust, validity
from rlwatch.report import Report, plainly

Part = tuple[Mapping[str, Explanation], float]
"""The probe or a batch of it explained, per target, and the seconds that it took."""
Figures = tuple[Mapping[str, float], float]
"""Those of the checks on a network's maps, and the seconds that they took."""

BATCH = 64
"""Observations that are explained at once, as of `explain_targets`."""
MAPS_AT_ONCE = 72
"""Maps of single actions that are made at once: 8 MB of them, for all together may be 98 MB."""
NO_MODULE = (
    "rlwatch: the network is no torch module, so there is no untrained baseline to compare with and nothing is found: "
    "pass the module that trains, or Read(q_network, lambda network, frames: ...) of rlwatch.unwrap, which returns Q"
)
log = logging.getLogger("rlwatch")


@dataclass
class Examination:
    """Asks one network about one probe, again and again; `comparison` remembers what was said.

    `method` as of `explain`, `options` are its keywords. `targets`: what is explained, `greedy` always among it.
    `observe` turns the probe's uint8 frames (probe, stack, y, x) into what the network takes; left out, it is found by
    trial, and so are size and number of the stacked pictures. `twins`: how many freshly drawn networks make up the
    untrained baseline. `dilation`: by how many pixels of the agent's picture an object's mask is widened. `seed`: of
    the freshly drawn networks, the intervals and the checks. `shown`: the frames of the probe whose maps pictures show.

    Raises: ValueError, TypeError when network, probe, `observe` and `options` do not fit; as `explain_targets` does.
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

    def __post_init__(self) -> None:
        if self.observe is None:
            self.probe, self.observe = matched(self.network, self.probe)
        self.objects: dict[str, Pixels] = {}
        for name, mask in self.probe.each_mask(dilation=self.dilation):
            self.objects |= pixels({name: mask})
        frames = torch.from_numpy(self.probe.observations()).to(device_of(self.network))
        try:
            observed: object = self.observe(frames)
        except Exception as error:
            shape = tuple(frames.shape)
            tried = f"observe= must take uint8 frames of shape {shape}, it raised {error!r}"
            raise ValueError(f"{tried}: try it on torch.from_numpy(probe.observations())") from error
        if not isinstance(observed, Tensor):
            got = type(observed).__name__
            raise TypeError(f"observe= must return the tensor that the network takes, got {got}: return it")
        self._observations = observed
        explained = self._first_explained()
        self._check(explained, self.network)
        self.action_count = explained["greedy"].q_values.shape[1]
        self.shown = shown_frames(self.probe)
        self.comparison = Comparison(self.probe.game, self.probe.digest)

    def untrained_baseline(self, network: Network | None = None) -> Baseline:
        """What freshly drawn copies of the network say; empty of a plain function, which cannot be drawn anew.

        Raises: as `twin` does.
        """
        if not isinstance(network or self.network, nn.Module):
            log.warning(NO_MODULE)
            return {}
        return merged([self.twin(number, network) for number in range(self.twins)])

    def twin(self, number: int, network: Network | None = None) -> Baseline:
        """What the objects get, per target, of one freshly drawn copy of the network, which must be a module.

        Raises: TypeError when it cannot be copied; ValueError as `report` does.
        """
        network = network or self.network
        assert isinstance(network, nn.Module)  # noqa: S101 - nothing else is drawn anew
        frames, objects = self._part_of_baseline
        chosen = torch.from_numpy(frames)
        drawn = untrained(network, self.seed + number)
        explained = self._explain(drawn, self._observations[chosen], self._options_of(chosen))
        episode, generator = self.probe.episode[frames], partial(np.random.default_rng, self.seed)
        relevance = {target: above_rounding(one) for target, one in explained.items()}
        return {target: object_relevance(one, objects, episode, generator()) for target, one in relevance.items()}

    def report(self, step: int, *, returns: float = math.nan) -> Report:
        """Everything that this checkpoint yields; its look stands in `comparison.last` until the next one.

        Raises: ValueError when the network's output holds NaN or infinity.
        """
        return self.comparison.follow(step, self.look(), returns=returns)

    def look(
        self,
        network: Network | None = None,
        *,
        judge: bool = False,
        actions: bool = False,
        parts: Sequence[Part] = (),
        judged: Figures | None = None,
    ) -> Look:
        """What one network yields by itself; `judge`: with the checks on its maps, too; `actions`: with every action's.

        `parts`, `judged`: what `part` has found of each of `batches`, and `figures`; left out, it is found here.

        Raises: as `report` and `judged` do.
        """
        cost = {"explain": sum((seconds for _, seconds in parts), 0.0)}
        look = self._gathered(network or self.network, [explained for explained, _ in parts], cost)
        figures: Mapping[str, float] = {}
        if judge:
            figures, cost["validity"] = judged or self.figures(network)
        every_action = None
        if actions:
            with timed(cost, "actions"):
                every_action = self.every_action(network)
        return replace(look, validity=figures, cost=cost, actions=every_action)

    @property
    def batches(self) -> range:
        """Where each batch of observations begins that is explained at once: batches depend on nothing else."""
        return range(0, len(self._observations), self._batch)

    def part(self, begin: int, network: Network | None = None) -> Part:
        """A batch of the probe explained, to the bit as it is among the others.

        Raises: as `look` does.
        """
        cost: dict[str, float] = {}
        end = begin + self._batch
        options = self._options_of(slice(begin, end))
        with timed(cost, "explain"):
            explained = self._explain(network or self.network, self._observations[begin:end], options)
        return explained, cost["explain"]

    def figures(self, network: Network | None = None) -> Figures:
        """Those of the checks on the network's maps, and the seconds that they took.

        Raises: as `judged` does.
        """
        assert self.observe is not None  # noqa: S101 - __post_init__ has set it
        cost: dict[str, float] = {}
        with timed(cost, "validity"):
            generator = np.random.default_rng(self.seed)
            options = self._options_of(torch.from_numpy(self._sample.chosen))
            asked = network or self.network, self._sample, self.observe, generator
            figures = validity(*asked, method=self.method, options=options)
        return figures, cost["validity"]

    def every_action(self, network: Network | None = None) -> Maps:
        """The relevance for the Q-value of every action on the frames that pictures show, as `action=k`.

        Raises: as `explain_actions` does.
        """
        shown = torch.from_numpy(self.shown)
        asked, options = self._observations[shown.to(self._observations.device)], self._options_of(shown)
        q_values: list[np.ndarray] = []
        relevance: dict[str, np.ndarray] = {}
        for part in explain_actions(network or self.network, asked, self.method, maps=MAPS_AT_ONCE, **options):
            begin, found = sum(map(len, q_values)), numbers(part.relevance)
            q_values.append(numbers(part.q_values))
            names = [f"action={action}" for action in range(found.shape[1])]
            relevance = relevance or {name: np.empty((len(asked), *found.shape[2:]), np.float32) for name in names}
            for action, name in enumerate(names):
                relevance[name][begin : begin + len(found)] = found[:, action]
        return Maps(np.concatenate(q_values), relevance)

    def judged(self, report: Report) -> Report:
        """The report with the checks on its maps, which cost several times as much as all the rest.

        Raises: as `report` does; TypeError when the network cannot be copied.
        """
        figures, seconds = self.figures()
        return replace(report, validity=figures, trust=trust(figures), cost={**report.cost, "validity": seconds})

    def _gathered(self, network: Network, parts: Sequence[Mapping[str, Explanation]], cost: dict[str, float]) -> Look:
        """What the maps yield, made batch by batch where no `parts` are given; `cost` gets the seconds.

        Raises: as `report` does.
        """
        gathered = {target: Gathering(self.objects, self.shown) for target in self.targets}
        q_values: list[np.ndarray] = []
        for explained in parts or self._batch_by_batch(network, cost):
            greedy = explained["greedy"]
            if not q_values:
                self._check(explained, network)
            q_values.append(numbers(greedy.q_values))
            with timed(cost, "measure"):
                for target, one in explained.items():
                    gathered[target].add(one)
        table, episode = np.concatenate(q_values), self.probe.episode
        with timed(cost, "measure"):
            measured = {name: one.measured(episode, np.random.default_rng(self.seed)) for name, one in gathered.items()}
            traces = {name: one.trace for name, one in gathered.items()}
        maps = Maps(table[self.shown], {name: one.relevance for name, one in gathered.items()})
        told = {} if greedy.fallback else plainly(self.options)
        return Look(table, maps, measured, traces, greedy.method, {}, cost, fallback=greedy.fallback, options=told)

    def _batch_by_batch(self, network: Network, cost: dict[str, float]) -> Iterator[Mapping[str, Explanation]]:
        settings = {"batch_size": BATCH, **self.options}
        batches = explain_batches(network, self._observations, self.targets, self.method, **settings)
        while True:
            with timed(cost, "explain"):
                explained = next(batches, None)
            if explained is None:
                return
            yield explained

    @cached_property
    def _part_of_baseline(self) -> tuple[Int[np.ndarray, " part"], Mapping[str, Pixels]]:
        return part_of_probe(self.objects, (*self.probe.stack.shape, *self.probe.size))

    @cached_property
    def _sample(self) -> Sample:
        return sample(self.probe, self.objects)

    @property
    def _batch(self) -> int:
        return int(self.options.get("batch_size", BATCH))

    def _options_of(self, part: slice | Int[Tensor, " part"]) -> dict[str, Any]:
        """The method's keywords for some of the observations."""
        return of_part(self.options, part, len(self._observations))

    def _explain(self, network: Network, observations: Tensor, options: Mapping[str, Any]) -> dict[str, Explanation]:
        return explain_targets(network, observations, self.targets, self.method, **{"batch_size": BATCH, **options})

    def _first_explained(self) -> dict[str, Explanation]:
        """Raises: TypeError, ValueError when the network, or the method's keywords, do not fit."""
        reserved = sorted(self.options.keys() & {"network", "observations", "targets", "target", "method"})
        if reserved:
            raise ValueError(f"options are the method's own keywords, got {', '.join(reserved)}: give it by itself")
        try:
            return self._explain(self.network, self._observations[:2], self._options_of(slice(2)))
        except TypeError as error:
            if not self.options:
                raise
            told = ", ".join(f"{name}={value!r:.40}" for name, value in self.options.items())
            raise TypeError(f"{self.method} must be able to use {told}, it cannot: {error}") from error

    def _check(self, explained: Mapping[str, Explanation], network: Network) -> None:
        self._check_pictures(explained["greedy"].relevance.shape[1:])
        assert self.observe is not None  # noqa: S101 - __post_init__ has set it
        check_places(network, self.probe, self.observe)
        actions = explained["greedy"].q_values.shape[1]
        if actions not in {len(self.probe.actions), MOST_ACTIONS}:
            raise ValueError(
                f"the probe is of {self.probe.game}, which has {len(self.probe.actions)} actions "
                f"({', '.join(self.probe.actions)}), the network has {actions}: take the probe of the game it is "
                "trained on, or make one with `rlwatch record GAME --out FILE`; where these are no Q-values, but atoms "
                "or features, pass Read(q_network, lambda network, frames: ...) of rlwatch.unwrap, which returns Q"
            )

    def _check_pictures(self, read: Sequence[int]) -> None:
        """Whether maps lie where objects do: `read` is what the first layer reads of an observation."""
        shown = (self.probe.stack.shape[1], *self.probe.size)
        if tuple(read) != shown:
            seen = f"seen({read[0]}, ({read[1]}, {read[2]}))"
            raise ValueError(
                f"maps must lie on the probe's pictures, {_by(shown)} (stack, y, x), where its objects are: the "
                f"network's first layer reads {_by(read)}; where these are grey pictures take "
                f"probe=Probe.load({self.probe.game!r}).{seen} and an observe= that keeps this shape; maps of colours "
                "and of parts of the picture can be made with rlwatch.explain, but not measured"
            )


def _by(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))
