"""Seeds that ended early, and what a comparison says of them."""

import json
import math
import re

import pytest

from rlwatch.cli import main
from rlwatch.compare import compare
from tests.fixtures.logs import looking, write_run


@pytest.fixture
def runs(tmp_path):
    """A seed that looks from step 100 on, and two that crashed behind their first checkpoint."""
    write_run(tmp_path / "a-seed1", looking([1.0, 5.0, 6.0, 7.0], [0, 100, 200, 300]))
    for seed in (2, 3):
        write_run(tmp_path / f"a-seed{seed}", looking([1.0], [0]))
    return tmp_path


def test_a_crashed_seed_has_no_onset_that_is_known_rather_than_never(runs):
    variant = compare([runs]).as_json()["variants"]["a"]
    onset = variant["objects"]["ball"]["onset"]
    assert onset == {"step": 100, "low": 100, "high": None, "seeds": 1, "ended": 2}
    assert variant["seeds"] == [3, 1, 1, 1]
    assert variant["ended"] == {str(runs / "a-seed2"): 0, str(runs / "a-seed3"): 0}


def test_the_notes_name_those_that_ended(runs):
    (note,) = [note for note in compare([runs]).notes if note.startswith("ended before step 300 of a")]
    assert f"{runs / 'a-seed2'} at step 0, {runs / 'a-seed3'} at step 0" in note


def test_the_table_counts_seeds_in_each_column_and_shows_the_last_that_all_came_to(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["compare", str(runs)]) == 0
    table = capsys.readouterr().out
    assert "step 0 " in table
    assert "step 300 (1 of 3 seeds)" in table
    assert "100 [100, unknown], 1 of 3 seeds, 2 ended early" in table


def test_in_a_narrow_terminal_so_many_columns_leave_each_word_whole(runs, at_terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")  # rich gives a dumb one 80
    printed = re.sub(r"\x1b\[[\d;]*m", "", at_terminal("compare", runs))  # bold
    assert all(word in printed for word in ("untrained", "unknown]", "object", "early"))
    assert max(map(len, printed.splitlines())) <= 60


def test_a_last_checkpoint_a_little_earlier_is_no_crash(tmp_path):
    write_run(tmp_path / "a-seed1", looking([1.0, 5.0, 6.0], [0, 500, 1000]))
    write_run(tmp_path / "a-seed2", looking([1.0, 1.0, 1.0], [0, 500, 990]))
    (variant,) = compare([tmp_path]).variants
    assert variant.ended == {}
    assert variant.objects["ball"].onset.ended == 0
    assert variant.objects["ball"].onset.middle == 500


def test_a_seed_whose_maps_hold_nothing_any_more_has_not_ended(tmp_path):
    write_run(tmp_path / "a-seed1", looking([1.0, 1.0, 5.0, 6.0], [0, 100, 200, 300]))
    write_run(tmp_path / "a-seed2", looking([1.0, 1.0, math.nan, math.nan], [0, 100, 200, 300]))
    compared = compare([tmp_path])
    (variant,) = compared.variants
    ball = variant.objects["ball"]
    assert variant.ended == {}
    assert ball.onset.ended == 0
    assert ball.lift.runs.tolist() == [2, 2, 1, 1]
    assert "in the maps of some seeds of a at 2 of its 4 steps, first at 200" in compared.notes[-1]


def test_a_comparison_written_over_another_is_told_and_so_is_a_run_in_two_groups(runs, tmp_path, capsys):
    arguments = ["--logdir", str(tmp_path / "log"), "--json"]
    assert main(["compare", str(runs / "a-seed1"), *arguments]) == 0
    assert capsys.readouterr().err == ""
    groups = ["--group", f"a={runs}/a-*", "--group", f"b={runs}/a-seed1"]
    assert main(["compare", *groups, *arguments]) == 0
    said = capsys.readouterr()
    assert "holds a comparison of a already: TensorBoard shows this one in its place" in said.err
    assert any("is in several groups: a, b" in note for note in json.loads(said.out)["notes"])
