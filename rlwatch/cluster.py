"""Looks at many checkpoints at once, on a Ray cluster."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from numpy import ndarray

from rlwatch import checkpoints
from rlwatch.atari.probe import Probe
from rlwatch.examination import Examination, Look, Network
from rlwatch.resume import Planned

LOCAL = "local"
"""The address that stands for a cluster of this machine's cores, which is started and ended here."""

AHEAD = 4
"""Checkpoints per core that are under way: enough to keep each busy, few enough for their maps to fit in memory."""

_examinations: dict[str, Examination] = {}


@dataclass(frozen=True, eq=False)
class Questions:
    """What every checkpoint is asked, so that each process can make the same examination.

    `first`: the checkpoint whose network says how it takes frames. `told`: what `checkpoints.load` is told of networks.
    `actions_on`: the observations on which every action gets a map, where a checkpoint is planned to have these.
    """

    first: Path
    probe: Probe
    method: Any
    options: Mapping[str, Any]
    targets: tuple[str, ...]
    told: Mapping[str, Any]
    judge: bool
    actions_on: Int[ndarray, " shown"]

    def examination(self) -> Examination:
        """An examination that has seen nothing yet."""
        network = checkpoints.load(self.first, **self.told).network
        return Examination(network, self.probe, method=self.method, options=self.options, targets=self.targets)

    def look(self, examination: Examination, network: Network, *, actions: bool) -> Look:
        """What a checkpoint's network yields.

        Raises: as `Examination.look` does.
        """
        return examination.look(network, judge=self.judge, actions_on=self.actions_on if actions else None)


def looks(
    planned: Iterable[Planned], questions: Questions, address: str, *, retries: int = 3
) -> Iterator[tuple[Planned, Look | None]]:
    """Each checkpoint in order with its look, None where none is needed.

    A process makes one examination and keeps it. A checkpoint whose process is lost is looked at again, `retries`
    times. Its file must have the same path on every machine of the cluster.

    Raises: what looking raises; ValueError when Ray is missing; ConnectionError when there is no cluster at the
    address; ChildProcessError when a checkpoint has lost all its processes.
    """
    with _connected(address) as ray:
        task = ray.remote(num_cpus=1, max_retries=retries)(_look)
        asked, waiting = ray.put(questions), deque[tuple[Planned, Any]]()
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        for one in planned:
            waiting.append((one, task.remote([asked], one.saved.path, one.actions) if one.needed else None))
            if len(waiting) == most:
                yield _result(ray, *waiting.popleft())
        while waiting:
            yield _result(ray, *waiting.popleft())


def _look(asked: list[Any], path: Path, actions: bool) -> Look:
    """One look, in a process of the cluster; the reference stands in a list so that it is fetched once only."""
    import ray  # noqa: PLC0415 - an extra

    (reference,) = asked
    questions: Questions = ray.get(reference)
    examination = _examinations.get(reference.hex())
    if examination is None:
        torch.set_num_threads(1)  # there is a process per core
        _examinations.clear()
        examination = _examinations[reference.hex()] = questions.examination()
    network = checkpoints.load(path, **questions.told).network
    return questions.look(examination, network, actions=actions)


def _result(ray: Any, one: Planned, reference: Any) -> tuple[Planned, Look | None]:
    if reference is None:
        return one, None
    try:
        return one, ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise ChildProcessError(
            f"{one.saved.path} must be looked at by a process of the cluster, and all that tried were lost "
            f"({type(error).__name__}): give them more memory, or leave --ray out"
        ) from error


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected; a cluster that is there already is used and left as it is."""
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("--ray needs Ray, which is not installed: pip install 'rlwatch[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless asked for
    alone = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, log_to_driver=False, logging_level="warning", **alone)
    except ray.exceptions.RayError as error:
        raise ConnectionError(
            f"expected a Ray cluster at {address}, got none ({error}): `ray status` says more"
        ) from error
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the cluster's processes have the cores
    try:
        yield ray
    finally:
        torch.set_num_threads(threads)
        ray.shutdown()
