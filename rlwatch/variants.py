"""Which runs are seeds of one variant, told by their folders' names and their hyperparameters."""

import glob
import logging
import os.path
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlwatch.tensorboard.runs import SUBFOLDER, Run, read_runs

_DATE = re.compile(r"[-_]*(\d{8}[-_T]?\d{4,6}|\d{6}[-_]\d{4,6}|\d{4}-\d\d-\d\d[-_T]\d\d-\d\d-\d\d|\d{10})$")
_SEED = re.compile(r"(^|[-_]+)(seed|run|s)?[-_=]?\d+$", re.IGNORECASE)
_SAID = re.compile(r"(^|[-_]+)(seed|run|s)[-_=]?\d+$|__\d+$", re.IGNORECASE)
"""A seed that is called so, or stands where CleanRL has it."""

log = logging.getLogger("rlwatch")

Settings = frozenset[tuple[str, Any]]


def variants(paths: Sequence[str | Path], groups: Mapping[str, Sequence[str]]) -> dict[str, list[Run]]:
    """The runs of each variant, by its name: those of `groups`, which are patterns of folders, then others in `paths`.

    Raises: FileNotFoundError when nothing is at a path or matches a pattern; ValueError when no run was watched there.
    """
    chosen = {name: _unique(_matching(patterns)) for name, patterns in groups.items()}
    taken = {run.folder.resolve() for runs in chosen.values() for run in runs}
    others = [run for run in _unique(paths) if run.folder.resolve() not in taken]
    return chosen | grouped(others, taken=chosen)


def grouped(runs: Sequence[Run], *, taken: Collection[str] = ()) -> dict[str, list[Run]]:
    """Runs whose names differ by seed and date only, and whose hyperparameters by the seed only, as one variant.

    A variant has the name that its runs share, with the folders above where another one has the same, and with the
    hyperparameters in which it differs from others of that name.
    """
    by_stem: dict[Path, dict[Settings, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        by_stem[stem(run.folder)][_settings(run)].append(run)
    above = os.path.commonpath([path.parent for path in by_stem]) if by_stem else ""
    names = [*taken, *(path.name for path in by_stem)]
    found = {}
    for path, by_settings in by_stem.items():
        base = path.name if names.count(path.name) == 1 else path.relative_to(above).as_posix()
        base = f"{Path(above).name}/{base}" if base in taken else base
        shared = frozenset.intersection(*by_settings)
        for settings, some in by_settings.items():
            found[" ".join([base, *sorted(f"{name}={_said(value)}" for name, value in settings - shared)])] = some
    return found


def _said(value: Any) -> Any:
    """A hyperparameter as a person writes it: TensorBoard keeps every number with a fraction."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def stem(folder: Path) -> Path:
    """The folder without what tells seeds apart: a seed number at its end, a date or time stamp before or behind it.

    Where nothing is left of a name, the folder above stands for it.
    """
    folder = folder.absolute()
    folder = folder.parent if folder.name == SUBFOLDER else folder
    for pattern in (_DATE, _SEED, _DATE):
        shorter = pattern.sub("", folder.name)
        folder = folder.with_name(shorter) if shorter else folder.parent
    return folder


def notes_on_names(by_name: Mapping[str, Sequence[Run]], groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What a reader must know of how runs were told apart: bare numbers taken for seeds, runs in two groups."""
    for name, runs in by_name.items():
        if name not in groups and len(runs) > 1 and (bare := _bare(runs)):
            yield (
                f"taken for seeds of {name} by the bare numbers in their names, since no hyperparameters are logged: "
                f"{', '.join(bare)}; if they are none, tell them apart with --group NAME=GLOB"
            )
    named = [(run.folder.resolve(), name) for name in groups for run in by_name[name]]
    several = {folder: [name for other, name in named if other == folder] for folder, _ in named}
    for folder, names in several.items():
        if len(names) > 1:
            yield f"{folder} is in several groups: {', '.join(names)}"


def _bare(runs: Sequence[Run]) -> list[str]:
    """Names whose number nobody calls a seed; none where hyperparameters show that the runs differ by the seed only."""
    if all(_settings(run) for run in runs) or len({run.hparams.get("seed", "") for run in runs} - {""}) == len(runs):
        return []
    names = [(run.folder.parent if run.folder.name == SUBFOLDER else run.folder).absolute() for run in runs]
    dateless = [(path, _DATE.sub("", path.name) or path.parent.name) for path in names]
    return [path.name for path, name in dateless if _SEED.search(name) and not _SAID.search(name)]


def _settings(run: Run) -> Settings:
    """Hyperparameters other than the seed and what names the run's own folder."""
    return frozenset(
        (name, value) for name, value in run.hparams.items() if name != "seed" and run.folder.name not in str(value)
    )


def _unique(paths: Sequence[str | Path]) -> list[Run]:
    """The watched runs in these folders, each once."""
    files = [path for path in map(Path, paths) if path.is_file()]
    folders = [path for path in map(Path, paths) if path not in files]
    if files and folders:  # as `runs/*` may have
        log.warning("rlwatch: left out, since they are no folders of runs: %s", ", ".join(map(str, files)))
    return list({run.folder.resolve(): run for path in folders or files for run in read_runs(path)}.values())


def _matching(patterns: Sequence[str]) -> list[str]:
    found = {pattern: sorted(glob.glob(pattern)) for pattern in patterns}  # noqa: PTH207 - a pattern may be absolute
    for pattern, paths in found.items():
        if not paths:
            raise FileNotFoundError(f"no folder matches {pattern}: expected --group NAME=GLOB of runs' folders")
    return [path for paths in found.values() for path in paths]
