"""`rlwatch compare`: several runs on one page, as tables, as JSON, or as curves for TensorBoard."""

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from rlwatch.commands.terminal import console_of, printable, say, show, table_of, tell
from rlwatch.commands.told import folder, home
from rlwatch.compare import ComparedObject, Comparison, Variant, compare
from rlwatch.measures.seeds import Band, Median
from rlwatch.report import MEANINGS

SHOWN, WIDE_ENOUGH = 4, 100
"""Steps of the axis that a table shows, the last one among them; one less, and intervals in a line of their own, where
the terminal is less wide."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Give the parser this command."""
    parser = commands.add_parser(
        "compare",
        help="put the runs of several seeds and variants on one page",
        description="Say what the seeds of each variant look at, since when, and what they score: interquartile means "
        "with 95 % intervals by stratified bootstrap over seeds (Agarwal et al. 2021). Runs whose folders differ by a "
        "trailing seed number (and a date), and whose hyperparameters by the seed only, are one variant.",
    )
    parser.add_argument(
        "runs", nargs="*", type=home, metavar="RUN", help="folders of runs, as TensorBoard's --logdir takes them"
    )
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=GLOB",
        help="folders that make up a variant of this name; may be given several times, for one name too",
    )
    parser.add_argument("--target", default="greedy", help="; ".join(f"{a}: {b}" for a, b in MEANINGS.items()))
    parser.add_argument("--returns", metavar="TAG", help="the scalar that holds returns (default: the first all have)")
    parser.add_argument("--logdir", type=folder, metavar="DIR", help="write each variant as a run for TensorBoard here")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit status 0.

    Raises: as `rlwatch.compare.compare` does; ValueError for a group without a name; OSError when the log cannot be
    written.
    """
    groups = defaultdict[str, list[str]](list)
    for name, pattern in map(_group, options.group):
        groups[name].append(pattern)
    compared = compare(options.runs, groups=groups, target=options.target, returns=options.returns)
    if options.logdir is not None:
        write(compared, options.logdir)
    if options.json:
        print(json.dumps(compared.as_json()))  # noqa: T201 - a program prints
    else:
        _print(compared, console_of(sys.stdout))
    return 0


def write(compared: Comparison, logdir: Path) -> None:
    """Write each variant as a run of its own, in place of what was written there before, which is told on stderr.

    Raises: OSError when the folder cannot be written.
    """
    from rlwatch.tensorboard.writer import RunWriter  # noqa: PLC0415 - torch loads only for what needs it

    hidden = [variant.name for variant in compared.variants if any((logdir / variant.name).glob("*tfevents*"))]
    if hidden:
        told = f"{logdir} holds a comparison of {', '.join(hidden)} already: TensorBoard shows this one in its place"
        tell(told)
    for variant in compared.variants:
        writer = RunWriter(logdir=logdir / variant.name, purge_step=0)
        for step, values in variant.scalars():
            writer.scalars(step, values)
        writer.close()


def _group(told: str) -> tuple[str, str]:
    name, separator, pattern = told.partition("=")
    if not (name and separator and pattern):
        raise ValueError(f"--group must be NAME=GLOB, got {told!r}: for instance --group dueling='runs/dueling-*'")
    return name, home(pattern)


def _print(compared: Comparison, console: Console) -> None:
    for variant in compared.variants:
        show(console, _table(variant, compared, narrow=console.width < WIDE_ENOUGH), _title(variant, compared))
        say(console, f"runs: {', '.join(variant.runs)}")
    if compared.returns_tag is not None:
        say(console, f"{compared.returns_tag}: at each step the mean since the checkpoint before it")
    for note in compared.notes:
        say(console, f"note: {note}")


def _table(variant: Variant, compared: Comparison, *, narrow: bool) -> Table:
    shown, apart = _shown(variant, SHOWN - narrow), "\n" if narrow else " "
    steps = [f"step {variant.steps[index]:,}{_among(int(variant.seeds[index]), variant)}" for index in shown]
    table = table_of("object", "untrained", "onset", *steps)
    for name, one in sorted(variant.objects.items(), key=lambda item: -_rank(item[1])):
        onset = _onset(one.onset, len(variant.runs), apart)
        table.add_row(name, _figure(one.untrained), onset, *_cells(one.lift, shown, apart))
    if variant.returns is not None:
        table.add_section()
        table.add_row(printable(compared.returns_tag), "", "", *_cells(variant.returns, shown, apart))
    return table


def _title(variant: Variant, compared: Comparison) -> str:
    over = (
        f"{len(variant.runs)} seeds" if variant.interval == "seeds" else "one seed, intervals over the probe's episodes"
    )
    return f"{variant.name} ({over}): lift, {MEANINGS.get(compared.target, compared.target)}"


def _shown(variant: Variant, most: int) -> list[int]:
    """Indices spread evenly over the axis, without its first, and the last that all seeds came to."""
    spread = {int(index) for index in np.linspace(0, len(variant.steps) - 1, most + 1).round()[1:]}
    return sorted(spread | set(np.flatnonzero(variant.seeds == len(variant.runs))[-1:].tolist()))


def _among(seeds: int, variant: Variant) -> str:
    return "" if seeds == len(variant.runs) else f" ({seeds} of {len(variant.runs)} seeds)"


def _rank(one: ComparedObject) -> float:
    last = float(one.lift.middle[-1])
    return -math.inf if math.isnan(last) else last


def _onset(onset: Median, runs: int, apart: str) -> str:
    ended = f", {onset.ended} ended early" if onset.ended else ""
    if not onset.reached:
        return f"none{ended}"
    among = "" if onset.reached == runs else f", {onset.reached} of {runs} seeds"
    between = "" if math.isnan(onset.low) else f"{apart}[{_step(onset.low)}, {_step(onset.high)}]"
    return f"{_step(onset.middle)}{between}{among}{ended}"


def _step(value: float) -> str:
    """A step in words: infinity is never, NaN what runs that ended early leave open."""
    if math.isfinite(value):
        return f"{value:,.0f}"
    return "unknown" if math.isnan(value) else "never"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _cells(band: Band, shown: list[int], apart: str) -> Iterator[str]:
    for index in shown:
        low, high = float(band.low[index]), float(band.high[index])
        between = "" if math.isnan(low) else f"{apart}[{_figure(low)}, {_figure(high)}]"
        yield f"{_figure(float(band.middle[index]))}{between}"
