"""What the commands make sure of before any work, and how they end."""

import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rlwatch import cli, outputs, probes
from rlwatch.__main__ import run
from rlwatch.atari import probe_file
from rlwatch.atari.probe import Probe
from rlwatch.cli import main
from rlwatch.commands import compare as commands_compare
from rlwatch.tensorboard.events import EventFile, read_events
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.logs import looking, write_run
from tests.fixtures.saved import nature


@pytest.fixture
def _unplayed(monkeypatch):
    """Nothing is played: whoever is asked to has failed."""
    monkeypatch.setattr(probes, "record_probe", lambda *_, **__: pytest.fail("played before it was sure of its output"))


def said(capsys, *arguments):
    """The one line on stderr that a command fails with."""
    assert main(list(map(str, arguments))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.usefixtures("_unplayed")
@pytest.mark.parametrize("place", ["{tmp}", "/proc/nowhere/x.npz", "{tmp}/file/x.npz"])
def test_record_knows_before_it_plays_where_it_cannot_write_and_leaves_no_folders(tmp_path, capsys, place):
    (tmp_path / "file").touch()
    assert "--out must be a file that can be written" in said(
        capsys, "record", "pong", "--out", place.format(tmp=tmp_path)
    )
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("_unplayed")
def test_a_probe_that_would_be_called_as_a_shipped_one_is_not_recorded(tmp_path, capsys):
    line = said(capsys, "record", "pong", "--out", tmp_path / "pong")
    assert f"--out must end in .npz, got {tmp_path / 'pong'}: name it {tmp_path / 'pong.npz'}" in line


def test_record_that_fails_leaves_no_folders(tmp_path, capsys):
    assert "record more steps" in said(capsys, "record", "pong", "--out", tmp_path / "a/b/x.npz", "--steps", 20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_unplayed")
def test_a_scripted_player_that_there_is_none_of_is_refused(tmp_path, capsys):
    line = said(capsys, "record", "pitfall", "--out", tmp_path / "x.npz", "--policy", "scripted")
    assert "no scripted player for pitfall, only for breakout, pong" in line


@pytest.mark.usefixtures("_unplayed")
def test_a_network_of_another_game_does_not_play(tmp_path, capsys):
    torch.save(nature(actions=4).state_dict(), tmp_path / "four.pt")
    line = said(capsys, "record", "tetris", "--out", tmp_path / "x.npz", "--policy", tmp_path / "four.pt")
    assert "tetris, which has 5 actions" in line
    assert "a network with 4" in line
    torch.save(nature(actions=5, stack=1).state_dict(), tmp_path / "one.pt")
    line = said(capsys, "record", "tetris", "--out", tmp_path / "x.npz", "--policy", tmp_path / "one.pt")
    assert "must play from 4 stacked frames" in line


@pytest.mark.parametrize(("told", "who"), [(None, "scripted"), ("scripted", "scripted"), ("random", "random")])
def test_record_prints_what_a_shell_takes(tmp_path, capsys, monkeypatch, told, who):
    asked = {}
    played = Probe.load("breakout")
    monkeypatch.setattr(probes, "record_probe", lambda _, **settings: asked.update(settings) or played)
    out = tmp_path / "my probes" / "x y.npz"
    assert main(["record", "pong", "--out", str(out), *(["--policy", told] if told else [])]) == 0
    assert asked["policy"] == who
    last = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(last.removeprefix("look at it: "))[2] == str(out)


def test_a_sheet_is_a_png_in_any_folder(tmp_path, capsys):
    assert "--png must end in .png" in said(capsys, "probe", "pong", "--png", tmp_path / "x.jpg")
    assert main(["probe", "pong", "--json", "--png", str(tmp_path / "new" / "x.png")]) == 0
    assert (tmp_path / "new" / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_knows_that_its_output_is_a_folder(tmp_path, capsys):
    write_run(tmp_path / "run", looking([1.0], [0]))
    line = said(capsys, "report", tmp_path / "run", "--out", tmp_path)
    assert f"--out must be a file that can be written, got {tmp_path} (it is a folder): choose another" in line


@pytest.mark.parametrize("count", ["0", "1"])
def test_a_report_has_the_first_and_the_last_checkpoint_at_least(capsys, count):
    with pytest.raises(SystemExit):
        main(["report", "x", "--checkpoints", count])
    assert "at least 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("all", "name an action, action=0"),
        ("action=-1", "counted from 0"),
        ("action=x", "counted from 0"),
        ("contrst", "did you mean 'contrast'"),
    ],
)
def test_a_target_is_refused_before_anything_is_read(capsys, target, remedy):
    line = said(capsys, "explain", "nowhere.pt", "--target", target)
    assert remedy in line
    assert "action=k, got" in line


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("breakot", "did you mean breakout?"),
        ("pitfall", "make one with `rlwatch record pitfall --out FILE`"),
        ("nowhere.npz", "look where it is, or make it anew with `rlwatch record GAME"),
        ("no/where", "look where it is"),
        ("{tmp}", "it is a folder, name a file in it"),
    ],
)
def test_a_probe_that_is_not_there_is_told_by_what_it_looks_like(tmp_path, name, remedy):
    with pytest.raises(FileNotFoundError, match="expected a probe file") as refused:
        probe_file.locate(name.format(tmp=tmp_path))
    assert remedy in str(refused.value)


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_an_empty_logdir_is_not_this_folder(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "x", "--logdir", ""])
    assert "expected a folder, got ''" in capsys.readouterr().err
    with pytest.raises(ValueError, match="logdir must be a folder, got ''"):
        RunWriter(logdir="")


