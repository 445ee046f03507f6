"""The work of the command line: examine saved networks, record probes, say what is in them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2

from rlwatch import checkpoints
from rlwatch.atari.probe import Probe
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
) -> Iterator[Report]:
    """One Report a checkpoint, by step, as soon as it is made; findings compare it with those before.

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
        if writer is not None and examination.maps is not None:
            writer.scalars(report.step, report.scalars())
            writer.clips(report.step, clips.draw(report, examination.maps))
            writer.findings(report.step, report.markdown())
            writer.flush()
        yield report
    if writer is not None:
        writer.close()


def describe(name: str | Path) -> dict[str, Any]:
    """What is in a probe: frames, episodes, situations, and per object in how many frames it is and how large."""
    probe = Probe.load(name)
    masks = probe.masks()
    objects = {
        name: {
            "frames": int(mask.any(axis=(1, 2, 3)).sum()),
            "pixels": round(float(mask.sum(axis=(1, 2, 3)).mean()), 2),
        }
        for name, mask in masks.items()
    }
    return {
        "game": probe.game,
        "observations": len(probe),
        "episodes": len(set(probe.episode.tolist())),
        "segments": len(set(probe.segment.tolist())),
        "situations": sorted(set(probe.situation)),
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
