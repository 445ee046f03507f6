"""A TensorBoard event file of our own, written when it is flushed, so that a full disk is an error here and now.

TensorBoard's writer hands every record to a thread, which ends for good at the first failed write and leaves a torn
record, behind which nothing is read any more; and its checksum costs 0.19 s a megabyte of the interpreter's lock.
"""

import itertools
import os
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary

from rlwatch.tensorboard.checksum import masked_crc32c

_COUNT = itertools.count()


class EventFile:
    """Summaries of one run, in one file of `logdir`, with the steps from `purge_step` on hidden in earlier files.

    Raises: OSError when the folder cannot be made or written.
    """

    def __init__(self, logdir: Path, *, purge_step: int | None = None) -> None:
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_COUNT)}.rlwatch"
        self.path = logdir / name
        self._pending: list[bytes] = []
        with _telling_of(logdir):
            logdir.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb", buffering=0)
        source = SourceMetadata(writer="rlwatch.tensorboard.events")
        self._add(Event(file_version="brain.Event:2", source_metadata=source))
        if purge_step is not None:
            self._add(Event(session_log=SessionLog(status=SessionLog.START), step=purge_step))
        self.flush()

    def add(self, summary: Summary, step: int | None = None) -> None:
        """Keeps a summary until `flush`."""
        self._add(Event(summary=summary, step=step))

    def flush(self) -> None:
        """Writes what was added. Where that fails or is cut off, the file ends as before and what was added is gone.

        Raises: OSError when the disk is full, or the file is gone.
        """
        data, self._pending = memoryview(b"".join(self._pending)), []
        end, wanted = os.fstat(self._file.fileno()).st_size, len(data)
        if data and os.fstat(self._file.fileno()).st_nlink == 0:
            raise FileNotFoundError(f"the event file must stay in its folder, got none at {self.path}: start a new run")
        try:
            while data:
                data = data[self._file.write(data) :]
        except BaseException as error:  # Ctrl-C, too, leaves no half of a record
            self._file.truncate(end)
            self._file.seek(end)
            if not isinstance(error, OSError):
                raise
            remedy = "free some space; only what they hold is lost"
            raise _told(error, f"{wanted} bytes must fit onto the disk of {self.path.parent}", remedy) from error

    def close(self) -> None:
        """Writes what was added and closes the file; more than once does no harm.

        Raises: OSError as `flush` does; the file is closed all the same.
        """
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        parts = length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))
        self._pending += parts


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file, up to the first that is torn."""
    with path.open("rb") as file:
        yield from map(Event.FromString, _records(file))


def unread(path: Path) -> int:
    """Bytes of a file that nobody reads, since a record at their begin is damaged; 0 where merely its end is torn."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        end = sum(len(record) + _FRAME for record in _records(file))
        file.seek(end)
        length = _length(file)
    half_written = size - end < _HEAD or (length is not None and length + _FRAME > size - end)
    return 0 if half_written else size - end


_HEAD, _FRAME = 12, 16
"""Bytes before a record, its length and that one's checksum; and these with the record's checksum behind it."""


def _records(file: BinaryIO) -> Iterator[bytes]:
    while (length := _length(file)) is not None:
        data, crc = file.read(length), file.read(4)
        if len(crc) < 4 or struct.unpack("<I", crc)[0] != masked_crc32c(data):  # noqa: PLR2004 - its length
            return
        yield data


def _length(file: BinaryIO) -> int | None:
    """How long the next record is, None where no whole one begins."""
    head = file.read(_HEAD)
    if len(head) < _HEAD or masked_crc32c(head[:8]) != struct.unpack("<8xI", head)[0]:
        return None
    return int(struct.unpack("<Q4x", head)[0])


def check_folder(logdir: Path) -> None:
    """Make sure that an event file could be written there.

    Raises: OSError when the folder cannot be made or written.
    """
    with _telling_of(logdir):
        logdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=logdir).close()


@contextmanager
def _telling_of(logdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _told(error, f"logdir must be a folder that can be written, got {logdir}", "choose another") from error


def _told(error: OSError, expected: str, remedy: str) -> OSError:
    """The error with its cause and remedy in words; its kind (PermissionError, NotADirectoryError …) stays."""
    return OSError(error.errno, f"{expected} ({error.strerror}): {remedy}")
