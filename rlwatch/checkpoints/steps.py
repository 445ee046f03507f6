"""The step of a checkpoint: what its file says, else what its name says, else its place among the others."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

FOLDER = re.compile(r"(?:checkpoint|step|iter\w*)[_-]?(\d+)|(\d+)_(?:checkpoint|finish|except|best)")
"""A folder that is one checkpoint: RLlib's checkpoint_000010, pfrl's 1000_finish."""
LAST = re.compile(r"(^|[^a-z])(final|last|latest)([^a-z]|$)", re.IGNORECASE)
TOLD = 4
"""Files that a line on stderr names at most."""
log = logging.getLogger("rlwatch")

_NO_STEPS = re.compile(
    r"(?<!\d)(?<!step[-_])(?<!steps[-_])(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"(?:[-_T ]?\d\d[-_:.]?\d\d(?:[-_:.]?\d\d)?)?(?!\d)"
    r"|(?<!\d)1[5-9]\d{8}(?!\d)"  # seconds since 1970
    r"|(?<=__)\d+(?=__)"  # CleanRL's seed
    r"|\d+(?:x\d+)+"  # sizes
    r"|(?<![A-Za-z])(?:v|ver|version|s|seed|run|rank|env|gpu|cuda|bs|batch|size|dim|hidden|lr|gamma|eps|fold|int|float|bf|fp)"
    r"[-_=.]?\d[\d.]*(?:e-?\d+)?(?![A-Za-z\d])"
    r"|(?<![A-Za-z\d.])(?!(?:it|ep|e|t)\d)[a-z]{1,2}\d{1,3}(?![\dkm])(?:[a-z]\d?)?",  # c51, sb3, r2d2, a2c
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?P<before>[A-Za-z]*)[-_=. ]*"
    r"(?P<number>[1-9]\d{0,2}(?:[_,]\d{3}){2,}(?!\d)|[1-9]\d{0,2}[_,]000(?!\d)|(?<=step_)[1-9]\d{0,2}_\d{3}(?!\d)"
    r"|(?<=steps_)[1-9]\d{0,2}_\d{3}(?!\d)|\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?P<unit>[km](?![A-Za-z\d]))?"
    r"(?=[-_ ]?(?P<behind>[A-Za-z]*))",
    re.IGNORECASE,
)
_STEPS = re.compile(r"(time|global|env)?_?steps?|frames?", re.IGNORECASE)
_ROUNDS = re.compile(r"iter\w*|it|epochs?|checkpoint|ckpt|updates?|episodes?|ep", re.IGNORECASE)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


@dataclass(frozen=True)
class Placed:
    """A checkpoint file, its step (-1: its place is unknown), and the training that it is one of, "" for the only one.

    A file whose place is unknown is a training by itself: nothing is compared with it.
    """

    path: Path
    step: int
    training: str = ""


def step_of(path: Path) -> int:
    """The step that a file's name ends in, or that of the folder which is the checkpoint; -1 where neither says one.

    1M, 1.5e6, 250k and 1_000_000 are numbers; dates, versions, seeds and sizes are no steps. Where several numbers may
    be meant, one that is called a step comes before one of iterations or epochs, and that before the last one.
    """
    name = path.name if path.suffix[1:].isdigit() else path.stem  # Dopamine's is ckpt.199
    found = sorted(_steps(name))
    if found:
        return found[-1][2]
    folders = (FOLDER.fullmatch(parent.name) for parent in path.parents[:5])
    return next((int(told[1] or told[2]) for told in folders if told), -1)


def placed(inside: Mapping[Path, int]) -> list[Placed]:
    """The files in the order of their trainings and steps, those whose place is unknown first.

    `inside`: the step that each file says, -1 where it says none. It comes before that in the file's name; a file whose
    name has none is left out where one that has is of the same step. `final`, `last` and `latest` without a step come
    right behind their training's last one. Files are of several trainings where two folders hold the same step, or each
    several of steps that overlap. What is taken for granted is told on stderr.

    Raises: ValueError when one folder holds a step twice.
    """
    named = {file: step_of(file) for file in inside}
    known = {file: step if step >= 0 else named[file] for file, step in inside.items()}
    _tell_of_names([file for file, step in inside.items() if step < 0])
    trainings = _trainings(known, named)
    ends = dict(_ends([file for file, step in known.items() if step < 0], trainings, known))
    unknown = sorted(file for file, step in known.items() if step < 0 and file not in ends)
    if unknown and len(inside) > 1:
        _tell("the place in the training is unknown, so they stand alone, as step -1", map(str, unknown))
    if len(trainings) > 1:
        _tell(f"{len(trainings)} trainings, each compared with itself only", trainings)
    ordered = [Placed(file, -1, str(file)) for file in unknown]
    for name, members in trainings.items():
        steps = {
            **{file: known[file] for file in members},
            **{file: ends[file][1] for file in ends if ends[file][0] == name},
        }
        ordered += sorted((Placed(file, step, name) for file, step in steps.items()), key=lambda one: one.step)
    return ordered


def for_log(files: Sequence[Placed]) -> list[Placed]:
    """Those that one log can hold: of one training, each with a place.

    Raises: ValueError when they are of several trainings.
    """
    known = [one for one in files if one.step >= 0]
    kept = known or list(files)
    trainings = sorted({one.training for one in kept})
    if len(trainings) > 1:
        examples = [next(one.path for one in kept if one.training == training) for training in trainings[:2]]
        raise ValueError(
            f"a log holds one training, got {' and '.join(map(str, examples))}: explain each training into a --logdir "
            "of its own, then `rlwatch compare` them"
        )
    if len(kept) < len(files):
        _tell("left out of the log, since their steps are unknown", (str(one.path) for one in files if one.step < 0))
    return kept


def _steps(name: str) -> Iterator[tuple[int, int, int]]:
    """What may be steps in a name: how surely, where, and which."""
    for found in _NUMBER.finditer(_NO_STEPS.sub(" ", name)):
        number = re.sub("[_,]", "", found["number"])
        value = float(number) * _UNITS[(found["unit"] or "").lower()]
        words = found["before"], found["behind"]
        rank = next((3 - n for n, kind in enumerate((_STEPS, _ROUNDS)) if any(map(kind.fullmatch, words))), 1)
        if value.is_integer() and value < 2**53:
            yield rank, found.start(), int(value)


def _trainings(known: Mapping[Path, int], named: Mapping[Path, int]) -> dict[str, list[Path]]:
    """The files with a step, by the folder of their training; under "" where there is one."""
    of_steps = [file for file in known if known[file] >= 0]
    telling = [file for file in of_steps if named[file] >= 0] or of_steps
    folders = defaultdict[Path, list[Path]](list)
    for file in telling:
        folders[_folder(file)].append(file)
    for files in folders.values():
        _check_distinct(files, known)
    spans = [[known[file] for file in files] for files in folders.values()]
    several = any(_overlap(one, other) for one, other in combinations(spans, 2))
    found = (
        {str(folder): folders[folder] for folder in sorted(folders)} if several else {"": telling} if telling else {}
    )
    for file in (file for file in of_steps if file not in telling):
        (home,) = _beside(file, found) or [str(file)]
        members = found.setdefault(home, [])
        same = [one for one in members if known[one] == known[file]]
        if same:
            _tell("left out, since another is of the same step", [f"{file} ({same[0].name}, {known[file]:,})"])
        else:
            members.append(file)
    return found


def _beside(file: Path, trainings: Mapping[str, Sequence[Path]]) -> list[str]:
    """The one training that a file whose name has no step belongs to, by its folder, if there is one."""
    near = [name for name in trainings if name == "" or Path(name).is_relative_to(file.parent)]
    return near if len(near) == 1 else []


def _overlap(one: Sequence[int], other: Sequence[int]) -> bool:
    if set(one) & set(other):
        return True
    return min(len(one), len(other)) > 1 and min(one) < max(other) and min(other) < max(one)


def _folder(file: Path) -> Path:
    """The folder whose checkpoints are of one training."""
    above = [parent for parent in file.parents[:5] if FOLDER.fullmatch(parent.name)]
    return above[-1].parent if above else file.parent


def _check_distinct(files: Sequence[Path], known: Mapping[Path, int]) -> None:
    by_step: dict[int, Path] = {}
    for file in sorted(files):
        other = by_step.setdefault(known[file], file)
        if other is not file:
            raise ValueError(
                f"expected one checkpoint a step, got {other} and {file} for step {known[file]:,}: name those that you "
                "mean, or move one training into a folder of its own"
            )


def _ends(
    files: Sequence[Path], trainings: Mapping[str, Sequence[Path]], known: Mapping[Path, int]
) -> Iterator[tuple[Path, tuple[str, int]]]:
    """The files that are the end of a training by their names, which it is of, and the step behind its last."""
    ends = defaultdict[str, list[Path]](list)
    for file in filter(lambda file: LAST.search(file.stem), files):
        for name in _beside(file, trainings):
            ends[name].append(file)
    for name, (file, *others) in ends.items():
        if not others:
            newest = max(known[one] for one in trainings[name])
            _tell(f"taken as the end of the training, one step behind {newest:,}", [str(file)])
            yield file, (name, newest + 1)


def _tell_of_names(files: Sequence[Path]) -> None:
    """Say what was read as a step that is more than the one plain number of a name."""
    read = []
    for file in files:
        step = step_of(file)
        plain = re.findall(r"\d+", file.name if file.suffix[1:].isdigit() else file.stem)
        if step >= 0 and plain and [step] != [int(number) for number in plain]:
            read.append(f"{file.name} {step:,}")
    if read:
        _tell("steps read from names", read)


def _tell(what: str, of: Iterable[str]) -> None:
    names = list(of)
    more = f", … ({len(names)} in all)" if len(names) > TOLD else ""
    log.warning("rlwatch: %s: %s%s", what, "; ".join(names[:TOLD]), more)
