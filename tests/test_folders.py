import os
from pathlib import Path

import pytest

from rlwatch import folders
from rlwatch.checkpoints import placed_files
from rlwatch.tensorboard.runs import read_runs
from tests.fixtures.synthetic_run import write_run


def closed_to_us(monkeypatch, closed):
    """Nobody may look into this folder, not even root."""
    look = os.scandir

    def looked(path="."):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", looked)


def test_all_files_below_a_folder_are_found(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one.pt").touch()
    (tmp_path / "two.pt").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert set(folders.files_below(tmp_path)) == {tmp_path / "a" / "b" / "one.pt", tmp_path / "two.pt"}


def test_a_closed_folder_below_is_told_and_the_rest_is_taken(tmp_path, monkeypatch, caplog):
    (tmp_path / "closed").mkdir()
    (tmp_path / "step_1.pt").touch()
    closed_to_us(monkeypatch, tmp_path / "closed")
    assert [one.path for one in placed_files([tmp_path])] == [tmp_path / "step_1.pt"]
    assert f"left out, since it cannot be looked into (Permission denied): {tmp_path / 'closed'}" in caplog.text


@pytest.mark.parametrize("read", [lambda folder: placed_files([folder]), read_runs])
def test_a_closed_folder_is_not_taken_for_an_empty_one(read, tmp_path, monkeypatch):
    closed_to_us(monkeypatch, tmp_path)
    with pytest.raises(PermissionError, match="allow it to be looked into"):
        read(tmp_path)


def test_a_seed_in_a_closed_folder_is_not_left_out_in_silence(tmp_path, monkeypatch, caplog, scene):
    write_run(tmp_path / "a-1", 2, scene=scene, phases=1)
    (tmp_path / "a-2").mkdir()
    closed_to_us(monkeypatch, tmp_path / "a-2")
    assert [run.folder.name for run in read_runs(tmp_path)] == ["a-1"]
    assert str(tmp_path / "a-2") in caplog.text
