"""The log of a run, page by page: each checkpoint is examined, drawn and written."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from rlwatch.attribution.operations.memory import BLOCKS
from rlwatch.monitor.asking import Network
from rlwatch.monitor.clips import ClipMaker
from rlwatch.monitor.comparison import Past, timed
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.faults import Fault
from rlwatch.report import Finding, Report
from rlwatch.tensorboard.blobs import Blobs
from rlwatch.tensorboard.writer import RunWriter

ENDED = "from step {step:,} on nothing could be explained: {reason}"
"""The first note of the last report, where checkpoints follow it."""


@dataclass(frozen=True)
class Job:
    """A checkpoint to be made: its step, the training's newest return, and which costly parts it gets.

    `judge`: its maps are checked. `actions`: it gets the maps of every action. `spent`: the seconds that the monitor
    has used until then, of the `age` since it was attached.
    """

    step: int
    returns: float = math.nan
    judge: bool = False
    actions: bool = False
    spent: float = 0.0
    age: float = 0.0


@dataclass(frozen=True)
class Page:
    """What is written of one checkpoint; without clips, what has been added to it.

    `actions`: the maps of every action. `objects` are those that the dashboard is laid out for, at the first page.
    `ended`: the step from which on nothing could be explained, as the report, which is the last before it, now says.
    `again`: this last report as it was, once there is one after it.
    """

    report: Report
    clips: Mapping[str, bytes] = field(default_factory=dict)
    blobs: Blobs | None = None
    actions: bytes | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    objects: tuple[str, ...] = ()
    ended: int | None = None
    again: Report | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    `seconds` is what it took, of which `once` does not recur (the untrained baseline) and `costly` went into each of
    the costly parts that it got. `page`: what is still to be written, by whoever has the writer. `ended`: since when
    nothing could be explained, and why. `scales`: those of the clips from then on.
    """

    job: Job
    report: Report | None
    seconds: float
    once: float = 0.0
    costly: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    page: Page | None = None
    ended: Finding | None = None
    scales: Mapping[str, float] = field(default_factory=dict)


