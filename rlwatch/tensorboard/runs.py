"""What event files hold of a run that rlwatch watched, read by TensorBoard's own reader, without torch."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from rlwatch.folders import files_below
from rlwatch.measures.relevance import ObjectRelevance
from rlwatch.tensorboard.blobs import MAPS, PROBE, REPORT, parse, read_header, read_words
from rlwatch.tensorboard.events import read_events, unread

Series = tuple[Int[np.ndarray, " point"], Float[np.ndarray, " point"]]
"""The steps, which never fall, and the values of one tag."""

SUBFOLDER = "rlwatch"
"""Where a monitor's log stands inside of a run whose trainer keeps its own."""

EVERY_CHECKPOINT = "rlwatch/q/greedy"
"""A scalar that every checkpoint has, also one whose maps hold nothing to measure."""

UNMEASURED = ObjectRelevance(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, 0)

_ALL, _NEWEST = 0, 1
_logger = logging.getLogger("rlwatch")


@dataclass(frozen=True, eq=False)
class Run:
    """One run: its scalars by tag, the newest report as `rlwatch explain --json` prints it, its hyperparameters.

    `boxes`: those of each object on the frames that pictures show. The report is empty in logs that hold none, and so
    are hyperparameters and boxes.
    """

    folder: Path
    scalars: Mapping[str, Series]
    report: Mapping[str, Any]
    hparams: Mapping[str, float | str | bool]
    boxes: Sequence[Mapping[str, Any]] = ()


def read_runs(folder: Path) -> list[Run]:
    """The runs that rlwatch watched in a folder and all below it, by name.

    A run whose log stands in `rlwatch/` has the scalars of its trainer, too. One that is left out, since of its log
    nothing of rlwatch's can be read before a damage, is told on stderr.

    Raises: FileNotFoundError when there is no such folder; PermissionError when it cannot be looked into; ValueError
    when no run in it holds rlwatch's tags.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no run at {folder}: give the folder of a run, as TensorBoard's --logdir takes it")
    homes = sorted({file.parent for file in files_below(folder) if "tfevents" in file.name and file.is_file()})
    runs = [run for home in homes if _is_watched(run := read_run(home))]
    used = {home for run in runs for home in logs_of(run)}
    lost = [note for home in homes if home not in used for note in damages(home)]
    if runs:
        for note in lost:
            _logger.warning("rlwatch: left out: %s", note)
        return [_with_trainer(run) for run in runs]
    found = "; ".join(lost) or ("event files without them" if homes else "no event files")
    raise ValueError(
        f"expected a run with the tags rlwatch/lift/… in {folder}, got {found}: watch a training, or write one with "
        f"`rlwatch explain CHECKPOINT… --logdir {folder}`"
    )


def read_run(folder: Path) -> Run:
    """What the event files in a folder hold of a run; nothing where there are none."""
    # of tensors only the newest is kept: clips and maps would fill the memory
    kept = {"scalars": _ALL, "tensors": _NEWEST, "images": _NEWEST, "audio": _NEWEST, "histograms": _NEWEST}
    with quiet_restarts():
        log = EventAccumulator(str(folder), size_guidance=kept).Reload()
    scalars = {tag: _series(log, tag) for tag in log.Tags()["scalars"]}
    return Run(folder, scalars, _report(log), dict(_hparams(log)), _boxes(log))


def logs_of(run: Run) -> list[Path]:
    """The folders whose event files a run is read from: its own and its trainer's."""
    return [run.folder, *([run.folder.parent] if run.folder.name == SUBFOLDER else [])]


def method_of(run: Run) -> str:
    """The method of the newest report with its keywords, as in `integrated_gradients (steps=8)`."""
    options = ", ".join(f"{name}={value}" for name, value in sorted(run.report.get("options", {}).items()))
    return f"{run.report['method']} ({options})" if options else str(run.report["method"])


def damages(folder: Path) -> Iterator[str]:
    """What is missing of a run, since records within its event files are damaged."""
    for file in sorted(filter(Path.is_file, folder.glob("*tfevents*"))):
        if lost := unread(file):
            yield (
                f"{file}: what its last {lost:,} bytes hold is missing here, since a record before them is damaged; "
                "copy the file again from where it was written"
            )


@contextmanager
def quiet_restarts() -> Iterator[None]:
    """TensorBoard says nothing of steps that a resumed training hides: we hide them on purpose."""
    logger = logging.getLogger("tensorboard")

    def is_other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Detected out of order event.step")

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def newest_scales(folder: Path, *, before: int | None = None) -> dict[str, float]:
    """Each target's colour scale at the newest checkpoint, or the newest before a step; empty where there is none."""
    found: dict[int, Mapping[str, float]] = {}
    for file in sorted(folder.glob("*tfevents*")):
        for event in read_events(file):
            if event.HasField("session_log"):  # a training that went on from there
                found = {step: scales for step, scales in found.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == MAPS:
                    found[event.step] = read_header(value.tensor.string_val[0])["scale"]
    steps = [step for step in found if before is None or step < before]
    return dict(found[max(steps)]) if steps else {}


def history(run: Run, target: str, name: str) -> dict[int, ObjectRelevance]:
    """By step, the lift of an object and its interval, all else NaN; of a step that was written twice the newest."""
    lift, low, high = (_by_step(run, f"rlwatch/{kind}/{target}/{name}") for kind in ("lift", "lift_low", "lift_high"))
    return {
        step: replace(UNMEASURED, lift=value, low=low.get(step, math.nan), high=high.get(step, math.nan))
        for step, value in lift.items()
    }


def _by_step(run: Run, tag: str) -> dict[int, float]:
    return dict(zip(*(column.tolist() for column in run.scalars[tag]), strict=True)) if tag in run.scalars else {}


def _is_watched(run: Run) -> bool:
    return EVERY_CHECKPOINT in run.scalars or any(tag.startswith("rlwatch/lift/") for tag in run.scalars)


def _with_trainer(run: Run) -> Run:
    _, *outer = logs_of(run)
    if not outer or not any(outer[0].glob("*tfevents*")):
        return run
    trainer = read_run(outer[0])
    return replace(run, scalars={**trainer.scalars, **run.scalars}, hparams={**trainer.hparams, **run.hparams})


def _series(log: EventAccumulator, tag: str) -> Series:
    events = log.Scalars(tag)
    steps = np.array([event.step for event in events], int)
    order = np.argsort(steps, kind="stable")
    return steps[order], np.array([event.value for event in events], float)[order]


def _report(log: EventAccumulator) -> Mapping[str, Any]:
    if REPORT not in log.Tags()["tensors"]:
        return {}
    return parse(log.Tensors(REPORT)[-1].tensor_proto.string_val[0])


def _boxes(log: EventAccumulator) -> Sequence[Mapping[str, Any]]:
    if PROBE not in log.Tags()["tensors"]:
        return ()
    try:
        return list(parse(read_words(log.Tensors(PROBE)[-1].tensor_proto.string_val[0])).get("boxes", []))
    except ValueError:  # of another version
        return ()


def _hparams(log: EventAccumulator) -> Iterator[tuple[str, float | str | bool]]:
    metadata = log.summary_metadata.get("_hparams_/session_start_info")
    if metadata is None:
        return
    stored = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    for name, value in stored.items():
        yield name, getattr(value, value.WhichOneof("kind"))
