"""`python -m rlwatch` is the command `rlwatch`."""

import atexit
import gc
import sys
from collections.abc import Callable

from rlwatch.loading import loaded


def run() -> int:
    """The exit status of the command, also where Ctrl-C comes while it still loads."""
    atexit.register(gc.freeze)  # or else half a second goes into searching torch's modules for garbage at the end
    try:
        main: Callable[[], int] = loaded("rlwatch.cli").main  # what takes its time is in here
        return main()
    except KeyboardInterrupt:
        print("rlwatch: interrupted", file=sys.stderr)  # noqa: T201 - a program prints
        return 130


if __name__ == "__main__":
    sys.exit(run())
