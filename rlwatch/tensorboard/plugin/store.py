"""What the runs of a log folder hold for the tab, read through TensorBoard's data provider, fast or slow.

Event files come from anywhere: what is in them is checked before it is handed on, and never believed.
"""

import json
import math
import re
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Timer
from typing import Any

from tensorboard import errors
from tensorboard.context import RequestContext
from tensorboard.data import provider

from rlwatch.report import SCHEMA
from rlwatch.tensorboard import blobs
from rlwatch.tensorboard.blobs import ACTIONS, MAPS, PLUGIN, PROBE, REPORT
from rlwatch.tensorboard.plugin.cache import Cache

ALL = 1 << 30
POINTS = 1000
ROOM = 128 << 20
_RETURNS = re.compile(r"(return|reward|ep_rew)", re.IGNORECASE)


class UnreadableError(errors.PublicError):
    """The event file holds something that this rlwatch cannot read."""

    http_code = 422


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's report as JSON."""

    step: int
    text: bytes
    returns: float | None


@dataclass(frozen=True)
class Checkpoints:
    """A run's checkpoints by step, and how many records are left out because they cannot be read."""

    read: Sequence[Checkpoint]
    unreadable: int

    def as_json(self, *, since: int | None = None, only: Container[int] | None = None) -> bytes:
        """Those after the step `since`, or the steps of `only`, beside how many were `made` in all."""
        chosen = [
            one.text for one in self.read if (since is None or one.step > since) and (only is None or one.step in only)
        ]
        counts = SCHEMA, len(self.read), self.unreadable
        return b'{"schema":%d,"made":%d,"unreadable":%d,"checkpoints":[%s]}' % (*counts, b",".join(chosen))


@dataclass(frozen=True)
class Store:
    """Reads what runs hold for the tab. `context` and `experiment` are a request's.

    Raises, in every method with a run: errors.NotFoundError when the run has no such data; UnreadableError when it is
    damaged or of another schema.
    """

    data: provider.DataProvider
    cache: Cache = field(default_factory=lambda: Cache(ROOM))

    def runs(self, context: RequestContext, experiment: str) -> list[dict[str, Any]]:
        """Every run with data of the tab: how many checkpoints have maps, and the game, None while it is not known."""
        return [
            {
                "run": run,
                "checkpoints": len(self._keys(context, experiment, run, MAPS, maps)),
                "game": self._game(context, experiment, run),
            }
            for run, maps in sorted(self._listed(context, experiment).items())
        ]

    def without(self, context: RequestContext, experiment: str) -> list[str]:
        """Runs with rlwatch's scalars that hold nothing for the tab, as `rlwatch compare --logdir` writes them."""
        listed = self.data.list_scalars(context, experiment_id=experiment, plugin_name="scalars")
        watched = {run for run, tags in listed.items() if any(tag.startswith("rlwatch/") for tag in tags)}
        return sorted(watched - self._listed(context, experiment).keys())

    def probe(self, context: RequestContext, experiment: str, run: str) -> bytes:
        """The words of the run's probe, as JSON."""
        words: bytes = self._probe(context, experiment, run)[0]
        return words

    def frames(self, context: RequestContext, experiment: str, run: str) -> bytes:
        """The frames of the run's probe."""
        return self._blob(context, self._probe(context, experiment, run)[1], 1)

    def checkpoints(self, context: RequestContext, experiment: str, run: str) -> Checkpoints:
        """The reports of a run."""
        told = {"experiment_id": experiment, "plugin_name": PLUGIN, "run_tag_filter": _only([run], [REPORT])}
        listed = self.data.list_tensors(context, **told).get(run, {})
        if REPORT not in listed:
            raise errors.NotFoundError(f"run {run[:80]!r} has no checkpoints yet")

        def read() -> tuple[Checkpoints, int]:
            with _guarded():
                series = _newest(self.data.read_tensors(context, downsample=ALL, **told).get(run, {}).get(REPORT, ()))
            found = [one for datum in series if (one := _checkpoint(datum)) is not None]
            return Checkpoints(found, len(series) - len(found)), sum(len(one.text) + _AROUND for one in found)

        kept: Checkpoints = self.cache.get(("reports", experiment, run), _stamp(listed[REPORT]), read)
        return kept

    def returns(self, context: RequestContext, experiment: str, run: str) -> dict[str, list[tuple[int, float]]]:
        """Curves of returns that the trainer logged, at most `POINTS` points each, and those that the monitor was told.

        A tag counts whose name speaks of a return or a reward.
        """
        told = {"experiment_id": experiment, "plugin_name": "scalars"}
        listed = self.data.list_scalars(context, run_tag_filter=_only([run]), **told).get(run, {})
        tags = [tag for tag in listed if _RETURNS.search(tag) and not tag.startswith("rlwatch/")]
        curves = {}
        if tags:
            read = self.data.read_scalars(context, downsample=POINTS, run_tag_filter=_only([run], tags), **told)
            curves = {
                tag: [(one.step, float(one.value)) for one in series if math.isfinite(one.value)]
                for tag, series in sorted(read.get(run, {}).items())
            }
        checkpoints = self.checkpoints(context, experiment, run).read
        own = [(one.step, one.returns) for one in checkpoints if one.returns is not None]
        return curves | ({"returns": own} if own else {})

    def maps(self, context: RequestContext, experiment: str, run: str, step: int, tag: str = MAPS) -> bytes:
        """The relevance of one checkpoint; with the tag `ACTIONS` that of every action."""
        keys = self.cache.peek(("keys", experiment, run, tag)) or {}
        if step not in keys:  # a step's key stays the same: to ask for all of them costs a look at the data server
            keys = self._keys(context, experiment, run, tag)
        if step not in keys:
            of_what = "of every action " if tag == ACTIONS else ""
            raise errors.NotFoundError(f"run {run[:80]!r} has no maps {of_what}at step {step}")
        data = self._blob(context, keys[step], 0)
        try:
            blobs.read_header(data)
        except ValueError as error:
            raise UnreadableError(f"step {step}: {error}") from error
        return data

    def _listed(self, context: RequestContext, experiment: str) -> dict[str, dict[str, Any]]:
        """Runs with data of the tab, each with what the provider tells of its maps."""
        told = {"experiment_id": experiment, "plugin_name": PLUGIN}
        reports = self.data.list_tensors(context, run_tag_filter=_only(tags=[REPORT]), **told)
        maps = self.data.list_blob_sequences(context, run_tag_filter=_only(tags=[MAPS]), **told)
        return {run: maps.get(run, {}) for run in {*reports, *maps}}

    def _game(self, context: RequestContext, experiment: str, run: str) -> str | None:
        try:
            game = json.loads(self.probe(context, experiment, run)).get("game")
        except errors.PublicError:
            return None
        return game if isinstance(game, str) else None

    def _probe(self, context: RequestContext, experiment: str, run: str) -> tuple[bytes, tuple[str, ...]]:
        """The words of the newest probe, checked, and the keys of its words and frames."""
        keys = self._keys(context, experiment, run, PROBE)
        if not keys:
            raise errors.NotFoundError(f"run {run[:80]!r} has no probe yet")
        newest = keys[max(keys)]

        def read() -> tuple[bytes, int]:
            try:
                words = blobs.read_words(self._blob(context, newest, 0))
            except ValueError as error:
                raise UnreadableError(f"probe: {error}") from error
            return words, len(words)

        return self.cache.get(("probe", experiment, run), newest, read), newest

    def _keys(
        self, context: RequestContext, experiment: str, run: str, tag: str, listed: Mapping[str, Any] | None = None
    ) -> Mapping[int, tuple[str, ...]]:
        """The keys of a tag's blobs, by step; `listed` is what the provider tells of the run's tags, where known."""
        told = {"experiment_id": experiment, "plugin_name": PLUGIN, "run_tag_filter": _only([run], [tag])}
        if listed is None:
            listed = self.data.list_blob_sequences(context, **told).get(run, {})
        if tag not in listed:
            return {}

        def read() -> tuple[dict[int, tuple[str, ...]], int]:
            series = self.data.read_blob_sequences(context, downsample=ALL, **told).get(run, {}).get(tag, ())
            keys = {one.step: tuple(value.blob_key for value in one.values) for one in _newest(series)}
            return keys, sum(len(key) + _AROUND for some in keys.values() for key in some)

        kept: Mapping[int, tuple[str, ...]] = self.cache.get(("keys", experiment, run, tag), _stamp(listed[tag]), read)
        return kept

    def _blob(self, context: RequestContext, keys: Sequence[str], index: int) -> bytes:
        with _guarded(), _hastened(self.data, context):
            data = self.data.read_blob(context, blob_key=keys[index])
        if not isinstance(data, bytes):
            raise UnreadableError(f"expected bytes in the event file, got {type(data).__name__}: was it damaged?")
        return data


