"""A process of its own that keeps the logbook while the training goes on.

The training's side is `Worker`, the other one `serve`. A job travels only while the worker is free: so nothing queues
up, nothing waits, and the weights are always those of the job's step.
"""

import contextlib
import os
import pickle
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing.connection import Connection, Pipe
from typing import Any

import cloudpickle
import torch

from rlwatch.monitor.asking import Network
from rlwatch.monitor.comparison import Past
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.faults import Fault
from rlwatch.monitor.logbook import Job, Logbook, Outcome, Page, ending, write
from rlwatch.monitor.process import cores, launched, seconds_of_all
from rlwatch.monitor.travel import Form, Hold, form, pack, read_file, shared_file, unpack
from rlwatch.report import Finding, Report
from rlwatch.tensorboard.writer import RunWriter

LIVES = 2
LOOK = 0.02
"""Seconds between two looks at the worker."""

HEARTBEAT = 5.0
"""Seconds between two looks at whether the training is alive."""

NICENESS = 10


@dataclass(frozen=True)
class Letter:
    """What a worker starts with; `past`, `reports` and `ended` came before it, so that findings and onsets go on.

    `numbers`: the type of the floats that the training makes where it names none.
    """

    structure: bytes
    forms: list[Form]
    settings: Mapping[str, Any]
    log: Mapping[str, Any] | None
    past: Past
    reports: tuple[Report, ...] = ()
    ended: Finding | None = None
    numbers: torch.dtype = field(default_factory=torch.get_default_dtype)


class Worker:
    """Makes checkpoints in another process, which starts at once, and once again if it dies.

    `settings` are those of Examination besides the network; `log` those of RunWriter, None where the pages are written
    by whoever has the writer. `past`: what a log says of earlier checkpoints. A second of the worker's processor counts
    as one of the training's divided by the number of cores: a training that uses them all can lose no more. `lost`:
    whether the last job was lost with the process that was at it, while another one takes jobs.

    Raises: TypeError, ValueError when the network cannot be sent.
    """

    def __init__(
        self, network: Network, settings: Mapping[str, Any], log: Mapping[str, Any] | None, past: Past | None = None
    ) -> None:
        self._network, self._settings, self._log, self._past = network, settings, log, past or Past()
        self._lives, self.lost = LIVES, False
        self._done: list[Outcome] = []
        self._reports: list[Report] = []
        self._job: Job | None = None
        self._ended: Finding | None = None  # as the log says it
        self._unsent: Finding | None = None
        self._submitting = self._looked = 0.0
        self._start()

    @property
    def busy(self) -> bool:
        """Whether a job is being done."""
        return self._job is not None

    @property
    def free(self) -> bool:
        """Whether it takes a job now."""
        return not self.busy and self._lives > 0

    @property
    def waited_for(self) -> bool:
        """Whether something has become of a job that nobody has asked for, or will."""
        return self.busy or bool(self._done)

    def renew(self, network: Network) -> None:
        """Look at this network from now on."""
        self._network = network

    def submit(self, job: Job) -> None:
        """Hand over a job, with the weights as they are now; the worker must be free."""
        began = time.perf_counter()
        self._job, self.lost = job, False
        with self._uninterrupted():
            try:
                self._send(job)
            except OSError:
                self._died()
            except (TypeError, ValueError) as error:
                self._unsent = self._unsent or self._ending(error)[0]
                self._fail(f"{type(error).__name__}: {error}")
        self._submitting = time.perf_counter() - began

    def outcomes(self, *, wait: float = 0.0) -> Iterator[Outcome]:
        """What has become of the job, if it is done; if not, it is waited for as many seconds."""
        if self._job is not None and (wait or time.monotonic() - self._looked >= LOOK):
            self._looked = time.monotonic()
            self._look(wait)
        while self._done:
            outcome = self._done.pop(0)
            yield replace(outcome, seconds=outcome.seconds + self._submitting)

    def close(self, *, patience: float = 10.0) -> None:
        """End the process, which may finish what it is at within so many seconds, else that is lost."""
        self._end(patience)
        self._lives = 0
        if self._job is not None and self._process.returncode:
            self._fail("the worker has not answered until the end")

    def _end(self, patience: float) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)  # what was forked from the training may hold the pipe open
        self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._structure, tensors = pack(self._network)
        forms = [form(tensor) for tensor in tensors]
        memory = shared_file(sum(one.size for one in forms))
        self._hold = Hold(memory, forms)
        self._hold.load(tensors)
        before = self._past, tuple(self._reports), self._ended
        letter = Letter(self._structure, forms, self._settings, self._log, *before)
        content = cloudpickle.dumps(letter)
        post = shared_file(len(content), content)
        self._pipe, theirs = Pipe()
        self._process = launched(post, memory, theirs.fileno())
        theirs.close()
        for descriptor in (post, memory):
            os.close(descriptor)

    def _send(self, job: Job) -> None:
        """Raises: OSError when the worker is gone; TypeError, ValueError when the network cannot be sent any more."""
        structure, tensors = pack(self._network)
        if [form(tensor) for tensor in tensors] != self._hold.forms:
            self._end(patience=0.0)
            self._start()
            structure, tensors = pack(self._network)
        self._hold.load(tensors)
        self._pipe.send((job, None if structure == self._structure else structure))
        self._structure = structure

    def _look(self, wait: float) -> None:
        with self._uninterrupted():
            try:
                if not self._pipe.poll(wait):
                    return
                outcome: Outcome = self._pipe.recv()
            except (EOFError, OSError):
                self._died()
                return
        self._job, self._ended, self._unsent = None, outcome.ended, None
        self._done.append(outcome)
        if outcome.report is not None:  # what the next worker goes on from: a second purge would hide this report
            self._reports.append(outcome.report)
            self._past = replace(self._past, scales=outcome.scales)
            self._log = self._log and {**self._log, "purge_step": None}

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """What comes between, such as Ctrl-C, may leave half a message or none: the next look starts a worker anew."""
        try:
            yield
        except BaseException:
            self._pipe.close()
            raise

    def _died(self) -> None:
        self._end(patience=1.0)
        self._lives -= 1
        reason = f"the worker died with status {self._process.returncode}"
        try:
            if self._lives:
                self._start()
        except (OSError, TypeError, ValueError) as error:
            self._lives = 0
            reason += f", and none starts: {error}"
        self.lost = self._lives > 0
        self._fail(f"{reason}: {'a new one has started' if self._lives else 'nothing more will be logged'}")

    def _fail(self, reason: str) -> None:
        assert self._job is not None  # noqa: S101 - only a job can fail
        page = None
        if not self._lives and self._ended is None:
            self._ended, page = self._ending(RuntimeError(reason))
        faults = (Fault(f"step {self._job.step:,}", reason),)
        self._done.append(Outcome(self._job, None, 0.0, faults=faults, page=page, ended=self._ended or self._unsent))
        self._job = None

    def _ending(self, error: Exception) -> tuple[Finding, Page | None]:
        assert self._job is not None  # noqa: S101 - only a job can fail
        return ending(next(reversed(self._reports), None), self._job.step, error)


