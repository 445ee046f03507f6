"""Probes as files: small, and read as data whoever wrote them."""

import difflib
import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rlwatch.atari.names import plain
from rlwatch.outputs import part_of

VERSION = 1
MAX_BYTES = 256 * 2**20
"""Bytes that a file may hold once inflated; a shipped probe holds about 25 MB."""
REMEDY = "make it anew with `rlwatch record GAME --out FILE`"

_DELTAS = ("screens", "ram", "states")
"""Arrays that are stored as what changes from entry to entry, since a screen is larger than deflate's window."""


def shipped() -> tuple[str, ...]:
    """The games whose probe ships with rlwatch.

    A probe's metadata say how it was played: `rlwatch record GAME --policy POLICY --seed SEED --steps STEPS`.
    """
    folder = resources.files("rlwatch.atari") / "probes"
    return tuple(sorted(entry.name.removesuffix(".npz") for entry in folder.iterdir() if entry.name.endswith(".npz")))


def locate(source: str | Path) -> Path:
    """The file of a probe: a path, or a game whose probe ships.

    Raises: FileNotFoundError when there is neither.
    """
    games = {plain(game): game for game in shipped()}
    if isinstance(source, str) and plain(source) in games:
        return Path(str(resources.files("rlwatch.atari") / "probes" / f"{games[plain(source)]}.npz"))
    if not Path(source).is_file():
        raise FileNotFoundError(
            f"expected a probe file or a game whose probe ships with rlwatch ({', '.join(games.values())}), got "
            f"{str(source)!r}: {_remedy(source, games)}"
        )
    return Path(source)


def _remedy(source: str | Path, games: Mapping[str, str]) -> str:
    """What to do about a probe that is not there."""
    if isinstance(source, Path) or Path(source).suffix or len(Path(source.removeprefix("ALE/")).parts) != 1:
        return f"{'it is a folder, name a file in it' if Path(source).is_dir() else 'look where it is'}, or {REMEDY}"
    near = [games[one] for one in difflib.get_close_matches(plain(source), games, n=3, cutoff=0.75)]
    make = f"make one with `rlwatch record {source} --out FILE`"
    return f"did you mean {' or '.join(near)}? Of another game {make}" if near else make


def write(path: Path, words: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write words and arrays to a file, which is replaced only once everything is written.

    Raises: OSError when it cannot be written.
    """
    header = np.frombuffer(json.dumps({"version": VERSION, **words}).encode(), np.uint8)
    stored = {name: _changes(array) if name in _DELTAS else array for name, array in arrays.items()}
    with part_of(path) as part, part.open("wb") as file:
        np.savez_compressed(file, words=header, **stored)  # type: ignore[arg-type]  # none is named allow_pickle


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The words and arrays of a file that `write` has written.

    Nothing in it is executed, and no more than `MAX_BYTES` are inflated.

    Raises: ValueError when it is anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = members(archive)
        words = json.loads(inside.pop("words").tobytes())
        if not isinstance(words, dict) or words.pop("version", None) != VERSION:
            raise ValueError(f"expected a probe of version {VERSION}")
        arrays = {name: _accumulated(array) if name in _DELTAS else array for name, array in inside.items()}
    except _UNREADABLE as error:
        raise ValueError(f"{path} is no readable probe ({type(error).__name__}: {error}): {REMEDY}") from error
    return words, arrays


_UNREADABLE = (ValueError, KeyError, EOFError, RuntimeError, OSError, zipfile.BadZipFile, zlib.error, struct.error)


def members(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The arrays of an npz archive, none of which inflates to more than its directory says, nor all to too much.

    Raises: ValueError when they do, or when one is of objects.
    """
    infos = archive.infolist()
    total = sum(info.file_size for info in infos)
    if total > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES:,} bytes once inflated, got {total:,}")
    if any(info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} for info in infos):
        raise ValueError("expected stored or deflated members, got another compression")
    return {info.filename.removesuffix(".npy"): _array(archive.read(info)) for info in infos}


def _array(data: bytes) -> np.ndarray:
    """The array of an npy file; its size is checked before it is trusted, and objects are refused."""
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("expected arrays in npy format 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or fortran or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"expected a plain array of {dtype} {shape}, got {len(data) - file.tell()} bytes")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape)


def _changes(array: np.ndarray) -> np.ndarray:
    """Each entry XOR the one before; a picture is one entry."""
    entries = _entries(array)
    changes = entries.copy()
    changes[1:] ^= entries[:-1]
    return changes.reshape(array.shape)


def _accumulated(changes: np.ndarray) -> np.ndarray:
    """The inverse of `_changes`."""
    entries = _entries(changes).copy()
    for before, entry in pairwise(entries):
        np.bitwise_xor(entry, before, out=entry)  # ten times as fast as bitwise_xor.accumulate along this axis
    return entries.reshape(changes.shape)


def _entries(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim < 2:  # noqa: PLR2004 - entries and what is in them
        raise ValueError(f"expected entries of bytes, got {array.dtype} {array.shape}")
    return array.reshape(-1, math.prod(array.shape[2:])) if array.ndim > 2 else array  # noqa: PLR2004 - the same
