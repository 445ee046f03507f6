"""What training programs share around their loops: options, a run's folder and log, signals."""

import argparse
import dataclasses
import io
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch.utils.tensorboard import SummaryWriter

from rlwatch import Probe, outputs
from rlwatch.atari.console import short_name
from rlwatch.report import NOTHING_FOUND
from rlwatch.tensorboard.writer import RunWriter

ConfigType = TypeVar("ConfigType")


def option(default: Any, meaning: str) -> Any:
    """A field of a config dataclass that `add_options` makes a command-line option of."""
    return dataclasses.field(default=default, metadata={"help": meaning})


def spelt(name: str) -> str:
    """A config's field as it is spelt on the command line."""
    return f"--{name.replace('_', '-')}"


def add_options(parser: argparse.ArgumentParser, config: type[Any]) -> None:
    """Give the parser an option per field of the config; an option that is not given leaves no trace."""
    for each in dataclasses.fields(config):
        stated = each.default in (0, "") or "default:" in each.metadata["help"]
        text = each.metadata["help"].replace("%", "%%") + ("" if stated else f" (default: {each.default})")
        parser.add_argument(spelt(each.name), type=type(each.default), default=argparse.SUPPRESS, metavar="", help=text)


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write a file for `torch.load`, complete or not at all: a kill or a full disk leaves the older one.

    Raises: OSError when it cannot be written.
    """
    packed = io.BytesIO()
    torch.save(content, packed)
    outputs.put(path, packed.getbuffer())


class Run:
    """A run's folder: TensorBoard's log, checkpoints/step_N.pt (weights, for others to read), resume.pt (the rest).

    A disk that fills up does not end a training: it is told once, and the files that were whole stay.

    Raises: OSError when the folder cannot be written in; ValueError when a new run's folder holds a run already.
    """

    def __init__(self, folder: str, step: int) -> None:
        self.folder, self.saved_step = Path(folder), step or -1
        self._told: set[str] = set()
        if step == 0 and (self.folder / "resume.pt").exists():
            raise ValueError(
                f"--logdir must be a new folder, {folder} holds a run: go on with --resume or choose another"
            )
        try:
            self.writer = SummaryWriter(self.folder, purge_step=step + 1 if step else 0)
        except OSError as problem:
            raise OSError(
                f"--logdir must be a folder to write in, got {folder} ({problem}): choose another"
            ) from problem

    def describe(self, config: Any, metrics: Sequence[str]) -> None:
        """Write the config as the run's row of the HParams tab, beside the tags `metrics`."""
        with self._surviving("the log"):
            RunWriter(self.writer).hparams(dataclasses.asdict(config), metrics)  # torch's add_hparams makes another run

    def log(self, step: int, **values: float) -> None:
        """Write scalars: `train_loss` becomes the tag train/loss."""
        with self._surviving("the log"):
            for name, value in values.items():
                self.writer.add_scalar(name.replace("_", "/", 1), value, step)

    def save(self, step: int, checkpoint: dict[str, Any], training: dict[str, Any]) -> None:
        """Write the checkpoint and, with it, resume.pt."""
        with self._surviving("a checkpoint"):
            write_whole(self.folder / f"checkpoints/step_{step:09d}.pt", checkpoint)
            write_whole(self.folder / "resume.pt", checkpoint | training)
        self.saved_step = step

    def close(self) -> None:
        """Write what the log still holds."""
        with self._surviving("the log"):
            self.writer.close()

    @contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if what not in self._told:
                print(f"warning: {what} cannot be written ({problem}); training goes on", file=sys.stderr, flush=True)
            self._told.add(what)


def read_resume(folder: Path) -> dict[str, Any]:
    """What `Run.save` wrote to resume.pt.

    Raises: FileNotFoundError when there is none; ValueError when it is damaged or another program's.
    """
    if not (folder / "resume.pt").is_file():
        raise FileNotFoundError(f"--resume needs the folder of a run, with resume.pt, got {folder}: start a new run")
    try:
        saved: dict[str, Any] = torch.load(folder / "resume.pt", weights_only=True)
        return saved | {"config": dict(saved["config"]), "step": int(saved["step"])}
    except Exception as problem:
        raise ValueError(f"{folder}/resume.pt is damaged or foreign ({problem}): start a new run") from problem


