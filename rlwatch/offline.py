"""The work of the command line: examine saved networks, record probes, say what is in them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from rlwatch import checkpoints
from rlwatch.atari.choose import record_probe
from rlwatch.atari.probe import Probe
from rlwatch.atari.recording import Policy
from rlwatch.clips import ClipMaker
from rlwatch.examination import TARGETS, Examination
from rlwatch.report import Report
from rlwatch.tensorboard.logged import logged_steps
from rlwatch.tensorboard.writer import RunWriter

log = logging.getLogger("rlwatch")


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
) -> Iterator[Report]:
    """One Report a checkpoint, by step, as soon as it is made; findings compare it with those before.

    `paths`: files, folders, runs or patterns. `options`: the method's own keywords. `target`: what is explained besides
    `greedy` and `contrast`. `told`: what `checkpoints.load` is told of the networks. `judge`: check how far the maps
    can be trusted too, at about three times the cost. Steps that `logdir` has already are left out. Of several
    checkpoints those that cannot be read are left out and told at the end.

    Raises: ValueError, FileNotFoundError when a file, the probe or the method is not what it must be.
    """
    given = Probe.load(probe) if probe else None
    told = {**(told or {}), **({"actions": len(given.actions)} if given else {})}
    unread: list[str] = []
    saved_ones = _loaded(checkpoints.find(paths), told, unread)
    first = next(saved_ones, None)
    if first is None:
        raise ValueError("; ".join(unread))
    if not given and not first.game:
        raise ValueError(f"{first.path} does not say its game: give --probe GAME or --probe FILE")
    asked = given or Probe.load(first.game)
    examination = Examination(
        first.network, asked, method=method, options=options or {}, targets=tuple(dict.fromkeys([*TARGETS, target]))
    )
    examination.untrained_baseline()
    clips = ClipMaker(asked)
    done = logged_steps(logdir) if logdir is not None else set()
    writer = None if logdir is None else RunWriter(logdir=logdir)
    for saved in chain([first], saved_ones):
        if saved.step in done:
            log.warning("rlwatch: step %d of %s is in %s already: left out", saved.step, saved.path, logdir)
            continue
        path = str(saved.path)
        report = examination.report(saved.step, network=saved.network, checkpoint=path, returns=saved.returns)
        report = examination.judged(report, network=saved.network) if judge else report
        if writer is not None and examination.maps is not None:
            maps = examination.maps
            writer.checkpoint(report, clips.draw(report, maps), clips.blobs(maps))
        yield report
    if writer is not None:
        writer.close()
    if unread:
        raise ValueError(f"{len(unread)} checkpoints were left out: " + "; ".join(unread))


def _loaded(files: Sequence[Path], told: Mapping[str, Any], unread: list[str]) -> Iterator[checkpoints.Checkpoint]:
    """Those of the files that can be read; why the others cannot is added to `unread`."""
    for file in files:
        saved = _load(file, told)
        if isinstance(saved, str):
            unread.append(saved)
        else:
            yield saved


def _load(file: Path, told: Mapping[str, Any]) -> checkpoints.Checkpoint | str:
    """The checkpoint, or why there is none."""
    try:
        return checkpoints.load(file, **told)
    except ValueError as error:
        return str(error)


def describe(name: str | Path, *, objects: str | Path | None = None) -> dict[str, Any]:
    """What is in a probe: frames, episodes, situations, how its objects were found, and each of them.

    Of an object: in how many frames it is, its pixels in a stack and, where it was followed against the background, how
    sure it is, see `rlwatch.atari.background.Sureness`.
    """
    probe = Probe.load(name, objects=objects)
    sure = {name: asdict(one) for name, one in probe.placed.sureness.items()}
    sizes = {name: float(mask.sum(axis=(1, 2, 3)).mean()) for name, mask in probe.masks().items()}
    measured = {
        name: {"frames": seen, "pixels": round(sizes[name], 2), **sure.get(name, {})}
        for name, seen in probe.visible().items()
    }
    return {
        "game": probe.game,
        "observations": len(probe),
        "episodes": len(set(probe.episode.tolist())),
        "segments": len(set(probe.segment.tolist())),
        "situations": list(probe.situations),
        "actions": list(probe.actions),
        "digest": probe.digest,
        "found": {
            "how": probe.placed.how,
            "says": str(probe.placed),
            "reason": probe.placed.reason,
            "steady": probe.placed.steady,
            "named": probe.placed.named,
        },
        "objects": measured,
    }


def write_sheet(name: str | Path, path: Path, *, objects: str | Path | None = None) -> None:
    """Write the probe's contact sheet as a PNG.

    Raises: OSError when the file cannot be written.
    """
    sheet = Probe.load(name, objects=objects).contact_sheet()
    encoded, png = cv2.imencode(".png", sheet[..., ::-1])
    if not encoded:
        raise OSError(f"{path}: the contact sheet could not be encoded as PNG")
    path.write_bytes(png.tobytes())


def record_to(path: Path, game: str, *, policy: str = "scripted", steps: int | None = None, seed: int = 0) -> Probe:
    """Play a game, choose a probe from what was played, and save it.

    `policy`: "scripted", "random", or a checkpoint that plays greedily but for one action in twenty.

    Raises: ValueError, FileNotFoundError for an unknown game or policy; OSError when the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    player = policy if policy in {"scripted", "random"} else _player(policy, seed)
    probe = record_probe(game, policy=player, steps=steps, seed=seed)
    probe.save(path)
    return probe


def _player(checkpoint: str, seed: int, *, epsilon: float = 0.05) -> Policy:
    """The checkpoint's greedy player, which presses any button at random once in 1 / `epsilon` steps."""
    network, generator = checkpoints.load(checkpoint).network, np.random.default_rng(seed)

    def choose(stack: UInt8[np.ndarray, "stack 84 84"]) -> int:
        with torch.no_grad():
            q_values = network(torch.from_numpy(np.ascontiguousarray(stack))[None])[0]
        return int(generator.integers(len(q_values)) if generator.random() < epsilon else q_values.argmax())

    return choose
