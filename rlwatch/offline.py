"""The work of `rlwatch explain`: examine saved networks, one after the other."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rlwatch import checkpoints
from rlwatch.atari.names import plain
from rlwatch.atari.probe import Probe
from rlwatch.attribution.inputs import Observe
from rlwatch.cluster import Alone, Cluster
from rlwatch.monitor.asking import TARGETS
from rlwatch.monitor.clips import ClipMaker
from rlwatch.monitor.comparison import Comparison, Look
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.logbook import ENDED
from rlwatch.monitor.matching import matched
from rlwatch.monitor.resume import Log, Planned, read_log
from rlwatch.questions import Questions
from rlwatch.report import Report
from rlwatch.tensorboard.blobs import ACTIONS_LOGGED
from rlwatch.tensorboard.writer import RunWriter, record_of

log = logging.getLogger("rlwatch")


class Unread(NamedTuple):
    """A checkpoint that nothing can be explained of, and why."""

    step: int
    reason: str


def explain_checkpoints(
    paths: Sequence[str | Path],
    *,
    probe: str | Path | None = None,
    method: str = "epsilon_gamma_box",
    options: Mapping[str, Any] | None = None,
    target: str = "greedy",
    told: Mapping[str, Any] | None = None,
    logdir: Path | None = None,
    judge: bool = False,
    ray: Any = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Iterator[Report]:
    """One Report a checkpoint, by step, as soon as it is made; findings compare it with those before of its training.

    `paths`: files, folders, runs or patterns. `probe`: a game or a file; left out, the probe of the first checkpoint's
    game. `options`: the method's own keywords. `target`: what is explained besides `greedy` and `contrast`. `told`:
    what `checkpoints.load` is told of the networks. `judge`: check how far the maps can be trusted too, at about three
    times the cost. Steps that `logdir` has already are left out, and those that follow compared with them. `ray`: what
    `rlwatch.connection.connected` yields; the cluster shares the work. `progress`: called with how many checkpoints are
    done, and of how many. Of several checkpoints those that cannot be read are left out and told at the end.

    Raises: ValueError, FileNotFoundError when a file, the probe or the method is not what it must be; with `ray` as
    Cluster does.
    """
    given = Probe.load(probe) if probe else None
    told = {**(told or {}), **({"actions": len(given.actions)} if given else {})}
    unread: list[Unread] = []
    files = checkpoints.placed_files(paths)
    files = files if logdir is None else checkpoints.for_log(files)
    saved_ones = _loaded(files, told, given, unread)
    first = next(saved_ones, None)
    if first is None:
        raise ValueError("; ".join(one.reason for one in unread))
    asked, observe = _matched(first, given)
    targets = tuple(dict.fromkeys([*TARGETS, target]))
    drawn = logdir is not None
    before = read_log(logdir, judged=judge, target=target)
    before.check(asked, method, options or {})
    with _one_thread():
        examination = Examination(first.network, asked, method, options or {}, targets, observe)
    questions = Questions(examination, told, judge, drawn)
    planned = before.plan(chain([first], saved_ones), ACTIONS_LOGGED // examination.action_count)
    planned = planned if drawn else (replace(one, actions=False) for one in planned)
    examiner = Alone(questions) if ray is None else Cluster(questions, ray, len(files))
    for done, report in _reports(questions, examiner, planned, before, logdir, unread):
        if report is not None:
            yield report
        progress(done + len(unread), len(files))
    if unread:
        raise ValueError(
            f"{len(unread)} of {len(files)} checkpoints left out: " + "; ".join(one.reason for one in unread)
        )


def _matched(first: checkpoints.Checkpoint, given: Probe | None) -> tuple[Probe, Observe]:
    """The probe as the network sees it, its game's where none is given, and how its frames are handed over.

    Raises: ValueError when no game is known; as `matched` and Probe.load do.
    """
    if not given and not first.game:
        raise ValueError(f"{first.path} does not say its game: give --probe GAME or --probe FILE")
    with _one_thread():
        return matched(first.network, given or Probe.load(first.game))


def _reports(
    questions: Questions,
    examiner: Alone | Cluster,
    planned: Iterable[Planned],
    before: Log,
    logdir: Path | None,
    unread: list[Unread],
) -> Iterator[tuple[int, Report | None]]:
    """How many checkpoints are done, and the report of this one, written to the log, None where that has it.

    Why some cannot be looked at is added to `unread`.
    """
    probe, targets, done, left_out = questions.examination.probe, questions.examination.targets, 0, 0
    comparison, pages = Comparison(probe.game, probe.digest), _Pages(probe, logdir, before)
    training = None
    for one, look in examiner.looks(planned):
        if one.saved.training != training:
            training, comparison = one.saved.training, Comparison(probe.game, probe.digest)
        if isinstance(look, str):
            unread.append(Unread(one.saved.step, look))
            continue
        done += 1
        if look is not None and not one.logged:
            comparison.baseline = comparison.baseline or examiner.baseline(one)
            path = str(one.saved.path)
            report = comparison.follow(one.saved.step, look, checkpoint=path, returns=one.saved.returns)
            pages.write(report, look)
            yield done, report
        else:
            left_out += 1
            objects = before.objects(one.saved.step, targets, probe.placed.shapes)
            comparison.recall(one.saved.step, objects)
            comparison.last = look
            yield done, None
    if left_out:
        log.warning("rlwatch: %d of %d checkpoints left out, since they are in %s already", left_out, done, logdir)
    pages.close(unread)


class _Pages:
    """What is written into a log behind what it has, if there is to be one; it opens with the first page.

    The last page says why none follows it, where checkpoints do.
    """

    def __init__(self, probe: Probe, logdir: Path | None, before: Log) -> None:
        self._probe, self._logdir, self._scales = probe, logdir, before.scales
        self._last = before.run.report
        self._open: tuple[RunWriter, ClipMaker] | None = None

    def write(self, report: Report, look: Look) -> None:
        if self._logdir is None:
            return
        writer, clips = self._opened(self._logdir)
        if self._ended:
            writer.retold(self._last, self._last["notes"][1:], self._last["step"])
        if look.actions is not None:
            writer.actions(report.step, clips.actions(look.actions))
        writer.checkpoint(report, clips.draw(report, look.maps), clips.blobs(look.maps))
        self._last = record_of(report)

    def close(self, unread: Sequence[Unread]) -> None:
        behind = min((one for one in unread if one.step > self._last.get("step", math.inf)), default=None)
        if behind is not None and self._logdir is not None and not self._ended:
            text = ENDED.format(step=behind.step, reason=behind.reason)
            self._opened(self._logdir)[0].retold(self._last, [text, *self._last["notes"]], behind.step)
        if self._open is not None:
            self._open[0].close()

    @property
    def _ended(self) -> bool:
        """Whether the last page says that none follows it."""
        begin = ENDED.split("{", maxsplit=1)[0]
        return any(note.startswith(begin) for note in self._last.get("notes", [])[:1])

    def _opened(self, folder: Path) -> tuple[RunWriter, ClipMaker]:
        self._open = self._open or (RunWriter(logdir=folder), ClipMaker(self._probe, scales=self._scales))
        return self._open


def _loaded(
    files: Sequence[checkpoints.Placed], told: Mapping[str, Any], given: Probe | None, unread: list[Unread]
) -> Iterator[checkpoints.Checkpoint]:
    """Those of the files that can be read, of one game unless a probe is given; why others cannot goes to `unread`."""
    game, others = given.game if given else "", set[str]()
    for file in files:
        saved = _load(file, told)
        if isinstance(saved, checkpoints.Checkpoint) and game and saved.game and plain(saved.game) != plain(game):
            if given is None:
                saved = (
                    f"{saved.path} is of {saved.game}, those before of {game}: explain each game in a call of its own"
                )
            elif saved.game not in others:
                log.warning("rlwatch: %s is of %s, and is asked about %s all the same", saved.path, saved.game, game)
                others.add(saved.game)
        if isinstance(saved, str):
            unread.append(Unread(file.step, saved))
        else:
            game = game or saved.game
            yield saved


def _load(file: checkpoints.Placed, told: Mapping[str, Any]) -> checkpoints.Checkpoint | str:
    """The checkpoint, or why there is none."""
    try:
        with _one_thread():
            saved = checkpoints.load(file.path, **told)
        return replace(saved, step=file.step, training=file.training)
    except ValueError as error:
        return str(error)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch works in one thread: for little work several only wait for each other, on cores that others need."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
