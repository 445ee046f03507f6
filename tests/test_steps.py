"""The steps of checkpoint files, and which training each is of."""

import json
import logging
import os
import zipfile

import pytest
import torch

from rlwatch.checkpoints import files, for_log, placed_files
from rlwatch.checkpoints.steps import step_of
from rlwatch.cli import main
from tests.fixtures.saved import save_checkpoints, small_probe

STEPS = {
    "model_250k.pt": 250_000,
    "model_1M.pt": 1_000_000,
    "model_1.5M.pt": 1_500_000,
    "latest_1e6.pt": 1_000_000,
    "rainbow_2.5e5.pt": 250_000,
    "step_1_000_000.pt": 1_000_000,
    "step_12_500.pt": 12_500,
    "250_000.pt": 250_000,
    "rl_model_400_steps.zip": 400,
    "step_000002.pt": 2,
    "ckpt.30": 30,
    "model10.pt": 10,
    "step250k.pt": 250_000,
    "step_100_return_21.pt": 100,
    "step_1000_epoch_5.pt": 1000,
    "dqn_20261125_step_500.pt": 500,
    "step-20241231.pt": 20_241_231,
    "ALE-Breakout-v5_200k.pt": 200_000,
    "dqn_seed1_100k.pt": 100_000,
    "100_s1.pt": 100,
    "84x84_300.pt": 300,
    "lr_1e-4_500.pt": 500,
    "1000_finish/model_v2.pt": 1000,
}
NO_STEPS = (
    "final.pt",
    "best.pt",
    "model_v2.pt",
    "dqn-2026-11-25.pt",
    "dqn_20261125-023000.pt",
    "BreakoutNoFrameskip-v4__dqn__1__1700000000.cleanrl_model",
    "seed3.pt",
    "run-2.pt",
    "84x84.pt",
    "c51.pt",
    "lr_0.001.pt",
)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_read_from_a_name_however_it_is_written(tmp_path, name):
    assert step_of(tmp_path / name) == STEPS[name]


@pytest.mark.parametrize("name", NO_STEPS)
def test_versions_dates_seeds_sizes_and_settings_are_no_steps(tmp_path, name):
    assert step_of(tmp_path / name) == -1


