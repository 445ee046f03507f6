"""What lies in a folder and all below it."""

import logging
import os
from pathlib import Path

log = logging.getLogger("rlwatch")


def files_below(folder: Path) -> list[Path]:
    """The names in a folder and all below it that are no folders; folders below that are closed are told on stderr.

    Raises: PermissionError when the folder itself cannot be looked into.
    """
    closed: list[OSError] = []
    found = [Path(home, name) for home, _, names in os.walk(folder, onerror=closed.append) for name in names]
    for error in closed:
        if Path(error.filename) == folder:
            raise type(error)(error.errno, f"{error.strerror}: allow it to be looked into", error.filename)
        log.warning("rlwatch: left out, since it cannot be looked into (%s): %s", error.strerror, error.filename)
    return found
