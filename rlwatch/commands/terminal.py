"""What a command shows at a terminal besides its output: how far it has come, and what others print."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console
from rich.measure import Measurement, measure_renderables
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

WIDE = 200
"""Columns that a table may take in a file or a pipe."""
INTERRUPTED = 130
"""128 + SIGINT."""


def escape_missing_letters() -> None:
    """From now on stdout shows in escapes what its encoding has no letters for."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def shown_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, told how many are done and of how many; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TextColumn(what), TimeElapsedColumn(), TimeRemainingColumn()
    # what is printed goes through the bar where it would break it, and past it into a file
    at_terminal = sys.stdout.isatty()
    bar = Progress(
        *columns, console=console, transient=True, redirect_stdout=at_terminal, disable=not console.is_terminal
    )
    task = bar.add_task("", total=None)

    def update(done: int, of: int) -> None:
        bar.update(task, completed=done, total=of)

    with bar:
        yield update


@contextmanager
def own_output() -> Iterator[Any]:
    """The standard output for the command alone; what others print goes to stderr: Ray tells of lost processes so."""
    output = sys.stdout
    with redirect_stdout(sys.stderr):
        yield output


class _Piped(Console):
    """A console whose reader may go, as `head` does: rich would end the program as if something had gone wrong."""

    def on_broken_pipe(self) -> None:
        """Raises: BrokenPipeError."""
        raise BrokenPipeError


def console_of(output: Any) -> Console:
    """A console whose tables are as wide as the terminal; where there is none, as wide as they must be.

    What it prints is data, never markup: a folder may be called `run[lr=0.1]`.
    """
    width = None if output.isatty() else WIDE
    return _Piped(file=output, width=width, markup=False, emoji=False, highlight=False)


def table_of(*columns: str) -> Table:
    """A table whose cells go on in another line where the terminal is narrow: nothing of them is left out."""
    return Table(*(Column(one, overflow="fold") for one in columns))


def show(console: Console, table: Table, title: str = "") -> None:
    """Print a table under its title, without room around its cells where words would be broken otherwise."""
    if title:
        say(console, title)
    if Measurement.get(console, console.options.update(width=WIDE), table).minimum > console.width:
        table.padding = 0
    _keep_words(console, table)
    console.print(table)


def _keep_words(console: Console, table: Table) -> None:
    """Where lines of cells must be broken, give each column the room of its longest word: rich makes all alike."""
    columns, (_, right, _, left) = table.columns, table.padding
    sizes = [measure_renderables(console, console.options, [one.header, *one.cells]) for one in columns]
    room = console.width - 1 - len(columns) * (1 + left + right)  # but for lines and padding
    if sum(one.minimum for one in sizes) <= room < sum(one.maximum for one in sizes):
        for column, width in zip(columns, _widths(sizes, room), strict=True):
            column.width = width


def _widths(sizes: Sequence[Measurement], room: int) -> list[int]:
    """At least the longest word of each column, at most its longest line; the narrowest grow first."""
    widths = [one.minimum for one in sizes]
    while sum(widths) < room:
        growing = [index for index, one in enumerate(sizes) if widths[index] < one.maximum]
        widths[min(growing, key=widths.__getitem__)] += 1
    return widths


def printable(text: object) -> str:
    """A text in one line, in escapes what would break it, move or colour the terminal, or is no letter: as in names."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


@contextmanager
def printable_warnings() -> Iterator[None]:
    """What rlwatch warns of is told in one line, whatever the names in it hold."""
    logger = logging.getLogger("rlwatch")

    def escaped(record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True

    logger.addFilter(escaped)
    try:
        yield
    finally:
        logger.removeFilter(escaped)


def tell(line: object) -> None:
    """Print a line about the command on stderr."""
    print(f"rlwatch: {printable(line)}", file=sys.stderr)  # noqa: T201 - a program prints


def say(console: Console, line: str) -> None:
    """Print a line: in one piece into a file or a pipe, broken between words at a terminal."""
    console.print(printable(line), soft_wrap=not console.is_terminal)


def end_quietly() -> None:
    """Send what is still to be printed nowhere: whoever read it, such as `head`, has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def interrupted() -> int:
    """Say that the user has ended the program; the exit status that shells know for it."""
    tell("interrupted")
    return INTERRUPTED
