"""The command line, run as a user runs it."""

import importlib.metadata
import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rlwatch import cli, doctor
from rlwatch.attribution import METHODS, targets
from rlwatch.attribution.methods import PERTURBING
from rlwatch.cli import main
from rlwatch.commands import told
from rlwatch.doctor import Check
from rlwatch.report import COLUMNS
from tests.fixtures.watched import Nature, read, tags
from tests.frameworks.events import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two checkpoints of one training."""
    path = tmp_path_factory.mktemp("checkpoints")
    for step in (0, 100):
        torch.manual_seed(step)
        content = {"model": Nature().state_dict(), "step": step, "game": "breakout", "returns": 1.5}
        torch.save(content, path / f"step_{step:09d}.pt")
    return path


def test_the_version_is_that_which_is_installed(monkeypatch, capsys):
    installed = importlib.metadata.version("rlwatch")
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"rlwatch {installed}\n"
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == "rlwatch, not installed\n"


def test_what_the_command_line_names_without_loading_torch_is_what_there_is():
    assert set(cli.SLOW) == set(PERTURBING)
    assert set(told.TARGETS) == {*targets.TARGETS, "action=k"}
    assert told.METHODS == METHODS


def test_explain_prints_one_json_object_a_line_per_checkpoint(folder, tmp_path, capsys):
    assert main(["explain", str(folder), "--json", "--logdir", str(tmp_path)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["step"] for record in records] == [0, 100]
    assert records[0]["objects"]["ball"]["frames"] == 256
    assert records[1]["q"]["churn"] is not None
    assert records[1]["contrast"]["objects"]["ball"]["lift"] > 0
    assert {"rlwatch/lift/greedy/ball", "rlwatch/clip/contrast", "rlwatch/maps", "rlwatch/probe"} <= tags(tmp_path)


def test_a_run_goes_on_where_its_log_ends_and_what_cannot_be_read_is_told_at_the_end(folder, tmp_path, capsys):
    small("breakout").save(tmp_path / "probe.npz")
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "step_000000050.pt").write_bytes(b"PK broken")
    told = ["--probe", str(tmp_path / "probe.npz"), "--logdir", str(tmp_path / "log"), "--json"]
    assert main(["explain", str(tmp_path / "step_000000000.pt"), *told]) == 0
    assert main(["explain", str(tmp_path), *told]) == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["step"] for line in captured.out.splitlines()] == [0, 100]
    assert "1 of 3 checkpoints left out" in captured.err
    assert "step_000000050.pt is no readable checkpoint" in captured.err
    assert [event.step for event in read(tmp_path / "log").Scalars("rlwatch/q/greedy")] == [0, 100]


def test_the_same_checkpoint_gives_the_same_numbers_twice(folder, capsys):
    told = []
    for _ in range(2):
        main(["explain", str(folder / "step_000000100.pt"), "--json"])
        record = json.loads(capsys.readouterr().out)
        record.pop("cost")
        told.append(record)
    assert told[0] == told[1]


def test_explain_without_json_prints_a_table_and_what_the_target_means(folder, capsys):
    assert main(["explain", str(folder / "step_000000000.pt"), "--target", "contrast"]) == 0
    printed = capsys.readouterr().out
    assert "choice between actions" in printed
    assert "paddle" in printed


def test_explain_tells_the_notes_beneath_the_table(tmp_path, capsys):
    network = Nature()
    nn.init.zeros_(network.body[-1].weight)
    torch.save({"model": network.state_dict(), "step": 0, "game": "breakout"}, tmp_path / "dead.pt")
    assert main(["explain", str(tmp_path / "dead.pt")]) == 0
    assert "note: no map of the value holds positive relevance" in capsys.readouterr().out


def test_explain_takes_any_target_and_the_keywords_of_a_method(folder, capsys):
    told = []
    for root in ("0.5", "0.01"):
        arguments = ["--method", "simple_taylor", "--set", f"root={root}", "--target", "action=2"]
        assert main(["explain", str(folder / "step_000000100.pt"), *arguments, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert {one["target"] for one in told} == {"action=2"}
    assert told[0]["objects"]["ball"]["lift"] != told[1]["objects"]["ball"]["lift"]
    assert {"greedy", "contrast"} <= told[0].keys()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--method", "occlusion", "--set", "pach=3"], "did you mean 'patch'"),
        (["--target", "contrst"], "did you mean 'contrast'"),
        (["--target", "all"], "explain_actions"),
    ],
)
def test_a_misspelt_setting_is_refused_with_a_remedy(folder, capsys, arguments, remedy):
    assert main(["explain", str(folder / "step_000000100.pt"), *arguments]) == 1
    assert remedy in capsys.readouterr().err


def test_probe_says_what_is_in_it_and_draws_a_sheet(tmp_path, capsys):
    assert main(["probe", "pong", "--json", "--png", str(tmp_path / "sheet.png")]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["objects"]["enemy"]["frames"] > 200
    assert np.asarray(Image.open(tmp_path / "sheet.png")).std() > 0


@pytest.mark.real
def test_record_makes_a_probe_of_any_game_that_explain_and_probe_read(tmp_path, capsys):
    out = tmp_path / "new" / "freeway.npz"
    assert main(["record", "freeway", "--out", str(out), "--policy", "random", "--steps", "3000"]) == 0
    assert "objects found against the background" in capsys.readouterr().out
    out.with_suffix(".toml").write_text('[objects]\ncars = ["moving-1", "moving-2"]')
    assert main(["probe", str(out)]) == 0
    assert "cars" in capsys.readouterr().out
    assert main(["probe", str(out), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["found"]["how"] == "background"
    assert 0.9 < described["objects"]["cars"]["tracked"] <= 1


def test_probe_says_what_is_in_it_in_words(at_terminal):
    exact, found = at_terminal("probe", "breakout"), at_terminal("probe", "seaquest")
    assert "tracked" not in exact
    assert "tracked: in which part of the screens" in found
    assert "situations: 4 early, 3 mid, 6 tunnel, 3 late\nactions: NOOP, FIRE, RIGHT, LEFT\n" in exact
    assert max(map(len, found.splitlines())) <= 80
    assert "actions: NOOP, FIRE, UP, RIGHT, LEFT, DOWN, UPRIGHT, UPLEFT, DOWNRIGHT, \nDOWNLEFT, " in found


def test_nothing_of_a_table_is_left_out_in_a_narrow_terminal(at_terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has 80 columns
    rows = [line.split("│") for line in at_terminal("probe", "pong").splitlines() if line.startswith("│")]
    assert "".join(row[1].strip() for row in rows) == "ballplayerenemyplayer_scoreenemy_score"


def test_words_of_a_heading_stay_whole_in_a_terminal_of_60_columns(at_terminal, monkeypatch, folder):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    told = re.sub(r"\x1b\[[\d;]*m", "", at_terminal("explain", folder / "step_000000100.pt"))  # bold
    heading = " ".join(line for line in told.splitlines() if line.startswith("┃"))
    words = set(heading.replace("┃", " ").split())
    assert words >= {word for one in COLUMNS for word in one.split()}
    assert max(map(len, told.splitlines())) <= 60


def test_the_title_of_a_table_is_one_line_in_a_pipe(capsys, folder):
    saved = folder / "step_000000100.pt"
    assert main(["explain", str(saved)]) == 0
    assert capsys.readouterr().out.startswith(f"{saved}, step 100: what the value rests on\n")


def test_what_is_printed_is_never_read_as_markup(tmp_path, capsys):
    named = tmp_path / "runs[lr=0.1]" / ":fire:.pt"
    named.parent.mkdir()
    torch.save({"model": Nature().state_dict(), "step": 0, "game": "breakout"}, named)
    assert main(["explain", str(named)]) == 0
    assert "runs[lr=0.1]/:fire:.pt" in "".join(capsys.readouterr().out.split())


def test_probe_takes_the_users_names(tmp_path, capsys):
    (tmp_path / "names.toml").write_text('drop = ["ball"]')
    assert main(["probe", "pong", "--objects", str(tmp_path / "names.toml"), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert "ball" not in described["objects"]
    assert described["found"]["how"] == "ram"


@pytest.mark.real
def test_record_lets_a_checkpoint_play(folder, tmp_path):
    checkpoint = str(folder / "step_000000000.pt")
    out = str(tmp_path / "x.npz")
    assert main(["record", "breakout", "--out", out, "--policy", checkpoint, "--steps", "1500"]) == 0
    assert main(["explain", checkpoint, "--probe", out, "--json"]) == 0


def test_what_the_doctor_found_is_whole_in_a_narrow_terminal(at_terminal, monkeypatch):
    found = Check("RLWATCH tab", works=True, found="rlwatch." + 60 * "x" + "end", remedy="")
    monkeypatch.setattr(doctor, "examine_machine", lambda: [found])
    lines = at_terminal("doctor").splitlines()[3:-1]
    assert found.found in "".join(line.split("│")[3].strip() for line in lines)


def test_the_doctor_finds_this_machine_well(capsys):
    assert main(["doctor", "--json"]) == 0
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["explain"]["works"]
    assert checks["probe breakout"]["works"]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["explain", "nowhere.pt"], "no checkpoint at nowhere.pt"),
        (["explain", "{folder}", "--probe", "pong"], "which has 6 actions"),
        (["explain", "{folder}", "--method", "epsilon_plus_flta"], "epsilon_plus_flat"),
        (["explain", "{folder}", "--probe", "{folder}/step_000000000.pt"], "rlwatch record"),
        (["probe", "breakuot"], "breakout"),
        (["record", "breakuot", "--out", "{folder}/x.npz"], "breakout"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_a_remedy(folder, capsys, arguments, remedy):
    assert main([argument.format(folder=folder) for argument in arguments]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("rlwatch: ")
    assert remedy in said.err
    assert "Traceback" not in said.err


def test_a_truncated_probe_is_refused(tmp_path, capsys):
    from rlwatch.atari.probe_file import locate  # noqa: PLC0415 - only this test needs it

    whole = locate("breakout")
    shutil.copy(whole, tmp_path / "half.npz")
    (tmp_path / "half.npz").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert main(["probe", str(tmp_path / "half.npz")]) == 1
    assert "rlwatch record" in capsys.readouterr().err


def test_help_teaches_with_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "rlwatch explain runs/breakout/checkpoints" in capsys.readouterr().out
