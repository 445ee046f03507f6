"""What a command does where its output is closed, its files are of several games, or beside runs stand files."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlwatch.atari.probe import Probe
from rlwatch.checkpoints import load, placed_files
from rlwatch.cli import main
from tests.fixtures.logs import looking, write_run
from tests.fixtures.saved import nature, save_checkpoints, small_probe


def saved(path, game, step, *, actions=6):
    """A checkpoint that says its game."""
    path.parent.mkdir(exist_ok=True)
    torch.save({"model": nature(actions=actions).state_dict(), "game": game, "step": step}, path)
    return path


def test_checkpoints_of_a_second_game_are_left_out_and_not_asked_about_the_first_ones_frames(tmp_path, capsys):
    files = [saved(tmp_path / "a" / "step_1.pt", "ALE/Pong-v5", 1), saved(tmp_path / "a" / "step_3.pt", "pong", 3)]
    files.append(saved(tmp_path / "a" / "step_2.pt", "space_invaders", 2))
    assert main(["explain", *map(str, files), "--method", "epsilon", "--json"]) == 1
    told = capsys.readouterr()
    assert [json.loads(line)["step"] for line in told.out.splitlines()] == [1, 3]
    assert "step_2.pt is of space_invaders, those before of ALE/Pong-v5: explain each game in a call" in told.err


def test_a_probe_of_another_game_than_the_files_is_taken_and_that_is_told(tmp_path, caplog):
    files = [saved(tmp_path / "a" / f"step_{step}.pt", "space_invaders", step, actions=4) for step in (1, 2)]
    probe = str(small_probe(tmp_path))
    assert main(["explain", *map(str, files), "--probe", probe, "--method", "epsilon", "--json"]) == 0
    (told,) = [message for message in caplog.messages if "all the same" in message]
    assert "step_1.pt is of space_invaders, and is asked about breakout" in told


def test_a_file_that_is_named_twice_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a" / "step_1.pt", "pong", 1)
    assert len(placed_files(["a", "a/step_1.pt", "./a/../a/step_1.pt", tmp_path / "a" / "step_1.pt"])) == 1


def test_a_network_of_one_output_is_refused_as_no_q_network(tmp_path):
    with pytest.raises(ValueError, match=r"gives one value, expected one for each action: .*rlwatch.explain"):
        load(saved(tmp_path / "x.pt", "breakout", 1, actions=1))


def test_files_beside_runs_are_left_out_of_a_comparison_and_told(tmp_path, capsys, caplog):
    write_run(tmp_path / "run", looking([1.0], [0]))
    (tmp_path / "README.md").touch()
    assert main(["compare", *map(str, sorted(tmp_path.iterdir())), "--json"]) == 0
    json.loads(capsys.readouterr().out)
    assert f"no folders of runs: {tmp_path / 'README.md'}" in caplog.text
    assert main(["compare", str(tmp_path / "README.md")]) == 1


def test_an_error_of_the_system_is_told_in_words_without_its_number(tmp_path, capsys):
    (tmp_path / "log").touch()
    checkpoint = str(saved(tmp_path / "x.pt", "breakout", 1, actions=4))
    assert main(["explain", checkpoint, "--method", "epsilon", "--json", "--logdir", str(tmp_path / "log")]) == 1
    assert capsys.readouterr().err.startswith("rlwatch: logdir must be a folder that can be written")


@pytest.mark.parametrize("command", ["compare", "report"])
def test_a_name_that_tensorboard_cannot_open_is_told_with_what_to_do(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"run-\xff")
    write_run(tmp_path / "run", looking([1.0], [0])).rename(tmp_path / name)
    assert main([command, name]) == 1
    told = capsys.readouterr().err
    assert told == "rlwatch: 'run-\\udcff' must be a name in UTF-8, which TensorBoard's files need: rename it\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict"])
def test_a_name_that_cannot_be_printed_is_printed_in_escapes(tmp_path, encoding):
    path = saved(tmp_path / os.fsdecode(b"x-\xff.pt"), "breakout", 1, actions=4)
    command = [sys.executable, "-m", "rlwatch", "explain", path, "--method", "epsilon"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert b"x-\\udcff.pt" in told


MOVING = "a\x1b[31m\n\x07"
ESCAPED = "a\\x1b[31m\\n\\x07"


def test_a_name_that_would_move_or_colour_the_terminal_is_told_in_escapes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", MOVING]) == 1
    assert f"got {ESCAPED}: give what" in capsys.readouterr().err
    write_run(tmp_path / MOVING, looking([1.0], [0]))
    assert main(["compare", MOVING]) == 0
    assert main(["report", MOVING, "--out", f"{MOVING}.html"]) == 0
    told = capsys.readouterr().out
    assert f"{ESCAPED} (one seed" in told
    assert f"runs: {ESCAPED}\n" in told
    assert f"{ESCAPED}.html: " in told


def test_so_are_names_in_what_is_warned_of(tmp_path, caplog):
    write_run(tmp_path / "run", looking([1.0], [0]))
    (tmp_path / MOVING).touch()
    assert main(["compare", str(tmp_path / "run"), str(tmp_path / MOVING)]) == 0
    assert caplog.messages == [f"rlwatch: left out, since they are no folders of runs: {tmp_path}/{ESCAPED}"]


def run(*arguments, shell):
    """The exit status of a command in a shell, and what it says on stderr."""
    program = f"{sys.executable} -m rlwatch {' '.join(map(str, arguments))}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = ["bash", "-c", shell.format(program)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("shell", ["{} >&-", "{} | true; exit ${{PIPESTATUS[0]}}"])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_output_that_is_closed_is_no_fault(tmp_path, shell, form):
    folder, probe = save_checkpoints(tmp_path / "run", 2), small_probe(tmp_path)
    status, told = run("explain", folder, "--probe", probe, "--method", "epsilon", *form, shell=shell)
    assert (status, told) == (0, "")


@pytest.mark.parametrize(
    ("owner", "name", "command", "said"),
    [
        (Path, "read_bytes", ["explain", "{}", "--probe", "pong"], "x.pt cannot be opened (Permission denied): allow"),
        (Probe, "load", ["probe", "{}"], "rlwatch: x.pt: Permission denied\n"),
    ],
)
def test_a_file_that_may_not_be_opened_is_told_so(tmp_path, capsys, monkeypatch, owner, name, command, said):
    def forbidden(*_arguments, **_settings):
        raise PermissionError(errno.EACCES, "Permission denied", b"x.pt")

    (tmp_path / "x.pt").touch()
    monkeypatch.setattr(owner, name, forbidden)
    assert main([part.format(tmp_path / "x.pt") for part in command]) == 1
    assert said in capsys.readouterr().err