def changed(config: ConfigType, changes: dict[str, Any], changeable: tuple[str, ...]) -> ConfigType:
    """The config of a resumed run with the options given anew, of which only the changeable may differ.

    Raises: ValueError when another one differs.
    """
    for name, value in changes.items():
        given, kept = short_name(value) if name == "game" else value, getattr(config, name)
        if name not in changeable and given != kept:
            told = f"the run was trained with {spelt(name)} {kept}, got {given}"
            raise ValueError(f"{told}: leave it out or start a new run")
    return dataclasses.replace(config, **{name: changes[name] for name in changeable if name in changes})  # type: ignore[type-var]


@contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Says which of SIGINT and SIGTERM has come, 0 while none has; a second one ends the program at once."""
    received = 0
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    def note(signum: int, _frame: FrameType | None) -> None:
        nonlocal received
        received = signum
        restore()

    for signum in before:
        signal.signal(signum, note)
    try:
        yield lambda: received
    finally:
        restore()


def add_watch_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser the options of the monitor."""
    parser.add_argument("--no-watch", action="store_true", help="train without the monitor")
    parser.add_argument("--probe", default="", help="probe file for the monitor (default: the game's own)")
    told = "part of the wall clock that the monitor may use (default: 0.03)"
    parser.add_argument("--watch-budget", type=_part, default=0.03, metavar="PART", help=told)
    told = "make checkpoints while the training waits, or in a process of its own (default: %(default)s)"
    parser.add_argument("--watch-where", default="inline", choices=["inline", "process"], help=told)


def _part(text: str) -> float:
    part = float(text)
    if not 0 < part <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {text}: 0.01 is 1 %")
    return part


def check_ranges(config: Any, *, at_least_one: Sequence[str], parts: Sequence[str]) -> None:
    """Raises: ValueError when a number of the config is below 1, above 1 for one of `parts`, or below 0 for others."""
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, str):
            continue
        least = int(name in at_least_one)
        if name in parts and not 0 <= value <= 1:
            raise ValueError(f"{spelt(name)} must lie between 0 and 1, got {value}")
        if not value >= least:
            raise ValueError(f"{spelt(name)} must be at least {least}, got {value}")


def probe_of(told: str, game: str) -> Probe | None:
    """The monitor's probe: the file that was told, else the game's own; None, said with the remedy, where it has none.

    Raises: FileNotFoundError, ValueError when `told` names no probe, or one of another game.
    """
    try:
        probe = Probe.load(told or game)
    except FileNotFoundError as problem:
        if told:
            raise
        print(f"training goes on without the monitor: {problem}")
        print(f"to have it: `rlwatch record {game} --out FILE`, then --probe FILE", flush=True)
        return None
    if probe.game != game:
        raise ValueError(f"--probe must be of {game}, got one of {probe.game}: `rlwatch record {game} --out FILE`")
    return probe


def tell(agent: Any, watch: Any, stopped: int) -> None:
    """Print what came of the run, where it lies, and how to look at it or go on."""
    config, folder = agent.config, agent.run.folder
    print(f"step {agent.step:,}: return {agent.returns:.1f}, the mean of {config.evaluation_games} games at ε = 0.05")
    if watch is not None:
        print("\n".join(finding.text for finding in watch.findings) or NOTHING_FOUND)
    if stopped:
        print(f"stopped; to go on: python -m agents.dqn --resume {folder}")
    print(f"the run is in {folder}; to look at it: {board(folder)}", flush=True)


def board(folder: Path) -> str:
    """The command that shows a run in TensorBoard: `make board` where that shows it, in a clone and below its runs/."""
    if Path("Makefile").is_file() and Path("runs").resolve() in folder.resolve().parents:
        return "make board"
    return f"tensorboard --logdir {shlex.quote(str(folder.parent))} --samples_per_plugin images=1000"