@contextmanager
def _guarded() -> Iterator[None]:
    """What TensorBoard's own readers raise on a damaged record, in many kinds, as one error."""
    try:
        yield
    except errors.PublicError:
        raise
    except Exception as error:
        raise UnreadableError(f"the event file is damaged here ({type(error).__name__}): copy it again") from error


@contextmanager
def _hastened(data: provider.DataProvider, context: RequestContext) -> Iterator[None]:
    """Asks TensorBoard's data server for a trifle while it is slow to answer.

    It holds back the end of an answer until what it sent before is acknowledged (Nagle's algorithm), and the system
    puts that off by 40 ms, unless there is something to send that carries it.
    """

    def ask() -> None:
        with suppress(Exception):
            data.experiment_metadata(context, experiment_id="")

    trifle = Timer(_PATIENCE, ask)
    trifle.daemon = True
    trifle.start()
    try:
        yield
    finally:
        trifle.cancel()


_PATIENCE = 0.001
_AROUND = 200
"""Bytes that Python needs around a kept text."""


def _only(runs: Sequence[str] | None = None, tags: Sequence[str] | None = None) -> provider.RunTagFilter:
    return provider.RunTagFilter(runs, tags)


def _stamp(listed: Any) -> Hashable:
    """What changes as soon as a tag gets another record."""
    return listed.max_step, listed.max_wall_time


def _newest(series: Iterable[Any]) -> list[Any]:
    """The records of a run as it went on: those of steps that a resumed training went through again are dropped."""
    kept: list[Any] = []
    for one in sorted(series, key=lambda datum: datum.wall_time):
        while kept and kept[-1].step >= one.step:
            kept.pop()
        kept.append(one)
    return kept


def _checkpoint(datum: Any) -> Checkpoint | None:
    """A report's record, None when it cannot be read."""
    strings = datum.numpy.ravel()
    if len(strings) != 1 or not isinstance(strings[0], bytes):
        return None
    try:
        record = blobs.parse(strings[0])
        text = strings[0] if record.get("step") == datum.step else blobs.compact(record | {"step": datum.step})
    except ValueError:
        return None
    returns: Any = record.get("returns")
    return Checkpoint(datum.step, text, float(returns) if type(returns) in {int, float} else None)
