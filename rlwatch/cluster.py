"""Looks at many checkpoints at once, on a Ray cluster."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from numpy import ndarray

from rlwatch import checkpoints
from rlwatch.atari.probe import Probe
from rlwatch.attribution.inputs import Observe
from rlwatch.comparison import Baseline, Look
from rlwatch.examination import Examination, Network, Twin, merged
from rlwatch.resume import Planned

AHEAD = 4
"""Checkpoints per core that are under way: enough to keep each busy, few enough for their maps to fit in memory."""
RETRIES = 3
"""Times that a checkpoint is looked at again after its process was lost."""

Looked = tuple[Planned, Look | str | None]
"""A checkpoint with its look, None where none is needed, or why there can be none."""


@dataclass(frozen=True, eq=False)
class Questions:
    """What every checkpoint is asked, so that each process can make the same examination.

    `first`: the checkpoint whose network the examination is made with. `observe`: how networks take frames. `told`:
    what `checkpoints.load` is told of networks. `drawn`: whether maps are wanted for pictures, too. `actions_on`: the
    observations on which every action gets a map, where a checkpoint is planned to have these.
    """

    first: Path
    probe: Probe
    observe: Observe
    method: Any
    options: Mapping[str, Any]
    targets: tuple[str, ...]
    told: Mapping[str, Any]
    judge: bool
    drawn: bool
    actions_on: Int[ndarray, " shown"]

    def examination(self) -> Examination:
        """An examination that has seen nothing yet."""
        network = checkpoints.load(self.first, **self.told).network
        return Examination(network, self.probe, self.method, self.options, self.targets, self.observe)

    def look(self, examination: Examination, network: Network, *, actions: bool) -> Look:
        """What a checkpoint's network yields.

        Raises: as `Examination.look` does.
        """
        return examination.look(network, judge=self.judge, actions_on=self.actions_on if actions else None)


class Alone:
    """Examines in this process."""

    def __init__(self, questions: Questions) -> None:
        self._questions, self._examination = questions, questions.examination()

    def looks(self, planned: Iterable[Planned]) -> Iterator[Looked]:
        """Each checkpoint in order with its look, None where none is needed, or why there can be none.

        Raises: what looking raises, but ValueError.
        """
        for one in planned:
            look = partial(self._questions.look, self._examination, actions=one.actions)
            try:
                yield one, look(one.saved.network) if one.needed else None
            except ValueError as error:
                yield one, f"{one.saved.path}: {error}"

    def baseline(self) -> Baseline:
        """What freshly drawn networks say."""
        return self._examination.untrained_baseline()


class Cluster:
    """Examines in the processes of a Ray cluster, each of which makes one examination and keeps it.

    What a process that is lost was about is done again. Checkpoints must have the same path on every machine.
    """

    def __init__(self, questions: Questions, ray: Any) -> None:
        self._ray, self._asked = ray, ray.put(questions)
        self._twins: list[Any] = []

    def looks(self, planned: Iterable[Planned]) -> Iterator[Looked]:
        """As of `Alone`.

        Raises: as there; ChildProcessError when a checkpoint has lost all its processes.
        """
        waiting = deque[tuple[Planned, Any]]()
        most = AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        for one in planned:
            if one.needed and not self._twins:
                self._twins = [self._begun(_twin, number) for number in range(Examination.twins)]
            waiting.append((one, self._begun(_look, one.saved.path, one.actions) if one.needed else None))
            if len(waiting) == most:
                yield self._looked(*waiting.popleft())
        while waiting:
            yield self._looked(*waiting.popleft())

    def baseline(self) -> Baseline:
        """As of `Alone`.

        Raises: as `looks` does.
        """
        return merged([self._result(twin, "an untrained network") for twin in self._twins])

    def _begun(self, task: Any, *about: Path | int) -> Any:
        return self._ray.remote(num_cpus=1, max_retries=RETRIES)(task).remote([self._asked], *about)

    def _looked(self, one: Planned, reference: Any) -> Looked:
        try:
            return one, None if reference is None else self._result(reference, one.saved.path)
        except ValueError as error:
            return one, f"{one.saved.path}: {error}"

    def _result(self, reference: Any, about: object) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            raise ChildProcessError(
                f"{about} must be looked at by a process of the cluster, and all that tried were lost "
                f"({type(error).__name__}): give them more memory, or leave --ray out"
            ) from error


def _look(asked: list[Any], path: Path, actions: bool) -> Look:
    """One look, in a process of the cluster; of its maps no more than is wanted."""
    examination, questions = _prepared(asked)
    look = questions.look(examination, checkpoints.load(path, **questions.told).network, actions=actions)
    return look if questions.drawn else replace(look, maps=replace(look.maps, relevance={}))


def _twin(asked: list[Any], number: int) -> Twin:
    """What one freshly drawn network says, in a process of the cluster."""
    return _prepared(asked)[0].twin(number)


def _prepared(asked: list[Any]) -> tuple[Examination, Questions]:
    """The examination of this process; the reference stands in a list so that it is fetched once only."""
    import ray  # noqa: PLC0415 - an extra

    (reference,) = asked
    known = _prepared_ones.get(reference.hex())
    if known is None:
        torch.set_num_threads(1)  # there is a process per core
        questions = ray.get(reference)
        _prepared_ones.clear()
        known = _prepared_ones[reference.hex()] = questions.examination(), questions
    return known


_prepared_ones: dict[str, tuple[Examination, Questions]] = {}