def serve(post: int, memory: int, pipe: int, training: int) -> None:
    """Does the jobs that come through the pipe until the process `training` has no more; the other end of `Worker`."""
    os.nice(NICENESS)
    torch.set_num_threads(1)
    letter: Letter = pickle.loads(read_file(post))  # noqa: S301 - from the training's own process
    torch.set_default_dtype(letter.numbers)
    desk, connection = _Desk(letter, memory), Connection(pipe)
    with contextlib.suppress(EOFError, OSError):  # the training has gone
        for job in _jobs(connection, training):
            connection.send(desk.outcome(*job))
    desk.close()


def _jobs(connection: Connection, training: int) -> Iterator[tuple[Job, bytes | None]]:
    """What comes through the pipe until None does, or the training is no longer this process's parent."""
    while os.getppid() == training:
        if connection.poll(HEARTBEAT):
            job = connection.recv()
            if job is None:
                return
            yield job


class _Desk:
    """The logbook at the worker's end; it opens with the first job."""

    def __init__(self, letter: Letter, memory: int) -> None:
        self._letter, self._hold = letter, Hold(memory, letter.forms)
        self._tensors = self._hold.empty()
        self._examination: Examination | None = None
        self._ended = letter.ended
        self._logbook: Logbook | None = None

    def outcome(self, job: Job, structure: bytes | None) -> Outcome:
        """What becomes of a job."""
        began = seconds_of_all() if self._logbook else 0.0
        self._hold.fetch(self._tensors)
        try:
            logbook = self._opened(structure)
        except Exception as error:  # noqa: BLE001 - told to the training's side, which tells the user
            fault = Fault(f"step {job.step:,}", f"{type(error).__name__}: {error}")
            page = self._last_page(job.step, error)
            return Outcome(job, None, 0.0, faults=(fault,), page=page, ended=self._ended)
        opening = 0.0 if began else seconds_of_all()
        outcome = logbook.add(replace(job, spent=job.spent + opening))
        return replace(
            outcome,
            job=job,
            seconds=seconds_of_all() - began,
            once=opening + outcome.once,
            costly={part: seconds / cores() for part, seconds in outcome.costly.items()},
        )

    def close(self) -> None:
        """Close the log."""
        if self._logbook is not None:
            self._logbook.close()

    def _last_page(self, step: int, error: Exception) -> Page | None:
        """Nothing, once the last report says that nothing could be explained since; its page for another's writer."""
        if self._ended is not None:
            return None
        self._ended, page = ending(next(reversed(self._letter.reports), None), step, error)
        with contextlib.suppress(OSError):  # the fault is told all the same
            if page is None or self._writer is None:
                return page
            write(self._writer, page)
        return None

    @cached_property
    def _writer(self) -> RunWriter | None:
        return None if self._letter.log is None else RunWriter(**self._letter.log)

    def _opened(self, structure: bytes | None) -> Logbook:
        """The logbook of the network as it is now.

        Raises: whatever the network's own code or the log's folder raises.
        """
        if self._examination is None or self._logbook is None:
            network = unpack(structure or self._letter.structure, self._tensors)
            self._examination = Examination(network, **self._letter.settings)
            self._logbook = Logbook(self._examination, self._writer, self._letter.past, clock=seconds_of_all)
            for report in self._letter.reports:
                self._logbook.remember(report, self._ended)
        elif structure is not None:
            self._examination.network = unpack(structure, self._tensors)
        return self._logbook