def touched(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def told(caplog):
    return " ".join(record.getMessage() for record in caplog.records)


def test_files_stand_in_the_order_of_their_steps_and_what_is_taken_for_granted_is_told(tmp_path, caplog):
    touched(tmp_path, "model_1M.pt", "model_250k.pt", "final.pt", "best.pt", "model_500k.pt")
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        found = placed_files([tmp_path])
    assert [(one.path.name, one.step) for one in found] == [
        ("best.pt", -1),
        ("model_250k.pt", 250_000),
        ("model_500k.pt", 500_000),
        ("model_1M.pt", 1_000_000),
        ("final.pt", 1_000_001),
    ]
    assert "model_250k.pt 250,000" in told(caplog)
    assert "one step behind 1,000,000" in told(caplog)
    assert "place in the training is unknown" in told(caplog)
    assert found[0].training != found[1].training


def test_of_plain_names_nothing_is_said(tmp_path, caplog):
    touched(tmp_path, "step_10.pt", "step_20.pt")
    placed_files([tmp_path])
    placed_files([tmp_path / "step_10.pt"])
    placed_files([touched(tmp_path / "one", "model.pt")])
    assert not caplog.records


def test_the_step_inside_a_file_comes_before_that_of_its_name(tmp_path):
    torch.save({"model": {"w": torch.zeros(3)}, "step": 50}, tmp_path / "model_7.pt")
    torch.save({"model": {"w": torch.zeros(3)}, "step": 40}, tmp_path / "model_9.pt")
    with zipfile.ZipFile(tmp_path / "best_model.zip", "w") as archive:
        archive.writestr("data", json.dumps({"num_timesteps": 45}))
        archive.writestr("policy.pth", b"")
    assert [(one.path.name, one.step) for one in placed_files([tmp_path])] == [
        ("model_9.pt", 40),
        ("best_model.zip", 45),
        ("model_7.pt", 50),
    ]


def test_a_file_without_a_step_in_its_name_gives_way_to_one_of_the_same_step(tmp_path, caplog):
    touched(tmp_path, "model_50.pt")
    torch.save({"model": {"w": torch.zeros(3)}, "step": 50}, tmp_path / "best.pt")
    assert [one.path.name for one in placed_files([tmp_path])] == ["model_50.pt"]
    assert "left out, since another is of the same step" in told(caplog)


def test_the_same_step_twice_in_one_folder_is_refused_with_a_remedy(tmp_path):
    touched(tmp_path, "a_10.pt", "b_10.pt")
    with pytest.raises(ValueError, match=r"a_10\.pt and .*b_10\.pt for step 10: name those"):
        placed_files([tmp_path])


@pytest.mark.parametrize("steps", [("10", "10"), ("10 30", "20 40")])
def test_two_runs_in_one_call_are_two_trainings_of_which_a_log_holds_one(tmp_path, caplog, steps):
    for run, of in zip("ab", steps, strict=True):
        touched(tmp_path / run, *(f"model_{step}.pt" for step in of.split()))
    found = placed_files([tmp_path / "a", tmp_path / "b"])
    assert [one.path.parent.name for one in found] == sorted(one.path.parent.name for one in found)
    assert len({one.training for one in found}) == 2
    assert "2 trainings, each compared with itself only" in told(caplog)
    with pytest.raises(ValueError, match="a log holds one training"):
        for_log(found)


def test_a_training_that_goes_on_in_another_folder_is_one(tmp_path):
    touched(tmp_path, "part1/model_10.pt", "part1/model_20.pt", "part2/model_30.pt", "part2/model_40.pt", "final.pt")
    found = placed_files([tmp_path])
    assert [one.step for one in found] == [10, 20, 30, 40, 41]
    assert {one.training for one in found} == {""}


def test_a_log_leaves_out_what_has_no_place_and_says_so(tmp_path, caplog):
    touched(tmp_path, "model_10.pt", "best.pt")
    assert [one.path.name for one in for_log(placed_files([tmp_path]))] == ["model_10.pt"]
    assert "left out of the log, since their steps are unknown" in told(caplog)


def test_an_empty_path_is_refused_and_is_not_this_folder(capsys):
    assert main(["explain", ""]) == 1
    assert "expected files, folders or patterns, got ''" in capsys.readouterr().err


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "x.pt")
    assert main(["explain", str(tmp_path / "x.pt"), "--probe", "pong"]) == 1
    assert "give a file" in capsys.readouterr().err


def test_a_step_that_no_log_can_hold_is_none(tmp_path):
    torch.save({"model": {"w": torch.zeros(3)}, "step": 2**63}, tmp_path / "x.pt")
    assert files.step_inside(tmp_path / "x.pt") == -1


def test_each_training_is_compared_with_itself_only(tmp_path, capsys):
    for run in "ab":
        save_checkpoints(tmp_path / run, 2)
    probe = str(small_probe(tmp_path))
    arguments = ["--probe", probe, "--method", "epsilon", "--json"]
    assert main(["explain", str(tmp_path / "a"), str(tmp_path / "b"), *arguments]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["q"]["churn"] is None for record in records] == [True, False, True, False]


def test_what_inflates_to_too_much_is_not_inflated_for_its_step(tmp_path, monkeypatch):
    torch.save({"model": {"w": torch.zeros(3)}, "step": 50}, tmp_path / "x.pt")
    assert files.step_inside(tmp_path / "x.pt") == 50
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", json.dumps({"num_timesteps": 7}).ljust(100_000))
    assert files.step_inside(tmp_path / "x.zip") == 7
    monkeypatch.setattr(files, "MAX_BYTES", 50_000)
    assert files.step_inside(tmp_path / "x.zip") == -1
