"""Every game that ale-py brings: record a short probe, find its objects, explain an untrained network on it.

    python -m tests.benchmarks.all_games [GAME…] [--steps 1500] [--out TABLE.md]

One line a game: observations, how the objects were found, in which part of the screens the background holds still,
which part of what stands out has a name, the names with how well each was tracked (%), and seconds to record, to find
and to explain. A game that cannot be recorded or explained has the reason in its line; the program then ends with
status 1, unless it is a ROM that ale-py itself refuses.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from ale_py import roms

from rlwatch.atari.choose import record_probe
from rlwatch.atari.probe import Probe
from rlwatch.monitor.examination import Examination
from tests.fixtures.watched import Nature

COLUMNS = ("game", "frames", "found", "still", "named", "objects (tracked, %)", "record", "find", "explain")
REFUSED = "whose ROM it refuses"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", nargs="*", metavar="GAME", default=sorted(roms.get_all_rom_ids()))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, help="write the table here too, line by line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for one in lines(options.games, options.steps):
        print(one, flush=True)
        failed += "failed:" in one
        if options.out:
            with options.out.open("a") as file:
                file.write(one + "\n")
    return 1 if failed else 0


def lines(games: list[str], steps: int) -> Iterator[str]:
    yield row(*COLUMNS)
    yield row(*["---"] * len(COLUMNS))
    for game in games:
        yield line(game, steps)


def line(game: str, steps: int) -> str:
    try:
        return measured(game, steps)
    except ValueError as error:
        return row(game, "refused by ale-py" if REFUSED in str(error) else f"failed: {error}")


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def measured(game: str, steps: int) -> str:
    """The line of one game."""
    probe, recording = timed(lambda: record_probe(game, policy="random", steps=steps))
    _, finding = timed(lambda: probe.placed)
    report, explaining = timed(lambda: explained(probe))
    sure, visible = probe.placed.sureness, probe.visible()
    assert set(report.targets["greedy"].objects) == set(visible)
    names = [f"{name} {sure[name].tracked:.0%}".rstrip("%") if name in sure else name for name in visible]
    figures = [f"{probe.placed.steady:.0%}", f"{probe.placed.named:.0%}", ", ".join(names) or probe.placed.reason]
    seconds = [f"{one:.1f}" for one in (recording, finding, explaining)]
    return row(game, str(len(probe)), probe.placed.how, *figures, *seconds)


def explained(probe: Probe) -> Any:
    torch.manual_seed(0)
    return Examination(Nature(len(probe.actions)), probe).report(0)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    raise SystemExit(main())
