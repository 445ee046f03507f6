"""The monitor: when is a checkpoint due, what does it cost, what if it fails."""

import math
import os
import reprlib
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, SupportsFloat

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle
from torch.utils.tensorboard import SummaryWriter

from rlwatch.atari.probe import Probe
from rlwatch.attribution.inputs import Observe
from rlwatch.monitor.asking import Network
from rlwatch.monitor.attaching import check_game, check_settings, first_step, loaded, past, untouched_generators, whole
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.faults import Fault, Faults
from rlwatch.monitor.ledger import Ledger
from rlwatch.monitor.logbook import Job
from rlwatch.monitor.matching import behind
from rlwatch.monitor.places import Destination, opened
from rlwatch.monitor.schedule import Schedule, Step, is_sparse, whole_step
from rlwatch.report import Finding, Report
from rlwatch.tensorboard.blobs import ACTIONS_LOGGED
from rlwatch.unwrap import after_each_step, check_updates, is_first_rank, stepping, uncompiled, unwrapped

PATIENCE = 300.0
"""Seconds that the end of a training waits for its last checkpoint."""

CLOSED = "the monitor must be open, it was closed: attach a new Watch to go on"


class Watch:
    """Explains a Q-network while it trains, and logs what it looks at to TensorBoard.

    `q_network`: the callable that the training uses, as it stands. `probe`: a game whose probe ships with the package,
    a probe file, or a Probe. `logdir` or `writer`: where to log; an existing SummaryWriter is shared and never closed.
    `game`: the game that is trained on, checked against the probe's. `total_steps`: the training's length in agent
    steps, where it is known, so that checkpoints stand evenly. `budget`: part of the wall clock that the monitor may
    use, `every`: a distance in steps instead. The first and the last checkpoint get everything, those between what is
    costly (checks on the maps, maps of every action) where the budget has room. `observe`: from the probe's uint8
    frames (probe, stack, y, x) to what the network takes, asked anew each time; found by trial if left out. `method`
    and its keywords `options`: as of `explain`. `purge_step`: the step that a resumed training goes on from; the log
    before it is read, and findings go on. A SummaryWriter of your own is to be told it, too. `seed`: of the untrained
    networks, the intervals and the checks.

    `where`: "inline" makes each checkpoint here and now while the training waits, and a call returns its Report.
    "process" makes it in a process of its own while the training goes on: a call hands over the weights, in
    milliseconds, and returns the Report that has come back since; while that process is busy no step is due.

    Attaching raises what is wrong; from then on nothing is raised: a fault is logged once, with its reason, and the
    training goes on. Weights, gradients, mode, buffers and random generators stay as they were, bit for bit. `with
    Watch(...) as watch:` closes it at the end of the block.

    Raises: ValueError, TypeError when network, probe, game or settings do not fit; FileNotFoundError when there is no
    such probe; OSError when the log folder cannot be written; NotImplementedError when the network holds an operation
    for which the method knows no rule.
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
        options: Mapping[str, Any] | None = None,
        observe: Observe | None = None,
        where: str = "inline",
        purge_step: int | None = None,
        seed: int = 0,
    ) -> None:
        check_settings(where, seed, logdir, options, observe)
        purge_step = first_step(purge_step)
        self._schedule = Schedule(budget=budget, total_steps=total_steps, every=every)
        self._logs, self._process = is_first_rank(), os.getpid()
        probe = loaded(probe)
        check_game(probe, game)
        self._first_step = purge_step or 0
        with untouched_generators():
            self._network, observe = behind(q_network, observe, probe)
            settings = {"probe": probe, "method": method, "options": options or {}, "observe": observe, "seed": seed}
            examination = Examination(unwrapped(self._network), **settings)
        self._full = ACTIONS_LOGGED // examination.action_count
        self._faults, pages = Faults(), None
        if self._logs:
            destination = Destination(None if logdir is None else Path(logdir).absolute(), writer, purge_step)
            before = past(destination.folder, self._first_step, examination)
            self._schedule.last_step = max(before.objects, default=-math.inf)
            self._place, pages = opened(where, examination, settings, destination, before)
        self._ledger = Ledger(pages, self._faults, self._schedule)
        self._handles: list[RemovableHandle] = []
        self._told, self._returns = -math.inf, math.nan
        self._last: Report | None = None
        self._closed, self._patience, self._alone = False, PATIENCE, RLock()
        self._schedule.spent = self._schedule.age  # attaching takes time, too

    @uncompiled
    def __call__(self, step: Step) -> Report | None:
        """The checkpoint's Report where one was due at this agent step, else None."""
        if type(step) is int and self._schedule.pauses(step):
            return None
        began = time.perf_counter()
        number = self._heard(step)
        if number is None:
            return None
        if number < self._schedule.last_step:
            reason = "steps must rise, and have fallen behind the newest checkpoint's: none is made until they pass it"
            self._faults.tell(Fault(f"step {number:,}", reason))
        return self._look(number, began)

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """None, in copies and pickles of what holds a monitor: agents can be copied and saved as without it."""
        return type(None), ()

    def attach(
        self, optimizer: Optimizer, *, steps_per_update: Step = 1, first_step: Step | None = None
    ) -> RemovableHandle:
        """Watch after every update of this optimiser, with no edit of the loop; the handle's `remove()` ends it.

        `steps_per_update`: agent steps between two updates, so that the logged step is the agent's. `first_step`: the
        step that is counted from (default: the one that a resumed training goes on from). Where several optimisers
        update parts of the network, each may be attached: updates are counted for each by itself.

        Raises: TypeError when it is no optimiser; ValueError when it updates nothing of the network, or a number cannot
        be; RuntimeError when the monitor is closed.
        """
        if self._closed:
            raise RuntimeError(CLOSED)
        optimizer = stepping(optimizer)
        check_updates(optimizer, unwrapped(self._network))
        each = whole("steps_per_update", steps_per_update)
        if each < 1:
            raise ValueError(f"steps_per_update must be at least 1, got {each}: a step of the agent is 1")
        begin = self._first_step if first_step is None else whole("first_step", first_step)
        steps = count(begin + each, each)

        def updated() -> None:
            step = next(steps)
            if not (self._schedule.pauses(step) or self._elsewhere):
                self._look(step, time.perf_counter())

        handle = after_each_step(optimizer, updated)
        self._handles.append(handle)
        return handle

    @uncompiled
    def returns(self, step: Step, value: SupportsFloat) -> None:
        """Tell the monitor a return, in the game's points, and the step at which it was reached.

        Of those that were told, the one of the latest step is written beside the next checkpoint's clips.
        """
        number = self._heard(step)
        if number is None or number < self._told:
            return
        with self._faults.surviving(f"step {number:,} of a return"):
            self._told, self._returns = number, float(value.item() if hasattr(value, "item") else value)

    @uncompiled
    def finish(self, step: Step) -> Report | None:
        """The last checkpoint, with everything; None when this step has had one with everything."""
        number = self._heard(step)
        if number is None:
            return None
        with self._alone:
            self._settle()
            last = self._last
            if last is not None and last.step >= number and last.validity and last.all_actions:
                return None
            number = number if last is None else max(number, last.step)
            report, again = None, True
            while again and self._place.free:
                self._submit(number, judge=True, actions=True)
                report, again = self._settle(), self._place.lost
            return report

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, oldest first; the last one says so where nothing could be explained any more."""
        found = () if self._last is None else sorted(self._last.findings, key=lambda finding: finding.step)
        return (*found, *([] if self._ledger.ended is None else [self._ledger.ended]))

    @property
    def finding(self) -> str:
        """The newest finding, empty while there is none."""
        return self.findings[-1].text if self.findings else ""

    @property
    def cost(self) -> float:
        """The part of the wall clock since it was attached that the monitor has used so far, attaching included."""
        return self._schedule.fraction

    @property
    def closed(self) -> bool:
        """Whether `close` was called: from then on nothing is logged."""
        return self._closed

    @uncompiled
    def close(self) -> None:
        """Let go of the optimisers and of the log; a shared SummaryWriter stays open."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._closed or self._elsewhere:
            return
        self._closed = True
        self._schedule.wake()
        with self._alone, self._faults.surviving("its end"):
            self._settle()
            self._place.close()
            self._collect()
            self._ledger.close()

    def __enter__(self) -> "Watch":  # noqa: PYI034 - Python 3.10 has no Self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _elsewhere(self) -> bool:
        """Whether another process logs: the first rank, or the one that this was forked from."""
        return not self._logs or os.getpid() != self._process

    def _heard(self, step: object) -> int | None:
        """The step as a plain integer; None, which is noted where this process logs, if it cannot be used."""
        if self._elsewhere:
            return None
        reason = CLOSED
        if not self._closed:
            try:
                return whole_step(step)  # type: ignore[arg-type]  # what is none is noted
            except Exception as error:  # noqa: BLE001 - the monitor never harms the training
                reason = f"{type(error).__name__}: {error}"
        self._faults.tell(Fault(f"step {reprlib.repr(step)}", reason))
        return None

    def _look(self, step: int, began: float) -> Report | None:
        """The newest Report that has come back, after this step's has been asked for if it is due.

        None while another thread's call makes a checkpoint.
        """
        if not self._alone.acquire(blocking=False):
            return None
        try:
            return self._asked(step, began)
        finally:
            self._alone.release()

    def _asked(self, step: int, began: float) -> Report | None:
        spent = self._schedule.spent
        if self._place.free and self._schedule.due(step):
            first = self._last is None
            judge = first or self._schedule.room("validity")
            actions = first or (self._schedule.room("actions") and is_sparse(self._ledger.made, self._full))
            self._submit(step, judge=judge, actions=actions)
        report = self._collect() if self._place.waited_for else None
        if self._schedule.spent == spent and not self._place.busy:
            self._schedule.pause()
            self._schedule.spent += time.perf_counter() - began  # many calls at which nothing is due take time, too
        return report

    def _submit(self, step: int, *, judge: bool, actions: bool) -> None:
        schedule = self._schedule
        job = Job(step, self._returns, judge=judge, actions=actions, spent=schedule.spent, age=schedule.age)
        with self._faults.surviving(f"step {step:,}"), untouched_generators():
            self._place.renew(unwrapped(self._network))  # what lies around a compiled part may have changed
            self._place.submit(job)

    def _settle(self) -> Report | None:
        """The newest Report, once everything that was handed over has come back or patience has ended."""
        newest, waited = self._collect(), time.monotonic()
        while self._place.busy and self._patience > 0:
            newest = self._collect(wait=min(0.5, self._patience)) or newest
            now = time.monotonic()
            self._patience, waited = self._patience - (now - waited), now
        if self._place.busy:
            reason = f"its process must answer within {PATIENCE:.0f} s of the training's end, and has not"
            self._faults.tell(Fault("the last checkpoint that was due", reason))
        return newest

    def _collect(self, *, wait: float = 0.0) -> Report | None:
        """The newest Report that has come back."""
        newest = None
        with self._faults.surviving("a checkpoint that came back"):
            for outcome in self._place.outcomes(wait=wait):
                self._ledger.book(outcome)
                newest = outcome.report or newest
        self._last = newest or self._last
        return newest
