"""What a monitor looks at when it is attached: settings, the game, the log that is there, the random generators."""

import logging
import numbers
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from rlwatch.atari.names import plain
from rlwatch.atari.probe import Probe
from rlwatch.monitor.comparison import Past
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.resume import read_log
from rlwatch.monitor.schedule import whole_step

PLACES = ("inline", "process")
SEEDS = 2**32
"""Seeds that every generator takes."""
log = logging.getLogger("rlwatch")


def loaded(probe: object) -> Probe:
    """The probe, a game's or a file's.

    Raises: TypeError when it is neither; as `Probe.load` does.
    """
    if isinstance(probe, Probe):
        return probe
    if not isinstance(probe, str | Path):
        raise TypeError(f"probe must be a game, a probe file or a Probe, got {type(probe).__name__}: probe='breakout'")
    return Probe.load(probe)


def check_settings(where: object, seed: object, logdir: object, options: object, observe: object) -> None:
    """Raises: ValueError, TypeError when a setting is none of those that there are."""
    if where not in PLACES:
        raise ValueError(f"where must be one of {', '.join(PLACES)}, got {where!r}: where='inline'")
    if not isinstance(seed, numbers.Integral):
        raise TypeError(f"seed must be a whole number, got {type(seed).__name__}: seed=0")
    if not 0 <= int(seed) < SEEDS:
        raise ValueError(f"seed must be at least 0 and below 2 ** 32, got {seed}: seed=0")
    if not (logdir is None or isinstance(logdir, str | Path)):
        raise TypeError(f"logdir must be a folder, got {type(logdir).__name__}: logdir='runs/mine/rlwatch'")
    if logdir == "":
        raise ValueError("logdir must name a folder, got '': logdir='runs/mine/rlwatch', or '.' for this one")
    if not (options is None or isinstance(options, Mapping)):
        got = type(options).__name__
        raise TypeError(f"options must be a dict of the method's keywords, got {got}: such as options={{'steps': 20}}")
    if not (observe is None or callable(observe)):
        got = type(observe).__name__
        raise TypeError(f"observe must be a function from uint8 frames, got {got}: observe=lambda frames: frames / 255")


def first_step(purge_step: object) -> int | None:
    """The step that a resumed training goes on from; None where it is a new one.

    Raises: TypeError when it is no whole number, ValueError when it lies below 0.
    """
    if purge_step is None:
        return None
    step = whole("purge_step", purge_step)
    if step < 0:
        raise ValueError(f"purge_step must be at least 0, got {step}: it is the step that the training goes on from")
    return step


def whole(name: str, steps: object) -> int:
    """The setting of this name, which counts steps, as a plain integer.

    Raises: TypeError, ValueError when it is no whole number.
    """
    try:
        return whole_step(steps)  # type: ignore[arg-type]  # what is none is refused
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def check_game(probe: Probe, game: object) -> None:
    """Raises: ValueError when the probe is of another game; TypeError when this is no name."""
    if not (game is None or isinstance(game, str)):
        raise TypeError(f"game must be a name, got {type(game).__name__}: game={probe.game!r}")
    if game is not None and plain(game) != plain(probe.game):
        raise ValueError(
            f"the probe is of {probe.game}, the training of {game}: give probe={game!r}, or make one with "
            f"`rlwatch record {game} --out FILE`"
        )


def past(folder: str | Path | None, first_step: int, examination: Examination) -> Past:
    """What the log in a folder says of the checkpoints before the step that a training goes on from.

    Raises: ValueError when they were of another probe or method.
    """
    if folder is None or not first_step:
        return Past()
    before = read_log(Path(folder), before=first_step)
    before.check(examination.probe, examination.method, examination.options)
    return before.past(examination.targets, examination.objects)


def warn_of_another(folder: Path) -> None:
    """Say it where the folder holds a log of rlwatch: TensorBoard mixes the two or hides one."""
    if any(folder.glob("*tfevents*.rlwatch")):
        log.warning(
            "rlwatch: %s holds a log of rlwatch already, and TensorBoard shows only one or a mixture: give each "
            "training a logdir of its own, or purge_step= the step that it goes on from (0 for anew)",
            folder,
        )


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Put the global random generators back as they were: they belong to the training, as its inference mode does."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the training's own, kept as it is
    devices = list(range(torch.cuda.device_count()))
    with torch.inference_mode(mode=False), torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - the same
