"""Looks at many checkpoints at once, on a Ray cluster."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from rlwatch.comparison import Baseline, Look
from rlwatch.examination import Examination, merged
from rlwatch.questions import Questions, look_at, twin
from rlwatch.resume import Planned

AHEAD = 4
"""Checkpoints per core that are under way: enough to keep each busy, few enough for their maps to fit in memory."""
RETRIES = 3
"""Times that a checkpoint is looked at again after its process was lost."""

Looked = tuple[Planned, Look | str | None]
"""A checkpoint with its look, None where none is needed, or why there can be none."""


class Alone:
    """Examines in this process."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    def looks(self, planned: Iterable[Planned]) -> Iterator[Looked]:
        """Each checkpoint in order with its look, None where none is needed, or why there can be none.

        Raises: what looking raises, but ValueError.
        """
        return map(self._looked, planned)

    def baseline(self) -> Baseline:
        """What freshly drawn networks say."""
        return self._questions.examination.untrained_baseline()

    def _looked(self, one: Planned) -> Looked:
        try:
            return one, self._questions.look(one.saved.network, actions=one.actions) if one.needed else None
        except ValueError as error:
            return one, f"{one.saved.path}: {error}"


class Cluster:
    """Examines in the processes of a Ray cluster, each of which fetches the questions once.

    What a process that is lost was about is done again. Checkpoints must have the same path on every machine.
    """

    def __init__(self, questions: Questions, ray: Any) -> None:
        self._ray, self._asked = ray, [ray.put(questions)]
        self._look_at, self._twin = map(ray.remote(num_cpus=1, max_retries=RETRIES), (look_at, twin))
        self._twins: list[Any] = []

    def looks(self, planned: Iterable[Planned]) -> Iterator[Looked]:
        """As of `Alone`.

        Raises: as there; ChildProcessError when a checkpoint has lost all its processes.
        """
        waiting = deque[tuple[Planned, Any]]()
        most = AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        for one in planned:
            if one.needed and not self._twins:
                self._twins = [self._twin.remote(self._asked, number) for number in range(Examination.twins)]
            begun = self._look_at.remote(self._asked, one.saved.path, one.actions) if one.needed else None
            waiting.append((one, begun))
            if len(waiting) == most:
                yield self._looked(*waiting.popleft())
        while waiting:
            yield self._looked(*waiting.popleft())

    def baseline(self) -> Baseline:
        """As of `Alone`.

        Raises: as `looks` does.
        """
        return merged([self._result(twin, "an untrained network") for twin in self._twins])

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
