"""A user's own names for the objects of a probe, and regions of their own, from a small TOML file.

drop = ["hud"]

[objects]                                # a name, and what was found that it stands for
player = "moving-2"
ghosts = ["moving-1", "moving-3"]

[regions]                                # x, y, width and height in pixels of the screen, or a picture of its size
corridor = [0, 30, 160, 12]
maze = "maze.png"
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rlwatch.atari.background import Sureness
from rlwatch.atari.placing import Placed, Shape
from rlwatch.atari.screen import WIDTH, Box

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Edits:
    """What a file changes: `drop`, names; `objects`, new names with the names found that each stands for; `regions`."""

    source: str
    drop: tuple[str, ...]
    objects: Mapping[str, tuple[str, ...]]
    regions: Mapping[str, Shape]


def read(path: Path, lines: int) -> Edits:
    """The edits of a file, for a screen of so many lines.

    Raises: ValueError, naming the entry and the remedy, when it holds anything else; FileNotFoundError.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"expected names of objects (--objects) in a TOML file, got none at {path}: look where it is"
        )
    try:
        return _edits(str(path), _content(path), path.parent, lines)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error


def _content(path: Path) -> dict[str, Any]:
    """Raises: ValueError when it is no TOML in UTF-8, which may begin with a mark of its byte order."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"expected text in UTF-8, got other bytes ({error}): save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f'expected TOML, such as drop = ["hud"], got what is none: {error}; mend it there') from error


def _edits(source: str, content: dict[str, Any], folder: Path, lines: int) -> Edits:
    unknown = set(content) - {"drop", "objects", "regions"}
    if unknown:
        raise ValueError(f"expected drop, [objects] and [regions], got {', '.join(sorted(unknown))}")
    for table in ("objects", "regions"):
        for name in _table(content, table):
            if not re.fullmatch(r"[\w-]+", name):
                raise ValueError(f"expected a name of letters, digits, - and _ in [{table}], got {name!r}")
    return Edits(
        source=source,
        drop=_names(content.get("drop", []), "drop"),
        objects={name: _names(value, name) for name, value in _table(content, "objects").items()},
        regions={name: _region(value, name, folder, lines) for name, value in _table(content, "regions").items()},
    )


def _table(content: dict[str, Any], name: str) -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"expected a table [{name}], got {table!r}")  # noqa: TRY004 - a file's content
    return table


def _names(value: Any, name: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not (isinstance(names, list) and all(isinstance(one, str) for one in names) and (names or name == "drop")):
        raise ValueError(f'expected {name} to be a name or a list of names, such as ["moving-1"], got {value!r}')
    return tuple(names)


def _region(value: Any, name: str, folder: Path, lines: int) -> Shape:
    """A region of one's own: a box of the screen, or the pixels of a picture that are not black."""
    if isinstance(value, str):
        return _pictured(folder / value, name, lines)
    if not (isinstance(value, list) and len(value) == len(Box._fields) and all(type(one) is int for one in value)):
        raise ValueError(f'expected {name} to be [x, y, width, height] in pixels or "a picture.png", got {value!r}')
    box = Box(*value)
    if min(box.x, box.y, box.w - 1, box.h - 1) < 0 or box.x + box.w > WIDTH or box.y + box.h > lines:
        raise ValueError(f"expected {name} to lie on the screen of {WIDTH} × {lines} pixels, got {value}")
    return Shape(box)


def _pictured(path: Path, name: str, lines: int) -> Shape:
    try:
        opened = Image.open(path)
    except (OSError, Image.DecompressionBombError) as error:
        got = getattr(error, "strerror", None) or error
        raise ValueError(f"expected {name} to be a picture beside the TOML file, got {path} ({got}): a PNG") from error
    with opened as picture:
        if picture.size != (WIDTH, lines):
            raise ValueError(
                f"expected {name} to be a picture of {WIDTH} × {lines} pixels, got {picture.size} in {path}"
            )
        *colours, seen = np.moveaxis(np.asarray(picture.convert("RGBA")), 2, 0)
    painted = np.any(colours, axis=0) & (seen > 0)
    if not painted.any():
        raise ValueError(f"expected {name} to be what is not black in {path}, got a picture that is black all over")
    return Shape(Box(0, 0, WIDTH, lines), painted)


def apply(edits: Edits, placed: Placed, screens: int) -> Placed:
    """The objects as the edits want them: those given names, then what is left, then the regions, on every screen.

    Raises: ValueError when an edit names what is not there, or takes it twice, or a name would stand twice.
    """
    used = [*edits.drop, *(name for names in edits.objects.values() for name in names)]
    _check(edits, used, placed)
    merged = {
        new: [tuple(chain.from_iterable(pieces)) for pieces in zip(*(placed.shapes[one] for one in old), strict=True)]
        for new, old in edits.objects.items()
    }
    left = {name: where for name, where in placed.shapes.items() if name not in used}
    regions = {name: [(shape,)] * screens for name, shape in edits.regions.items()}
    sureness = {name: one for name, one in placed.sureness.items() if name in left}
    for new, old in edits.objects.items():
        known = [placed.sureness[name] for name in old if name in placed.sureness]
        if known:
            sureness[new] = Sureness(min(one.tracked for one in known), min(one.whole for one in known))
    return replace(placed, shapes=merged | left | regions, sureness=sureness)


def _check(edits: Edits, used: list[str], placed: Placed) -> None:
    for name in used:
        if name not in placed.shapes:
            found = ", ".join(placed.shapes) or "none"
            raise ValueError(f"{edits.source}: expected objects out of those found ({found}), got {name!r}")
        if used.count(name) > 1:
            raise ValueError(f"{edits.source}: {name} is used twice: let it belong to one object")
    names = [*edits.objects, *(name for name in placed.shapes if name not in used), *edits.regions]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{edits.source}: {name} would be the name of two things: take another")
