"""`python -m rlwatch` is the command `rlwatch`."""

import sys


def run() -> int:
    """The exit status of the command, also where Ctrl-C comes while it still loads."""
    try:
        from rlwatch.cli import main  # noqa: PLC0415 - what takes its time is in here

        return main()
    except KeyboardInterrupt:
        print("rlwatch: interrupted", file=sys.stderr)  # noqa: T201 - a program prints
        return 130


if __name__ == "__main__":
    sys.exit(run())
