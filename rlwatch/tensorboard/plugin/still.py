"""Runs as one HTML file: the RLWATCH tab's page with the data of their event files in it."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard import errors
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext

from rlwatch import outputs
from rlwatch.report import SCHEMA
from rlwatch.tensorboard.blobs import ACTIONS, PLUGIN
from rlwatch.tensorboard.plugin import page
from rlwatch.tensorboard.plugin.store import POINTS, Store, UnreadableError
from rlwatch.tensorboard.runs import damages, quiet_restarts

_KEPT = {PLUGIN: 0, "scalars": POINTS, "images": 1}
"""Samples a tag: all of ours, and of the clips, which the page draws itself, one (0 would be all)."""


def write_report(folder: Path, out: Path, *, checkpoints: int = 60) -> list[str]:
    """Writes the page with the data of all runs in `folder`; what a reader must know of what is left out.

    `checkpoints`: how many of a run go in at most, spread evenly from the first to the last.

    Raises: FileNotFoundError when there is no such folder; ValueError when it has no data of the tab; OSError when the
    file cannot be written.
    """
    if checkpoints < 2:  # noqa: PLR2004 - the first and the last
        raise ValueError(f"checkpoints must be 2 or more, got {checkpoints}: the first and the last always go in")
    store = _store(folder)
    runs = store.runs(*_WHERE)
    if not runs:
        found = "; ".join(damages(folder)) or "none"
        raise ValueError(
            f"{folder} must hold an event file with data of the RLWATCH tab, got {found}: give the --logdir of a "
            "training with Watch, or write one with `rlwatch explain CHECKPOINT... --logdir DIR`"
        )
    parts = {run["run"]: _run(store, run["run"], checkpoints) for run in runs}
    damaged = [note for run in parts for note in damages(folder / run)]
    named = {run: folder.resolve().name if run == "." else run for run in parts}
    notes = damaged + [f"{named[run]}: {note}" for run, (_, left_out) in parts.items() for note in left_out]
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "runs": {"schema": SCHEMA, "runs": [run | {"run": named[run["run"]]} for run in runs], "without": []},
        "thinned": "; ".join(notes) or None,
    }
    for kind in ("probe", "frames", "checkpoints", "returns", "maps", "actions"):
        data[kind] = {named[run]: answers[kind] for run, (answers, _) in parts.items() if kind in answers}
    text = page.single_file(f"rlwatch: {folder.resolve().name}", data).encode()
    with outputs.telling_of(out, "--out"):
        outputs.put(out, text)
    return notes


_WHERE = RequestContext(), ""


def _store(folder: Path) -> Store:
    """The runs in a folder, as TensorBoard reads them."""
    if not folder.is_dir():
        raise FileNotFoundError(f"expected the folder of a run, got {folder}: give what was Watch's logdir")
    multiplexer = EventMultiplexer(tensor_size_guidance=_KEPT)
    with quiet_restarts():
        multiplexer.AddRunsFromDirectory(str(folder))
        multiplexer.Reload()
    return Store(MultiplexerDataProvider(multiplexer, str(folder)))


def _run(store: Store, run: str, checkpoints: int) -> tuple[dict[str, Any], list[str]]:
    """What the page asks of a run, as far as the run has it, and what is left out."""
    where = *_WHERE, run
    try:
        made = store.checkpoints(*where)
    except errors.NotFoundError:
        return {}, ["there are no checkpoints yet"]
    steps, why = _spread([one.step for one in made.read], checkpoints), dict[str, str]()
    maps = {str(step): _text(data) for step in steps if (data := _had(why, store.maps, *where, step))}
    probe, frames = _had(why, store.probe, *where), _had(why, store.frames, *where)
    answers = {
        "checkpoints": json.loads(made.as_json(only=set(steps))),
        "returns": {"schema": SCHEMA, "tags": store.returns(*where)},
        "maps": maps,
        "actions": {str(step): _text(data) for step in steps if (data := _had({}, store.maps, *where, step, ACTIONS))},
        **({"probe": json.loads(probe), "frames": _text(frames)} if probe and frames else {}),
    }
    return answers, list(_left_out(len(made.read), len(steps), len(maps), bool(probe), why))


def _left_out(made: int, kept: int, maps: int, probe: bool, why: Mapping[str, str]) -> Iterator[str]:
    if kept < made:
        yield f"{kept} of {made} checkpoints, evenly"
    if maps < kept:
        yield f"{kept - maps} checkpoints without maps that can be read{why.get('maps', '')}"
    if not probe:
        yield f"no probe that can be read{why.get('probe', '') if maps == kept else ''}"


def _had(why: dict[str, str], read: Callable[..., bytes], *where: Any) -> bytes | None:
    """What the store has, None where it has nothing that can be read; `why` keeps the first reason of each kind."""
    try:
        return read(*where)
    except errors.PublicError as error:
        if isinstance(error, UnreadableError):
            why.setdefault(read.__name__, f" ({error})")
        return None


def _spread(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of the steps, the first and the last among them."""
    chosen = np.linspace(0, len(steps) - 1, min(count, len(steps))).round().astype(int)
    return [steps[index] for index in chosen]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
