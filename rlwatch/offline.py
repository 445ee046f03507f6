"""The work of the command line: examine saved networks, record probes, say what is in them."""

from collections.abc import Iterator, Sequence
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
from rlwatch.examination import Examination
from rlwatch.report import Report
from rlwatch.tensorboard.writer import RunWriter


def explain_checkpoints(
    paths: Sequence[str | Path],
    *,
    probe: str | Path | None = None,
    method: str = "epsilon_gamma_box",
    divisor: float = 255.0,
    logdir: Path | None = None,
    judge: bool = False,
) -> Iterator[Report]:
    """One Report a checkpoint, by step, as soon as it is made; findings compare it with those before.

    `judge`: check how far the maps can be trusted too, at about three times the cost.

    Raises: ValueError, FileNotFoundError when a file, the probe or the method is not what it must be.
    """
    files = checkpoints.find(paths)
    first = checkpoints.load(files[0], divisor=divisor)
    if not probe and not first.game:
        raise ValueError(f"{files[0]} does not say its game: give --probe GAME or --probe FILE")
    asked = Probe.load(probe or first.game)
    examination = Examination(first.network, asked, method=method)
    examination.untrained_baseline()
    writer = None if logdir is None else RunWriter(logdir=logdir)
    clips = ClipMaker(asked)
    for file in files:
        saved = checkpoints.load(file, divisor=divisor)
        report = examination.report(saved.step, network=saved.network, checkpoint=str(file), returns=saved.returns)
        report = examination.judged(report, network=saved.network) if judge else report
        if writer is not None and examination.maps is not None:
            maps = examination.maps
            writer.checkpoint(report, clips.draw(report, maps), clips.blobs(maps))
        yield report
    if writer is not None:
        writer.close()


def describe(name: str | Path) -> dict[str, Any]:
    """What is in a probe: frames, episodes, situations, and per object in how many frames it is and how large."""
    probe = Probe.load(name)
    sizes = {name: float(mask.sum(axis=(1, 2, 3)).mean()) for name, mask in probe.masks().items()}
    objects = {name: {"frames": seen, "pixels": round(sizes[name], 2)} for name, seen in probe.visible().items()}
    return {
        "game": probe.game,
        "observations": len(probe),
        "episodes": len(set(probe.episode.tolist())),
        "segments": len(set(probe.segment.tolist())),
        "situations": list(probe.situations),
        "actions": list(probe.actions),
        "digest": probe.digest,
        "objects": objects,
    }


def write_sheet(name: str | Path, path: Path) -> None:
    """Write the probe's contact sheet as a PNG.

    Raises: OSError when the file cannot be written.
    """
    sheet = Probe.load(name).contact_sheet()
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
