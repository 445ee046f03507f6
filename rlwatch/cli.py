"""`rlwatch record | explain | report | compare | probe | doctor`: what the monitor does, without a training."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlwatch import outputs
from rlwatch.commands import compare, probes
from rlwatch.commands.terminal import (
    console_of,
    end_quietly,
    escape_missing_letters,
    interrupted,
    own_output,
    printable,
    printable_warnings,
    say,
    show,
    shown_progress,
    table_of,
    tell,
)
from rlwatch.commands.told import METHODS, above, check_target, file, folder, home, setting
from rlwatch.connection import HERE, connected
from rlwatch.loading import loaded
from rlwatch.report import COLUMNS, MEANINGS, Report

DESCRIPTION = """\
See what a DQN looks at while it trains.

  rlwatch explain runs/breakout/checkpoints            what each saved network looks at, as a table
  rlwatch explain model.pt --probe pong --json         one JSON object a line per checkpoint
  rlwatch report runs/breakout --out report.html       the RLWATCH tab of a run as one file, to look at or to send
  rlwatch compare runs/*                               several seeds and variants on one page
  rlwatch record ms_pacman --out ms_pacman.npz         play a game and keep the frames to ask about
  rlwatch probe breakout --png sheet.png               what is in a probe, as numbers and as a picture
  rlwatch doctor                                       what works on this machine, and what to do where it does not

In a training loop: Watch(q_network, probe="breakout", logdir="runs/x"), then watch(step).\
"""

SLOW = ("occlusion", "greydanus", "sarfa", "meaningful_perturbation", "lime", "shap")
"""Those of `rlwatch.attribution.methods.PERTURBING`, which takes seconds to load."""
SLOW_WORDS = "{} asks the network many times for each frame: a checkpoint takes minutes, 100 times a rule's and more"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0 done, 1 something is wrong (said on stderr), 2 wrong usage, 130 Ctrl-C."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # a caller may have closed it  # noqa: SIM115
    escape_missing_letters()
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        with printable_warnings():
            status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        end_quietly()
        return 0
    except KeyboardInterrupt:
        return interrupted()
    except (ValueError, OSError, TypeError, RuntimeError) as error:
        tell(_words(error))
        return 1
    return status


def _words(error: Exception) -> str:
    """What an error says; of one of the system its reason and its file, without its number."""
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!a} must be a name in UTF-8, which TensorBoard's files need: rename it"
    if not (isinstance(error, OSError) and error.strerror):
        return str(error)
    return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rlwatch", description=DESCRIPTION, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_explain(commands)
    _add_report(commands)
    compare.add(commands)
    probes.add_record(commands)
    probes.add_probe(commands)
    doctor = commands.add_parser("doctor", help="check the machine, the versions and the probes")
    doctor.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    doctor.set_defaults(run=_doctor)
    return parser


def _version() -> str:
    """The program and which version of it is installed, if one is."""
    try:
        return f"rlwatch {version('rlwatch')}"
    except PackageNotFoundError:
        return "rlwatch, not installed"


def _add_explain(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    explain = commands.add_parser(
        "explain",
        help="say what saved Q-networks look at",
        description="Say what saved Q-networks look at. A checkpoint is a file of agents/dqn.py, of a framework in "
        "the README's table, or a saved state_dict of a Nature DQN; of a folder or a run every checkpoint is taken, by "
        "step. lift 1 = no preference, 9 = nine times the "
        "average pixel's relevance.",
    )
    explain.add_argument(
        "checkpoints", nargs="+", type=home, metavar="CHECKPOINT", help="files, folders, runs, 'patterns'"
    )
    _add_question(explain)
    _add_told(explain)
    _add_answer(explain)
    explain.set_defaults(run=_explain)


def _add_question(explain: argparse.ArgumentParser) -> None:
    """Add what a network is asked: about which frames, and how."""
    explain.add_argument(
        "--probe", type=home, metavar="GAME|FILE", help="the frames to ask about (default: the checkpoint's game)"
    )
    methods = f"how to attribute (default: %(default)s): {', '.join(METHODS)}"
    explain.add_argument("--method", default="epsilon_gamma_box", help=methods)
    explain.add_argument(
        "--set",
        action="append",
        default=[],
        type=setting,
        dest="options",
        metavar="NAME=VALUE",
        help="a keyword of the method, as in `--method occlusion --set patch=8`; may be given several times",
    )
    known = "; ".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items())
    explain.add_argument("--target", default="greedy", help=f"{known}; value, advantage: of a dueling head; action=2")


def _add_answer(explain: argparse.ArgumentParser) -> None:
    """Add what is said of a network beside its objects, where, and by whom."""
    explain.add_argument("--validity", action="store_true", help="check how far the maps can be trusted, too")
    explain.add_argument(
        "--logdir", type=folder, metavar="DIR", help="write scalars and clips for TensorBoard here too"
    )
    explain.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="spread the checkpoints over a Ray cluster (default: this machine's cores); needs rlwatch[ray]",
    )
    explain.add_argument("--json", action="store_true", help="one JSON object a line per checkpoint")


def _add_told(explain: argparse.ArgumentParser) -> None:
    """Add what is told of a network where its file does not say it."""
    explain.add_argument(
        "--divisor", type=float, help="what the training divides pixels by (default: as its framework does, else 255)"
    )
    explain.add_argument("--head", choices=["atoms", "quantiles"], help="several outputs per action: C51's or QR-DQN's")
    explain.add_argument(
        "--activation", choices=["relu", "elu", "tanh"], help="where the file's framework leaves it open"
    )


def _add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    report = commands.add_parser(
        "report",
        help="make one HTML file of a run",
        description="Write the RLWATCH tab of a run as one HTML file that holds all its data and opens in any browser, "
        "without TensorBoard or a network.",
    )
    report.add_argument("folder", type=file, metavar="RUN", help="a run's folder; of a folder of runs, all go in")
    report.add_argument("--out", type=file, default=Path("report.html"), metavar="FILE", help="default: %(default)s")
    report.add_argument(
        "--checkpoints",
        type=above(2),
        default=60,
        metavar="N",
        help="at most so many a run, spread evenly (default: 60)",
    )
    report.set_defaults(run=_report)


def _explain(options: argparse.Namespace) -> int:
    check_target(options.target)
    if options.method in SLOW:
        tell(SLOW_WORDS.format(options.method))
    with connected(options.ray) as cluster, shown_progress("checkpoints") as progress, own_output() as output:
        loaded(HERE)
        from rlwatch.offline import explain_checkpoints  # noqa: PLC0415 - torch loads only for what needs it

        reports = explain_checkpoints(
            options.checkpoints,
            probe=options.probe,
            method=options.method,
            options=dict(options.options),
            target=options.target,
            told={name: getattr(options, name) for name in ("divisor", "head", "activation")},
            logdir=options.logdir,
            judge=options.validity,
            ray=cluster,
            progress=progress,
        )
        write = _print_json if options.json else _print_tables
        write(reports, options.target, output)
    return 0


def _print_json(reports: Iterator[Report], target: str, output: Any) -> None:
    for report in reports:
        print(json.dumps(report.as_json(target)), file=output, flush=True)


def _print_tables(reports: Iterator[Report], target: str, output: Any) -> None:
    console = console_of(output)
    for report in reports:
        step = f"{report.step:,}" if report.step >= 0 else "unknown"
        title = f"{report.checkpoint or report.game}, step {step}: {MEANINGS.get(target, target)}"
        table = table_of(*COLUMNS)
        for cells in report.rows(target):
            table.add_row(*cells)
        show(console, table, title)
        found = [finding.text for finding in report.findings] + ([report.trust] if report.trust else [])
        for line in [*found, *(f"note: {note}" for note in report.notes)]:
            say(console, line)


def _report(options: argparse.Namespace) -> int:
    from rlwatch.tensorboard.plugin.still import write_report  # noqa: PLC0415 - TensorBoard loads only for what needs it

    outputs.check(options.out, "--out")
    for note in write_report(options.folder, options.out, checkpoints=options.checkpoints):
        tell(note)
    if not outputs.is_stream(options.out):  # which may be the standard output
        size = options.out.stat().st_size / 1e6
        print(f"{printable(options.out)}: {size:.1f} MB, open it in a browser")  # noqa: T201 - a program prints
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from rlwatch.doctor import examine_machine  # noqa: PLC0415 - it imports everything, to see whether that works

    checks = examine_machine()
    if options.json:
        print(json.dumps([check._asdict() for check in checks]))  # noqa: T201
    else:
        table = table_of("what", "works", "found", "what to do")
        for check in checks:
            table.add_row(check.what, "yes" if check.works else "NO", check.found, check.remedy)
        show(console_of(sys.stdout), table)
    return 0 if all(check.works for check in checks) else 1
