"""Looks at many checkpoints at once, on a Ray cluster."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from rlwatch.monitor.baseline import Baseline, merged
from rlwatch.monitor.comparison import Look
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.resume import Planned
from rlwatch.questions import Questions, figures_of, look_at, part_of, twin

AHEAD = 4
"""Checkpoints per core that are under way: enough to keep each busy, few enough for their maps to fit in memory."""
RETRIES = 3
"""Times that a checkpoint is looked at again after its process was lost."""

Looked = tuple[Planned, Look | str | None]
"""A checkpoint with its look, None where none is needed, or why there can be none."""


class Alone:
    """Examines in this process."""

    def __init__(self, questions: Questions) -> None:
        self._questions, self._baselines = questions, dict[str, Baseline]()

    def looks(self, planned: Iterable[Planned]) -> Iterator[Looked]:
        """Each checkpoint in order with its look, None where none is needed, or why there can be none.

        Raises: what looking raises, but ValueError.
        """
        return map(self._looked, planned)

    def baseline(self, one: Planned) -> Baseline:
        """What freshly drawn networks say that are as the checkpoint's, whose look has come back."""
        saved = one.saved
        if saved.kind not in self._baselines:
            self._baselines[saved.kind] = self._questions.examination.untrained_baseline(saved.network)
        return self._baselines[saved.kind]

    def _looked(self, one: Planned) -> Looked:
        try:
            return one, self._questions.look(one.saved.network, actions=one.actions) if one.needed else None
        except ValueError as error:
            return one, f"{one.saved.path}: {error}"


class Cluster:
    """Examines in the processes of a Ray cluster, each of which fetches the questions once.

    What a process that is lost was about is done again. Checkpoints must have the same path on every machine. Each is
    one piece of work; where there are fewer than cores, or the method is a costly one, each batch of the probe is one,
    and so are the checks on the maps. `count`: of checkpoints.
    """

    def __init__(self, questions: Questions, ray: Any, count: int) -> None:
        self._questions, self._ray, self._asked = questions, ray, [ray.put(questions.sent())]
        # one remote function per task: those of one are begun in their order, in processes that are kept for them
        self._remote = cache(ray.remote(num_cpus=1, max_retries=RETRIES))
        self._cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._split = count < self._cores or questions.costly
        self._twins: dict[str, list[Any]] = {}

    def looks(self, planned: Iterable[Planned]) -> Iterator[Looked]:
        """As of `Alone`.

        Raises: as there; ChildProcessError when a checkpoint has lost all its processes.
        """
        waiting = deque[tuple[Planned, Any]]()
        for one in planned:
            kind = one.saved.kind
            if not (one.logged or kind in self._twins):
                self._twins[kind] = [self._begun(twin, one.saved.path, number) for number in range(Examination.twins)]
            waiting.append((one, self._begun_look(one) if one.needed else None))
            if len(waiting) == AHEAD * self._cores:
                yield self._looked(*waiting.popleft())
        while waiting:
            yield self._looked(*waiting.popleft())

    def baseline(self, one: Planned) -> Baseline:
        """As of `Alone`, by the first checkpoint of its kind: all of them are drawn anew alike.

        Raises: as `looks` does.
        """
        return merged([self._result(drawn, "an untrained network") for drawn in self._twins[one.saved.kind]])

    def _begun(self, task: Any, *about: Any) -> Any:
        return self._remote(task).remote(self._asked, *about)

    def _begun_look(self, one: Planned) -> Any:
        found, path = [], one.saved.path
        if self._split:
            judged = self._begun(figures_of, path) if self._questions.judge else None
            found = [judged, *(self._begun(part_of, path, begin) for begin in self._questions.examination.batches)]
        return self._begun(look_at, path, one.actions, *found)

    def _looked(self, one: Planned, reference: Any) -> Looked:
        try:
            return one, None if reference is None else self._look(one, reference)
        except ValueError as error:
            return one, f"{one.saved.path}: {error}"

    def _look(self, one: Planned, reference: Any) -> Look:
        try:
            look: Look = self._result(reference, one.saved.path)
        except ValueError:
            if not self._split:
                raise
            look = self._result(self._begun(look_at, one.saved.path, one.actions), one.saved.path)  # of all batches
        return look

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