class Logbook:
    """Makes one page after the other; without a `writer`, pages are handed on unwritten. Nothing is raised.

    `past`: what a log says of earlier checkpoints. `clock`: the seconds that count as used.
    """

    def __init__(
        self,
        examination: Examination,
        writer: RunWriter | None,
        past: Past | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        past = past or Past()
        self._examination, self._writer, self._clock = examination, writer, clock
        self._clips = ClipMaker(examination.probe, scales=past.scales)
        examination.comparison.baseline = past.baseline
        for step, objects in past.objects.items():
            examination.comparison.recall(step, objects)
        self._last: Report | None = None
        self._faults: list[Fault] = []
        self._costly: dict[str, float] = {}
        self._once = 0.0
        self._ended: Finding | None = None

    def add(self, job: Job) -> Outcome:
        """Makes the page of a job; of a step that has one already, what it lacks."""
        arrived, began, self._faults = time.perf_counter(), self._clock(), []
        self._costly, self._once = {}, 0.0
        report, page, before = None, None, self._examination.comparison.mark()
        try:
            made, page = self._attempted(job)
            fraction = (job.spent + self._clock() - began) / max(job.age + time.perf_counter() - arrived, 1e-9)
            page, report = self._written(page, fraction), made
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note(error, f"step {job.step:,}")
            page = None
        finally:  # also where Ctrl-C comes between
            if report is None:
                self._examination.comparison.go_back(before)
        self._last = report or self._last
        BLOCKS.clear()  # between checkpoints memory is the training's
        seconds = self._clock() - began
        told = tuple(self._faults), page, self._ended, self._clips.scales
        return Outcome(job, report, seconds, self._once, dict(self._costly), *told)

    def renew(self, network: Network) -> None:
        """Look at this network from now on."""
        self._examination.network = network

    def remember(self, report: Report, ended: Finding | None = None) -> None:
        """Go on behind a report that another logbook has made, and has perhaps said of that it is the last."""
        self._examination.comparison.remember(report)
        self._last, self._ended = report, ended

    def close(self) -> None:
        """Close the log.

        Raises: OSError when the disk is full or the file is gone.
        """
        if self._writer is not None:
            self._writer.close()

    def _attempted(self, job: Job) -> tuple[Report | None, Page | None]:
        """The report and page of a job; where they cannot be made, what the last page is to say of that."""
        try:
            if self._last is not None and self._last.step == job.step:
                return self._completed(self._last, job)
            self._once = self._first_time(job)
            report, page = self._made(job, laid_out=self._last is not None)
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note(error, f"step {job.step:,}")
            return None, self._end(job.step, error)
        if self._ended is not None:
            page, self._ended = replace(page, again=self._last), None
        return report, page

    def _end(self, step: int, error: Exception) -> Page | None:
        """The last page, which says that it is the last, and why; None where it has said so, or there is none."""
        if self._ended is not None:
            return None
        self._ended, page = ending(self._last, step, error)
        return page

    def _made(self, job: Job, *, laid_out: bool) -> tuple[Report, Page]:
        page = self._drawn(job)
        report, actions = self._with_costly_parts(page.report, job)
        objects = () if laid_out else tuple(self._examination.objects)
        return report, replace(page, report=report, actions=actions, objects=objects)

    def _drawn(self, job: Job) -> Page:
        """The page without its costly parts: the maps that it shows are let go before those are made."""
        report, comparison = self._examination.report(job.step, returns=job.returns), self._examination.comparison
        look = comparison.last
        assert look is not None  # noqa: S101 - report() has just set it
        comparison.let_go()
        began = time.perf_counter()
        clips, blobs = self._clips.draw(report, look.maps), self._clips.blobs(look.maps)
        return Page(report, clips, blobs, costs={"draw": time.perf_counter() - began})

    def _completed(self, report: Report, job: Job) -> tuple[Report | None, Page | None]:
        whole, actions = self._with_costly_parts(report, job)
        return (None, None) if whole is report else (whole, Page(whole, actions=actions))

    def _with_costly_parts(self, report: Report, job: Job) -> tuple[Report, bytes | None]:
        """The report with those costly parts that the job asks for and it lacks, and the maps of every action."""
        if job.judge and not report.validity:
            report = self._judged(report)
        return self._with_actions(report) if job.actions and not report.all_actions else (report, None)

    def _judged(self, report: Report) -> Report:
        """The report with the costly checks on its maps, without them where they fail."""
        try:
            with timed(self._costly, "validity"):
                return self._examination.judged(report)
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note(error, f"step {report.step:,} about the validity of the maps")
            return report

    def _with_actions(self, report: Report) -> tuple[Report, bytes | None]:
        """The report and the maps of every action, without these where they fail."""
        try:
            with timed(self._costly, "actions"):
                maps = self._clips.actions(self._examination.every_action())
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note(error, f"step {report.step:,} about the maps of every action")
            return report, None
        cost = dict(report.cost) | {"actions": self._costly["actions"]}
        return replace(report, all_actions=True, cost=cost), maps

    def _first_time(self, job: Job) -> float:
        """Measure the baseline before the first report, which goes without where that fails; the seconds it took."""
        comparison = self._examination.comparison
        if comparison.baseline or self._last is not None:
            return 0.0
        began = self._clock()
        try:
            comparison.baseline = self._examination.untrained_baseline()
        except Exception as error:  # noqa: BLE001 - the monitor never harms the training
            self._note(error, f"step {job.step:,} and later about an untrained baseline")
        return self._clock() - began

    def _written(self, page: Page | None, fraction: float) -> Page | None:
        """Nothing, once it is written; the page where another has the writer."""
        if page is None:
            return None
        page = replace(page, costs={**page.costs, "fraction": fraction})
        if self._writer is None:
            return page
        write(self._writer, page)
        return None

    def _note(self, error: Exception, where: str) -> None:
        self._faults.append(Fault(where, f"{type(error).__name__}: {error}"))


class Inline:
    """Makes each checkpoint here and now, while the training waits."""

    busy = lost = False
    free = True

    def __init__(self, logbook: Logbook) -> None:
        self._logbook = logbook
        self._done: list[Outcome] = []

    @property
    def waited_for(self) -> bool:
        """Whether something has become of a job that nobody has asked for."""
        return bool(self._done)

    def renew(self, network: Network) -> None:
        """Look at this network from now on."""
        self._logbook.renew(network)

    def submit(self, job: Job) -> None:
        """Make the checkpoint."""
        self._done.append(self._logbook.add(job))

    def outcomes(self, *, wait: float = 0.0) -> Iterator[Outcome]:
        """What became of the jobs."""
        del wait
        while self._done:
            yield self._done.pop(0)

    def close(self) -> None:
        """Close the log.

        Raises: OSError when the disk is full or the file is gone.
        """
        self._logbook.close()


def ending(last: Report | None, step: int, error: Exception) -> tuple[Finding, Page | None]:
    """The finding that nothing could be explained from a step on; the page that says it of the last report, if any."""
    text = ENDED.format(step=step, reason=str(error) or type(error).__name__)
    page = None if last is None else Page(replace(last, notes=(text, *last.notes)), ended=step)
    return Finding(step, "", "", text), page


def write(writer: RunWriter, page: Page) -> None:
    """Write a page.

    Raises: OSError when the disk is full or the file is gone.
    """
    began = time.perf_counter()
    if page.ended is not None:
        writer.revision(page.report, page.ended)
        return
    if page.again is not None:
        writer.revision(page.again, page.again.step)
    if page.actions is not None:
        writer.actions(page.report.step, page.actions)
    if not page.clips:
        writer.completion(page.report)
    else:
        if page.objects:
            writer.layout(list(page.objects))
        writer.checkpoint(page.report, page.clips, page.blobs)
    costs = {**page.costs, "write": time.perf_counter() - began}
    writer.scalars(page.report.step, {f"rlwatch/cost/{part}": value for part, value in costs.items()})
