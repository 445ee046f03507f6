"""Files that a program writes: seen to be writable before the work, and replaced only once they are whole."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check(path: Path, option: str, *, suffix: str = "") -> None:
    """Make sure that a file could be written, without leaving anything behind.

    Raises: OSError when it is a folder or its folder cannot be written; ValueError when it must end otherwise.
    """
    with telling_of(path, option):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        home = next(parent for parent in _behind_links(path).parents if parent.exists())
        if not is_stream(path):
            tempfile.TemporaryFile(dir=home).close()
    if suffix and path.suffix.lower() != suffix:
        raise ValueError(f"{option} must end in {suffix}, got {path}: name it {path.with_suffix(suffix)}")


def put(path: Path, data: bytes | memoryview) -> None:
    """Write a file, and the folders above it where they are missing.

    Raises: OSError when it cannot be written; what was there before stays then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with part_of(path) as part:
        part.write_bytes(data)


def is_stream(path: Path) -> bool:
    """Whether it is a device or a pipe, such as /dev/null, which is written into and never replaced."""
    return path.exists() and not path.is_file()


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Where to write what takes the file's place at the end, and is gone where anything comes between.

    A link stays one: the file that it leads to is replaced. A device or a pipe is written into.
    """
    if is_stream(path):
        yield path
        return
    path = _behind_links(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def telling_of(path: Path, option: str) -> Iterator[None]:
    """Says of an OSError which option it concerns, and what to do.

    Raises: OSError in these words.
    """
    try:
        yield
    except OSError as error:
        message = f"{option} must be a file that can be written, got {path} ({error.strerror}): choose another"
        raise OSError(error.errno, message) from error


def _behind_links(path: Path) -> Path:
    """The file itself, from the root on; of links that lead in a circle, the first."""
    return Path(os.path.realpath(path))
