"""What cannot be is refused before anything begins: what was expected, what came, and what to do."""

import subprocess
import sys

import pytest
import torch

from rlwatch import Watch
from rlwatch.cli import main
from tests.fixtures.saved import save_checkpoints, small_probe
from tests.fixtures.watched import Nature

pytestmark = pytest.mark.usefixtures("types_unchecked")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint and a small probe."""
    folder = tmp_path_factory.mktemp("saved")
    return str(save_checkpoints(folder / "run", 1)), str(small_probe(folder))


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"probe": None}, r"probe must be a game, .* got NoneType: probe='breakout'"),
        ({"probe": 3}, r"probe must be a game, .* got int"),
        ({"budget": "0.01"}, r"budget must be a number, got str '0.01'"),
        ({"budget": None}, r"budget must be a number, got NoneType"),
        ({"total_steps": "1e6"}, r"total_steps must be a number, got str"),
        ({"seed": "a"}, r"seed must be a whole number, got str: seed=0"),
        ({"observe": lambda _: None}, r"observe= must return the tensor .* got NoneType"),
        ({"logdir": None}, r"expected logdir= or writer=, got neither: pass one"),
        ({"method": "occlusion", "options": {"patch": "x"}}, r"occlusion must be able to use patch='x', it cannot"),
        ({"options": {"targets": 3}}, r"options are the method's own keywords, got targets"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_at_attach(tmp_path, settings, remedy):
    with pytest.raises((TypeError, ValueError), match=remedy):
        Watch(Nature(), **({"probe": "breakout", "logdir": tmp_path} | settings))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("observe", "read"),
    [
        (lambda frames: frames[:, -1:].repeat(1, 3, 1, 1), "3 × 84 × 84"),
        (lambda frames: frames[..., ::2, ::2].repeat(1, 1, 2, 2)[:, :, :80], "4 × 80 × 84"),
        (lambda frames: frames.repeat(1, 2, 1, 1), "8 × 84 × 84"),
    ],
)
def test_maps_that_lie_elsewhere_than_the_objects_are_refused_at_attach(tmp_path, observe, read):
    depth = int(read[0])
    network = torch.nn.Sequential(torch.nn.Conv2d(depth, 2, 8, 8), torch.nn.Flatten(), torch.nn.LazyLinear(4))
    network(torch.zeros([1, *map(int, read.split(" × "))]))
    seen = read.replace(" × ", ", ", 1).replace(" × ", ", ")
    told = rf"probe's pictures, 4 × 84 × 84 .* reads {read}; .*\.seen\({depth}, \({seen[3:]}\)\)"
    with pytest.raises(ValueError, match=told):
        Watch(network, "breakout", logdir=tmp_path, observe=lambda frames: observe(frames).float() / 255)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (
            ["explain", "{run}", "--probe", "{probe}", "--method", "occlusion", "--set", 'patch="x"'],
            "must be able to use",
        ),
        (["explain", "{run}", "--probe", "{probe}", "--set", "targets=3"], "method's own keywords, got targets"),
        (["probe", "{probe}", "--png", "/proc/nowhere/x.png"], "--png must be a file that can be written, got /proc"),
        (["probe", "pong", "--objects", "nofile.toml"], "(--objects) in a TOML file, got none at nofile.toml"),
        (["record", "pong", "--out", "{probe}/x.npz"], "--out must be a file that can be written, got"),
    ],
)
def test_a_command_says_in_one_line_what_it_cannot_use(saved, capsys, arguments, remedy):
    run, probe = saved
    assert main([argument.format(run=run, probe=probe) for argument in arguments]) == 1
    told = capsys.readouterr().err
    assert remedy in told
    assert told.startswith("rlwatch: ")


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--seed", "-1"], ["--steps", "1e4"]])
def test_numbers_that_cannot_be_are_wrong_usage(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit, match="2"):
        main(["record", "pong", "--out", str(tmp_path / "x.npz"), *wrong])
    assert (
        f"expected a whole number of at least {int(wrong[0] == '--steps')}, got '{wrong[1]}'" in capsys.readouterr().err
    )


def test_an_operation_that_has_no_rule_is_said_in_one_line(saved, capsys, monkeypatch):
    def refusing(*_args, **_settings):
        raise NotImplementedError("deep_lift has no rule for softmax")

    monkeypatch.setattr("rlwatch.monitor.examination.explain_batches", refusing)
    assert main(["explain", saved[0], "--probe", saved[1], "--method", "deep_lift"]) == 1
    assert capsys.readouterr().err.startswith("rlwatch: deep_lift has no rule for softmax")


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m rlwatch probe pong --json"
    pipe = f"{command} | ( exec <&- ; sleep 4 ); echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["/bin/bash", "-c", pipe], capture_output=True, text=True, timeout=120, check=False)
    assert ended.stderr == ""
    assert ended.stdout == "0\n"


def test_a_finding_in_a_pipe_is_one_line(saved, capsys, monkeypatch):
    words = "from step 0 " + "the agent looks at the ball " * 10
    monkeypatch.setattr("rlwatch.monitor.comparison.sentence", lambda *_: words)
    monkeypatch.setattr("rlwatch.monitor.comparison.spells", lambda *_: [type("Spell", (), {"start": 0})])
    assert main(["explain", saved[0], "--probe", saved[1], "--method", "epsilon"]) == 0
    assert words.strip() in capsys.readouterr().out


def test_two_processes_may_give_the_log_to_the_first_only(monkeypatch):
    monkeypatch.setattr("rlwatch.watch.is_first_rank", lambda: False)
    torch.manual_seed(0)
    watch = Watch(Nature(), "breakout")
    assert watch(0) is None
    watch.close()


def test_what_a_perturbing_method_costs_is_said_before_it_begins(saved, capsys):
    coarse = ["--method", "occlusion", "--set", "patch=42", "--set", "stride=42"]
    assert main(["explain", saved[0], "--probe", saved[1], *coarse, "--json"]) == 0
    assert "occlusion asks the network many times for each frame" in capsys.readouterr().err
