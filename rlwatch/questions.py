"""What every checkpoint is asked, and how a process of a Ray cluster answers; loads no more than these need."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rlwatch import checkpoints
from rlwatch.attribution.methods import QUERYING
from rlwatch.monitor.asking import Network
from rlwatch.monitor.baseline import Baseline
from rlwatch.monitor.comparison import Look
from rlwatch.monitor.examination import Examination, Figures, Part


@dataclass(frozen=True, eq=False)
class Questions:
    """What every checkpoint is asked.

    `told`: what `checkpoints.load` is told of networks. `judge`: whether the maps are checked. `drawn`: whether maps
    are wanted for pictures, too.
    """

    examination: Examination
    told: Mapping[str, Any]
    judge: bool
    drawn: bool

    @property
    def costly(self) -> bool:
        """Whether the method asks the network many times about each observation."""
        return self.examination.method in QUERYING

    def sent(self) -> "Questions":
        """The same without the boxes of the probe's objects, which are slow to send and stand in its masks already."""
        examination, probe = copy(self.examination), copy(self.examination.probe)
        vars(probe).pop("placed", None)
        examination.probe = probe
        return replace(self, examination=examination)

    def look(self, network: Network, *, actions: bool, **found: Any) -> Look:
        """What a checkpoint's network yields; `found`: as `Examination.look` takes it.

        Raises: as `Examination.look` does.
        """
        return self.examination.look(network, judge=self.judge, actions=actions, **found)


def look_at(asked: list[Any], path: Path, actions: bool, judged: Figures | None = None, *parts: Part) -> Look:
    """One look, in a process of the cluster; of its maps no more than is wanted."""
    questions = _fetched(asked)
    look = questions.look(_network(questions, path), actions=actions, judged=judged, parts=parts)
    return look if questions.drawn else replace(look, maps=replace(look.maps, relevance={}))


def part_of(asked: list[Any], path: Path, begin: int) -> Part:
    """A batch of the probe explained, in a process of the cluster."""
    questions = _fetched(asked)
    return questions.examination.part(begin, _network(questions, path))


def figures_of(asked: list[Any], path: Path) -> Figures:
    """The checks on a checkpoint's maps, in a process of the cluster."""
    questions = _fetched(asked)
    return questions.examination.figures(_network(questions, path))


def twin(asked: list[Any], path: Path, number: int) -> Baseline:
    """What one freshly drawn copy of a checkpoint's network says, in a process of the cluster."""
    questions = _fetched(asked)
    return questions.examination.twin(number, _network(questions, path))


def _network(questions: Questions, path: Path) -> Network:
    return checkpoints.load(path, **questions.told).network


def _fetched(asked: list[Any]) -> Questions:
    """The questions, which stand in a list as a reference so that a process fetches them once only."""
    import ray  # noqa: PLC0415 - an extra

    (reference,) = asked
    if reference.hex() not in _known:
        torch.set_num_threads(1)  # there is a process per core
        _known.clear()
        _known[reference.hex()] = ray.get(reference)
    return _known[reference.hex()]


_known: dict[str, Questions] = {}