def test_what_is_written_takes_a_files_place_only_when_it_is_whole(tmp_path):
    outputs.put(tmp_path / "x", b"before")
    with pytest.raises(KeyboardInterrupt), outputs.part_of(tmp_path / "x") as part:  # noqa: PT012 - as it is used
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "x").read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_ctrl_c_in_the_middle_of_a_write_leaves_no_half_of_a_record(tmp_path):
    file = EventFile(tmp_path)
    before = file.path.read_bytes()
    raw = file._file

    class Interrupted:
        def __getattr__(self, name):
            return getattr(raw, name)

        def write(self, data):
            raw.write(data[:5])
            raise KeyboardInterrupt

    file._file = Interrupted()
    file._pending = [b"0123456789"]
    with pytest.raises(KeyboardInterrupt):
        file.flush()
    raw.close()
    assert file.path.read_bytes() == before
    assert len(list(read_events(file.path))) == 1


def test_ctrl_c_ends_a_command_in_one_line(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_doctor", interrupted)
    try:
        status = main(["doctor"])
    except KeyboardInterrupt:
        pytest.fail("the traceback is the user's to read")
    assert status == 130
    assert capsys.readouterr().err == "rlwatch: interrupted\n"


def test_ctrl_c_while_the_program_loads_ends_it_in_one_line(monkeypatch, capsys):
    class Loading(ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "rlwatch.cli", Loading("rlwatch.cli"))
    try:
        status = run()
    except KeyboardInterrupt:
        pytest.fail("the traceback is the user's to read")
    assert status == 130
    assert capsys.readouterr().err == "rlwatch: interrupted\n"


def test_the_home_folder_may_be_written_as_shells_leave_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parse = cli._parser().parse_args
    explain = parse(["explain", "~/runs/*", "./~/x.pt", "", "--logdir=~/x", "--probe=~/p.npz"])
    assert explain.checkpoints == ["/home/me/runs/*", "./~/x.pt", ""]
    assert (explain.logdir, explain.probe) == (Path("/home/me/x"), "/home/me/p.npz")
    record = parse(["record", "pong", "--out=~/p.npz", "--policy=~/m.pt"])
    assert (record.out, record.policy) == (Path("/home/me/p.npz"), "/home/me/m.pt")
    probe = parse(["probe", "~/p.npz", "--png=~/p.png", "--objects=~/p.toml"])
    assert (probe.probe, probe.png, probe.objects) == (
        "/home/me/p.npz",
        Path("/home/me/p.png"),
        Path("/home/me/p.toml"),
    )
    report = parse(["report", "~/runs/x", "--out=~nobody-is-called-so/r.html"])
    assert (report.folder, report.out) == (Path("/home/me/runs/x"), Path("~nobody-is-called-so/r.html"))
    compare = parse(["compare", "~/runs/x", "--logdir=~/c"])
    assert (compare.runs, compare.logdir) == (["/home/me/runs/x"], Path("/home/me/c"))
    assert commands_compare._group("a=~/runs/*") == ("a", "/home/me/runs/*")


def test_a_keyword_without_a_name_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "x.pt", "--set", "=3"])
    assert "expected NAME=VALUE, got '=3'" in capsys.readouterr().err
