"""The command line of agents/dqn.py: its options, its endings, its refusals."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agents.dqn import main
from agents.parts import board
from tests.fixtures.agents import tiny


def program(folder, *options, before=""):
    """The program as its own process; `before` is run first."""
    tail = [f"--{name.replace('_', '-')}={value}" for name, value in vars(tiny(folder)).items() if name != "steps"]
    code = f"{before}\nimport sys\nfrom agents.dqn import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--no-watch", *tail, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(folder, before):
    """What the program prints and what it complains of where it trains for 96 steps and ends well."""
    with program(folder, "--steps=96", before=before) as process:
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out, errors


@pytest.mark.real
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_run_that_resumes(tmp_path, signum, status, capsys):
    folder = tmp_path / "run"
    with program(folder, "--steps=100000") as process:
        for line in process.stdout:
            if "a replay of" in line:
                break
        while not (folder / "resume.pt").exists():
            assert process.poll() is None
        process.send_signal(signum)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"--resume {folder}" in out
    step = torch.load(folder / "resume.pt", weights_only=True)["step"]
    assert main(["--no-watch", "--resume", str(folder), "--steps", str(step + 8)]) == 0
    assert f"step {step + 8:,}" in capsys.readouterr().out


@pytest.mark.real
def test_a_full_disk_is_told_once_and_training_goes_on(tmp_path):
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))"
    out, errors = finished(tmp_path / "run", limit)
    assert errors.count("a checkpoint cannot be written") == 1
    assert "step 96" in out
    assert not list((tmp_path / "run").rglob("*.p*t*"))


@pytest.mark.real
def test_what_stdout_has_no_letters_for_is_told_in_escapes(tmp_path):
    out, _ = finished(tmp_path / "run", "import sys\nsys.stdout.reconfigure(encoding='ascii')")
    assert "at \\u03b5 = 0.05" in out


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--game", "brekout"], "did you mean breakout"),
        (["--game", "ALE/Brekout-v5"], "did you mean breakout"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--precision", "fp8"], "bf16"),
        (["--gamma", "2"], "--gamma must lie between 0 and 1, got 2.0"),
        (["--epsilon-last", "3"], "--epsilon-last must lie between 0 and 1, got 3.0"),
        (["--sticky", "7"], "--sticky must lie between 0 and 1, got 7.0"),
        (["--train-every", "-1"], "--train-every must be at least 0, got -1"),
        (["--checkpoint-every", "-5"], "--checkpoint-every must be at least 0, got -5"),
        (["--evaluation-frames", "0"], "--evaluation-frames must be at least 1, got 0"),
        (["--threads", "-1"], "--threads must be at least 0, got -1"),
        (["--learning-rate", "-1"], "--learning-rate must be at least 0, got -1"),
        (["--learning-rate", "nan"], "--learning-rate must be at least 0, got nan"),
        (["--watch-budget", "2"], "at most 1, got 2: 0.01 is 1 %"),
        (["--probe", "nowhere.npz"], "nowhere.npz"),
        (["--probe", "pong"], "--probe must be of breakout, got one of pong"),
        (["--seed", "-1"], "--seed must be"),
        (["--resume", "nowhere"], "start a new run"),
        (["--logdir", "{file}/run"], "choose another"),
    ],
)
def test_wrong_options_are_refused_with_a_remedy(tmp_path, options, remedy, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["--logdir", str(tmp_path / "run"), *(o.format(file=tmp_path / "file") for o in options)])
    assert stop.value.code == 2
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["ms_pacman", "MsPacman", "ALE/MsPacman-v5", "MsPacmanNoFrameskip-v4", "ms-pacman"])
def test_a_game_goes_by_any_of_its_names(name, tmp_path):
    assert tiny(tmp_path, game=name).game == "ms_pacman"


def test_the_last_words_lead_to_the_run_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "my runs" / "first"
    shown = f"tensorboard --logdir '{elsewhere.parent}' --samples_per_plugin images=1000"
    assert board(Path("runs/first")) == "tensorboard --logdir runs --samples_per_plugin images=1000"
    (tmp_path / "Makefile").touch()
    assert board(Path("runs/first")) == "make board"
    assert board(elsewhere) == shown
