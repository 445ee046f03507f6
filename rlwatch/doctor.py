"""What works on this machine, and what to do where it does not."""

import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement


class Check(NamedTuple):
    """One thing looked at: `what`, whether it `works`, what was `found`, and the `remedy` where it does not."""

    what: str
    works: bool
    found: str
    remedy: str


def examine_machine() -> list[Check]:
    """The checks of everything that rlwatch stands on, each tried rather than assumed."""
    tried: list[tuple[str, Callable[[], str], str]] = [
        ("device", _device, "install a torch build for this machine"),
        ("explain", _explain, "reinstall torch; then `python -m rlwatch doctor` again"),
        ("emulator", _emulator, "pip install --force-reinstall ale-py"),
        *(
            (f"probe {game}", lambda game=game: _probe(game), "pip install --force-reinstall rlwatch")
            for game in _probes()
        ),
        ("event files", _event_files, "pip install --force-reinstall tensorboard"),
        ("RLWATCH tab", _tab, "pip install --force-reinstall rlwatch"),
        ("folder", _folder, "run it where you may write, or give --logdir"),
    ]
    return [_python(), *_requirements(), *(_try(*one) for one in tried)]


def _try(what: str, attempt: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(what, works=True, found=attempt(), remedy="")
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is what the doctor tells
        return Check(what, works=False, found=f"{type(error).__name__}: {error}", remedy=remedy)


def _python() -> Check:
    works = sys.version_info >= (3, 10)
    return Check("Python", works, sys.version.split()[0], "" if works else "rlwatch needs Python 3.10 or newer")


def _requirements() -> list[Check]:
    wanted = [Requirement(line) for line in importlib.metadata.requires("rlwatch") or []]
    return [_requirement(one) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def _requirement(wanted: Requirement) -> Check:
    remedy = f'pip install "{wanted}"'
    try:
        found = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return Check(wanted.name, works=False, found="missing", remedy=remedy)
    works = wanted.specifier.contains(found, prereleases=True)
    return Check(wanted.name, works, found, "" if works else remedy)


def _device() -> str:
    import torch  # noqa: PLC0415 - the doctor tries each import by itself

    return f"{'CUDA ' + torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'}, {os.cpu_count()} cores"


def _explain() -> str:
    import torch  # noqa: PLC0415 - the doctor tries each import by itself

    from rlwatch.attribution import explain  # noqa: PLC0415 - the same

    layers = (torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 3))
    explained = explain(torch.nn.Sequential(*layers), torch.rand(2, 1, 8, 8))
    return f"relevance of {tuple(explained.relevance.shape)} (probe, stack, y, x)"


def _emulator() -> str:
    from ale_py import roms  # noqa: PLC0415 - the doctor tries each import by itself

    return f"{len(roms.get_all_rom_ids())} games"


def _probes() -> list[str]:
    return sorted(file.stem for file in (Path(__file__).parent / "atari" / "probes").glob("*.npz"))


def _probe(game: str) -> str:
    from rlwatch.atari.probe import Probe  # noqa: PLC0415 - the doctor tries each import by itself

    probe = Probe.load(game)
    return f"{len(probe)} observations in {len(probe.situations)} segments"


def _event_files() -> str:
    from rlwatch.tensorboard.writer import RunWriter  # noqa: PLC0415 - the doctor tries each import by itself

    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter(logdir=Path(folder))
        writer.scalars(0, {"rlwatch/q/greedy": 1.0})
        writer.close()
        return f"{sum(file.stat().st_size for file in Path(folder).rglob('*') if file.is_file())} bytes written"


def _tab() -> str:
    from rlwatch.tensorboard.plugin import page, plugin  # noqa: PLC0415 - the doctor tries each import by itself

    (found,) = importlib.metadata.entry_points(group="tensorboard_plugins", name=plugin.Plugin.plugin_name)
    loader = found.load()
    return f"{loader.__module__}, {len(page.files())} files of the page"


def _folder() -> str:
    with tempfile.NamedTemporaryFile(dir="."):
        return f"{Path.cwd()} can be written"
