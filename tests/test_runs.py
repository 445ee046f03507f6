"""What is read of a run's event files."""

import logging
import re
import subprocess
import sys

import pytest
from torch.utils.tensorboard import SummaryWriter

from rlwatch.compare import compare
from rlwatch.tensorboard.plugin.still import write_report
from rlwatch.tensorboard.runs import damages, read_run, read_runs
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.logs import looking, write_run


def test_scalars_report_and_hyperparameters_come_back(tmp_path):
    write_run(tmp_path, looking([1.0, 2.0], [0, 10]), returns={5: 1.0}, hparams={"seed": 3, "double": True})
    (run,) = read_runs(tmp_path)
    steps, values = run.scalars["rlwatch/lift/greedy/ball"]
    assert (steps.tolist(), values.tolist()) == ([0, 10], [1, 2])
    assert run.scalars["eval/return"][0].tolist() == [5]
    assert (run.report["step"], run.report["probe"]) == (10, "abc")
    assert run.hparams == {"seed": 3, "double": True}


def test_every_watched_run_below_a_folder_is_found_and_others_are_left_out(tmp_path):
    write_run(tmp_path / "a" / "1", looking([1.0], [0]))
    write_run(tmp_path / "a" / "2", looking([1.0], [0]))
    with SummaryWriter(tmp_path / "unwatched") as writer:
        writer.add_scalar("train/loss", 1.0, 0)
    assert [run.folder for run in read_runs(tmp_path)] == [tmp_path / "a" / "1", tmp_path / "a" / "2"]


def test_a_monitor_whose_log_is_inside_of_its_run_has_the_trainers_scalars_too(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("train/return", 7.0, 3)
    write_run(tmp_path / "rlwatch", looking([1.0], [0]))
    (run,) = read_runs(tmp_path)
    assert run.scalars["train/return"][1].tolist() == [7]
    assert "rlwatch/lift/greedy/ball" in run.scalars


def test_a_torn_record_costs_itself_only(tmp_path):
    write_run(tmp_path, looking([1.0, 2.0, 3.0], [0, 10, 20]), tells=False)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    (run,) = read_runs(tmp_path)
    assert run.scalars["rlwatch/lift/greedy/ball"][0].tolist()[:2] == [0, 10]
    assert not list(damages(tmp_path))


@pytest.mark.parametrize("place", ["length", "data"])
def test_what_stands_behind_a_damaged_record_is_said_to_be_missing(tmp_path, place):
    writer = RunWriter(logdir=tmp_path / "rlwatch", purge_step=0)
    (file,) = (tmp_path / "rlwatch").iterdir()
    *before, last = looking([1.0, 2.0, 3.0], [0, 10, 20])
    for report in before:
        writer.checkpoint(report, {})
    ends = file.stat().st_size
    writer.checkpoint(last, {})
    writer.close()
    data = bytearray(file.read_bytes())
    data[ends + (0 if place == "length" else 20)] ^= 1
    file.write_bytes(data)
    said = (
        f"{file}: what its last {len(data) - ends:,} bytes hold is missing here, since a record before them is damaged"
    )
    assert [note for note in compare([tmp_path]).notes if said in note]
    assert any(said in note for note in write_report(tmp_path, tmp_path / "report.html"))


def test_what_holds_no_watched_run_is_refused_with_what_was_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run at"):
        read_runs(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="got no event files"):
        read_runs(tmp_path)
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("train/loss", 1.0, 0)
    with pytest.raises(ValueError, match=r"got event files without them: .*`rlwatch explain"):
        read_runs(tmp_path)


def test_reading_loads_no_torch(tmp_path):
    write_run(tmp_path, looking([1.0], [0]))
    code = (
        "import sys; from pathlib import Path; from rlwatch.tensorboard.runs import read_runs; "
        f"read_runs(Path({str(tmp_path)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_steps_that_a_resumed_training_hides_are_no_word_of_tensorboards_worth(tmp_path, caplog):
    for first in (0, 20, 10):
        writer = RunWriter(logdir=tmp_path, purge_step=first)
        for step in (first, first + 10):
            writer.scalars(step, {"rlwatch/lift/greedy/ball": float(step)})
        writer.close()
    with caplog.at_level(logging.WARNING):
        assert read_run(tmp_path).scalars["rlwatch/lift/greedy/ball"][0].tolist() == [0, 10, 20]
    assert not caplog.records


def test_runs_whose_method_had_other_keywords_are_told_apart(tmp_path):
    for name, steps in (("a", 4), ("b", 32)):
        write_run(
            tmp_path / name, looking([1.0, 2.0], [0, 10], method="integrated_gradients", options={"steps": steps})
        )
    told = "different methods, .*: integrated_gradients \\(steps=32\\), integrated_gradients \\(steps=4\\)"
    assert any(re.search(told, note) for note in compare([tmp_path / "a", tmp_path / "b"]).notes)


def test_a_run_of_which_nothing_can_be_read_is_not_left_out_in_silence(tmp_path, caplog):
    write_run(tmp_path / "a-1", looking([1.0, 2.0], [0, 10]))
    (tmp_path / "a-2").mkdir()
    (tmp_path / "a-2" / "events.out.tfevents.1").write_bytes(b"no record" * 100)
    assert [run.folder.name for run in read_runs(tmp_path)] == ["a-1"]
    told = f"{tmp_path / 'a-2' / 'events.out.tfevents.1'}: what its last 900 bytes hold is missing here"
    assert told in caplog.text
    for read in (read_runs, lambda folder: write_report(folder, tmp_path / "out.html")):
        with pytest.raises(ValueError, match="what its last 900 bytes hold is missing here"):
            read(tmp_path / "a-2")
