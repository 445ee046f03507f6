"""The monitor: when is a checkpoint due, what does it cost, what if it fails."""

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle
from torch.utils.tensorboard import SummaryWriter

from rlwatch.atari.names import plain
from rlwatch.atari.probe import Probe
from rlwatch.attribution.inputs import Observe
from rlwatch.clips import ClipMaker
from rlwatch.examination import Examination, Network
from rlwatch.report import Finding, Report
from rlwatch.schedule import Schedule
from rlwatch.tensorboard.writer import RunWriter

log = logging.getLogger("rlwatch")


class Watch:
    """Explains a Q-network while it trains, and logs what it looks at to TensorBoard.

    `q_network`: the callable that the training uses, as it stands. `probe`: a game whose probe ships with the package,
    a probe file, or a Probe. `logdir` or `writer`: where to log; an existing SummaryWriter is shared and never closed.
    `game`: the game that is trained on, checked against the probe's. `total_steps`: the training's length in agent
    steps, where it is known, so that checkpoints stand evenly. `budget`: part of the wall clock that the monitor may
    use, `every`: a distance in steps instead. `observe`: from the probe's uint8 frames (probe, stack, y, x) to what the
    network takes; found by trial if left out. `purge_step`: the step that a resumed training goes on from.

    Attaching raises what is wrong; from then on nothing is raised: a fault is logged once, with its reason, and the
    training goes on. Weights, gradients, mode, buffers and random generators stay as they were, bit for bit.

    Raises: ValueError when network, probe, game or settings do not fit; FileNotFoundError when there is no such probe;
    OSError when the log folder cannot be written.
    """

    def __init__(
        self,
        q_network: Network,
        probe: str | Path | Probe,
        *,
        logdir: str | Path | None = None,
        writer: SummaryWriter | None = None,
        game: str | None = None,
        total_steps: int | None = None,
        budget: float = 0.01,
        every: int | None = None,
        method: Any = "epsilon_gamma_box",
        observe: Observe | None = None,
        purge_step: int | None = None,
        seed: int = 0,
    ) -> None:
        self._schedule = Schedule(budget=budget, total_steps=total_steps, every=every)
        probe = probe if isinstance(probe, Probe) else Probe.load(probe)
        _check_game(probe, game)
        self._finite = True
        with _untouched_generators():
            self._examination = Examination(q_network, probe, method=method, observe=observe, seed=seed)
        self._clips = ClipMaker(probe)
        self._writer = RunWriter(writer, None if logdir is None else Path(logdir), purge_step)
        self._handles: list[RemovableHandle] = []
        self._faults: set[str] = set()
        self._returns = float("nan")
        self._last: Report | None = None
        self._updates = 0

    def __call__(self, step: int) -> Report | None:
        """The checkpoint's Report where one was due at this agent step, else None."""
        return self._checkpoint(step) if self._schedule.due(step) else None

    def attach(self, optimizer: Optimizer, *, steps_per_update: int = 1) -> RemovableHandle:
        """Watch after every update of this optimiser, with no edit of the loop; the handle's `remove()` ends it.

        `steps_per_update`: agent steps between two updates, so that the logged step is the agent's.
        """

        def after_update(*_: object) -> None:
            self._updates += 1
            self(self._updates * steps_per_update)

        handle = optimizer.register_step_post_hook(after_update)
        self._handles.append(handle)
        return handle

    def returns(self, step: int, value: float) -> None:
        """Tell the monitor a return, in the game's points; it is written beside the next checkpoint's clips."""
        del step
        self._returns = float(value)

    def finish(self, step: int) -> Report | None:
        """The last checkpoint, with everything; None when this step has had one with everything."""
        if self._last is None or self._last.step < step:
            return self._checkpoint(step, last=True)
        return None if self._last.validity else self._complete(self._last)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, oldest first."""
        return () if self._last is None else tuple(sorted(self._last.findings, key=lambda finding: finding.step))

    @property
    def finding(self) -> str:
        """The newest finding, empty while there is none."""
        return self.findings[-1].text if self.findings else ""

    @property
    def cost(self) -> float:
        """The part of the wall clock that the monitor has used so far."""
        return self._schedule.fraction

    def close(self) -> None:
        """Let go of the optimisers and of the log; a shared SummaryWriter stays open."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        try:
            self._writer.close()
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note_fault(error, "closing its log")

    def _checkpoint(self, step: int, *, last: bool = False) -> Report | None:
        began = time.perf_counter()
        once = 0.0
        try:
            with _untouched_generators():
                once = self._first_time(began)
                report = self._examination.report(step, returns=self._returns)
                if last or self._last is None or self._schedule.room():
                    report = self._judged(report)
                self._write(report)
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note_fault(error, f"step {step:,}")
            report = None
        spent = time.perf_counter() - began
        costly = report.cost.get("validity", 0.0) if report else 0.0
        self._schedule.pay(step, spent - once - costly)
        self._schedule.pay(step, once, recurring=False)
        self._schedule.pay_costly(costly)
        self._last = report or self._last
        return report

    def _judged(self, report: Report) -> Report:
        """The report with the costly checks on its maps, without them where they fail."""
        try:
            return self._examination.judged(report)
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note_fault(error, f"step {report.step:,} about the validity of the maps")
            return report

    def _complete(self, report: Report) -> Report | None:
        """Add what the last checkpoint lacks; None where it cannot be had."""
        with _untouched_generators():
            self._last = self._judged(report)
        if not self._last.validity:
            return None
        self._schedule.pay_costly(self._last.cost["validity"])
        try:
            self._writer.checkpoint(self._last, {})
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note_fault(error, f"step {report.step:,}")
        return self._last

    def _first_time(self, began: float) -> float:
        """Measure the baseline and lay out the dashboard before the first report; the seconds that this took."""
        if self._examination.baseline or self._last is not None:
            return 0.0
        self._examination.untrained_baseline()
        self._writer.layout(list(self._examination.objects))
        return time.perf_counter() - began

    def _write(self, report: Report) -> None:
        maps = self._examination.maps
        assert maps is not None  # noqa: S101 - report() has just set it
        began = time.perf_counter()
        clips = self._clips.draw(report, maps)
        blobs = self._clips.blobs(maps)
        drawn = time.perf_counter()
        self._writer.checkpoint(report, clips, blobs)
        costs = {"draw": drawn - began, "write": time.perf_counter() - drawn, "fraction": self._schedule.fraction}
        self._writer.scalars(report.step, {f"rlwatch/cost/{part}": value for part, value in costs.items()})

    def _note_fault(self, error: Exception, where: str) -> None:
        reason = f"{type(error).__name__}: {error}"
        if reason not in self._faults:
            self._faults.add(reason)
            log.warning("rlwatch: nothing was logged at %s (%s); training goes on", where, reason)


def _check_game(probe: Probe, game: str | None) -> None:
    if game is not None and plain(game) != plain(probe.game):
        raise ValueError(
            f"the probe is of {probe.game}, the training of {game}: give probe={game!r}, or make one with "
            f"`rlwatch record {game} --out FILE`"
        )


@contextmanager
def _untouched_generators() -> Iterator[None]:
    """Put the global random generators back as they were: they belong to the training."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the training's own, kept as it is
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - the same
