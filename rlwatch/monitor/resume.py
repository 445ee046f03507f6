"""Which of the checkpoints that are to be explained a log has already, and what it says of them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from rlwatch.atari.probe import Probe
from rlwatch.checkpoints import Checkpoint
from rlwatch.measures.relevance import ObjectRelevance
from rlwatch.monitor.baseline import Baseline
from rlwatch.monitor.comparison import Past
from rlwatch.monitor.gathering import shown_frames
from rlwatch.monitor.schedule import is_sparse
from rlwatch.report import plainly
from rlwatch.tensorboard.blobs import rounded
from rlwatch.tensorboard.runs import EVERY_CHECKPOINT, UNMEASURED, Run, history, newest_scales, read_run


@dataclass(frozen=True)
class Planned:
    """A checkpoint. `logged`: the log has it. `needed`: it must be looked at, if only for the drift of the next one.

    `actions`: it gets the maps of every action.
    """

    saved: Checkpoint
    logged: bool
    needed: bool
    actions: bool = False


@dataclass(frozen=True)
class Log:
    """A run that was logged before, the steps of its checkpoints, and the colour scale of each target's clips."""

    run: Run
    steps: frozenset[int]
    scales: Mapping[str, float] = field(default_factory=dict)

    def plan(self, saved_ones: Iterable[Checkpoint], full: int) -> Iterator[Planned]:
        """Each checkpoint with what is to be done about it; `full`, as of `is_sparse`, of those with all actions' maps.

        Raises: ValueError when the log's newest checkpoint is another file than the one of the same step here.
        """
        for index, (one, following) in enumerate(pairwise(chain(saved_ones, [None]))):
            assert one is not None  # noqa: S101 - only the last one is
            self._check_file(one)
            logged = one.step in self.steps
            needed = not logged or (following is not None and following.step not in self.steps)
            yield Planned(one, logged, needed, not logged and (following is None or is_sparse(index, full)))

    def check(self, probe: Probe, method: object, options: Mapping[str, Any]) -> None:
        """Raises: ValueError when the log is of another probe, or of another method or keywords of it.

        So it is where what the user has named stands elsewhere now. One that had to take the method's `fallback` is
        none of another. A method without a name is not checked.
        """
        logged = self.run.report
        wanted = {"probe": probe.digest}
        if isinstance(method, str) and logged.get("method") != options.get("fallback", ""):
            wanted |= {"method": method, "options": rounded(plainly(options))}
        for word, value in wanted.items():
            found = logged.get(word, value)
            if found != value:
                raise ValueError(f"{self.run.folder} holds another {word}, {found}, got {value}: choose another logdir")
        moved = self._moved(probe)
        if moved:
            raise ValueError(
                f"{self.run.folder} holds another {', '.join(moved)} than {probe.edits and probe.edits.source} names: "
                "give what is elsewhere now another name, or choose another logdir"
            )

    def past(self, targets: Iterable[str], names: Iterable[str]) -> Past:
        """What findings and clips go on from."""
        targets, names = list(targets), list(names)
        objects = {step: self.objects(step, targets, names) for step in sorted(self.steps)}
        return Past(objects, self.scales, self._baseline(targets, names) if objects else {})

    def objects(self, step: int, targets: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, ObjectRelevance]]:
        """What the log says of a checkpoint, per target and object."""
        names = list(names)
        return {
            target: {name: history(self.run, target, name).get(step, UNMEASURED) for name in names}
            for target in targets
        }

    def _baseline(self, targets: Iterable[str], names: Sequence[str]) -> Baseline:
        """What the newest report says of untrained networks; nothing where it lacks a target or an object."""
        told = self.run.report.get("untrained", {})
        try:
            return {target: {name: _measured(told[target][name]) for name in names} for target in targets}
        except (KeyError, TypeError):
            return {}

    def _moved(self, probe: Probe) -> list[str]:
        """What the user has named that the log knows by this name, but in other places of the frames shown."""
        if probe.edits is None or not self.steps:
            return []
        boxes = probe.boxes()
        frames = list(zip(self.run.boxes, [boxes[index] for index in shown_frames(probe)], strict=False))
        named = [*probe.edits.objects, *probe.edits.regions]
        known = [name for name in named if any(name in then for then, _ in frames)]
        return [name for name in known if any(then.get(name, []) != list(map(list, now[name])) for then, now in frames)]

    def _check_file(self, saved: Checkpoint) -> None:
        told, here = Path(str(self.run.report.get("checkpoint", ""))).parts, saved.path.parts
        common = min(len(told), len(here))
        if saved.step == self.run.report.get("step") and common and told[-common:] != here[-common:]:
            raise ValueError(
                f"{self.run.folder} holds step {saved.step} of {Path(*told)}, got {saved.path}: choose another --logdir"
            )


def _measured(told: Mapping[str, Any]) -> ObjectRelevance:
    """What a report's JSON says of an object; what is null there was NaN."""
    values: dict[str, Any] = {name: math.nan if value is None else value for name, value in told.items()}
    return ObjectRelevance(**values)


def read_log(folder: Path | None, *, judged: bool = False, before: int | None = None, target: str | None = None) -> Log:
    """The log in a folder, empty where there is none.

    `judged`: count only checkpoints whose maps were checked; `before`: only those before this step; `target`: only
    those of which it was explained. A checkpoint that a crash left half written does not count.
    """
    if folder is None or not any(folder.glob("*tfevents*")):
        return Log(Run(folder or Path(), {}, {}, {}), frozenset())
    run = read_run(folder)
    steps = _steps(run, EVERY_CHECKPOINT)
    if judged:
        steps &= set().union(*(_steps(run, tag) for tag in run.scalars if tag.startswith("rlwatch/validity/")))
    if target is not None:
        steps &= _steps(run, f"rlwatch/map/{target}/score")
    newest = run.report.get("step")
    counted = (step for step in steps if newest is None or step <= newest)
    return Log(
        run,
        frozenset(step for step in counted if before is None or step < before),
        newest_scales(folder, before=before),
    )


def _steps(run: Run, tag: str) -> set[int]:
    return set(run.scalars[tag][0].tolist()) if tag in run.scalars else set()
