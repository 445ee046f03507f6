"""`rlwatch record` and `rlwatch probe`: play a game and keep a probe, and say what is in one."""

import argparse
import json
import shlex
import sys
from collections import Counter
from typing import Any

from rich.table import Table

from rlwatch.commands.terminal import console_of, printable, say, show, table_of
from rlwatch.commands.told import above, file, home

SURE = {
    "tracked": "in which part of the screens, between its first and its last, it was found",
    "whole": "in which part of those its size stayed nearly the same, as it does not when things touch or fall apart",
}
"""How sure it is that what bears one name is one kind of thing, see `rlwatch.atari.background.Sureness`."""


def add_record(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Give the parser the command that plays."""
    record = commands.add_parser(
        "record",
        help="play a game and keep a probe",
        description="Play a game and keep a probe: the fixed set of frames that every checkpoint is asked about.",
    )
    record.add_argument("game", metavar="GAME", help="an ALE game: breakout, pong, ms_pacman, ALE/Seaquest-v5, ...")
    record.add_argument("--out", type=file, required=True, metavar="FILE", help="where the probe goes (.npz)")
    record.add_argument(
        "--policy",
        type=home,
        metavar="scripted|random|CHECKPOINT",
        help="who plays (default: scripted where there is a scripted player for the game, else random)",
    )
    record.add_argument("--steps", type=above(1), default=None, help="agent steps to play before frames are chosen")
    record.add_argument("--seed", type=above(0), default=0, help="the same seed plays the same episodes (default: 0)")
    record.set_defaults(run=_record)


def add_probe(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Give the parser the command that says what is in a probe."""
    probe = commands.add_parser("probe", help="say what is in a probe")
    probe.add_argument(
        "probe", type=home, metavar="GAME|FILE", help="a game whose probe ships with rlwatch, or a probe file"
    )
    probe.add_argument("--objects", type=file, metavar="TOML", help="your own names for its objects (see README)")
    probe.add_argument("--png", type=file, metavar="FILE", help="write a contact sheet of its frames")
    probe.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    probe.set_defaults(run=_probe)


def _record(options: argparse.Namespace) -> int:
    from rlwatch.probes import record_to  # noqa: PLC0415 - torch loads only for what needs it

    probe = record_to(options.out, options.game, policy=options.policy, steps=options.steps, seed=options.seed)
    print(f"{printable(options.out)}: {len(probe)} observations of {probe.game}, digest {probe.digest[:12]}")  # noqa: T201
    print(f"{probe.placed}: {', '.join(probe.placed.shapes) or 'none'}")  # noqa: T201
    print(f"look at it: rlwatch probe {printable(shlex.quote(str(options.out)))} --png sheet.png")  # noqa: T201
    return 0


def _probe(options: argparse.Namespace) -> int:
    from rlwatch.probes import describe, write_sheet  # noqa: PLC0415 - OpenCV loads only for what needs it

    described = describe(options.probe, objects=options.objects)
    if options.png:
        write_sheet(options.probe, options.png, objects=options.objects)
    if options.json:
        print(json.dumps(described))  # noqa: T201
        return 0
    console = console_of(sys.stdout)
    objects, found = described.pop("objects"), described.pop("found")
    described["found"] = found["says"]
    described["actions"] = ", ".join(described["actions"])
    described["situations"] = ", ".join(f"{count} {one}" for one, count in Counter(described["situations"]).items())
    for name, value in described.items():
        say(console, f"{name}: {value}")
    shown = {part: told for part, told in SURE.items() if any(part in one for one in objects.values())}
    show(console, _table(objects, list(shown)))
    for part, told in shown.items():
        say(console, f"{part}: {told}")
    return 0


def _table(objects: dict[str, dict[str, Any]], shown: list[str]) -> Table:
    """What is known of each object, with the columns of `SURE` that are shown."""
    table = table_of("object", "observations with it", "pixels in a stack", *shown)
    for name, one in objects.items():
        sure = [f"{100 * one[part]:.0f} %" if part in one else "" for part in shown]
        table.add_row(name, str(one["frames"]), f"{one['pixels']:.1f}", *sure)
    return table
