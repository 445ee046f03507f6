"""Which runs are seeds of one variant."""

from pathlib import Path

import pytest

from rlwatch.tensorboard.runs import Run
from rlwatch.variants import grouped, notes_on_names, stem, variants
from tests.fixtures.logs import looking, write_run


def run(folder, **hparams):
    return Run(Path(folder), {}, {}, hparams)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("runs/breakout-20261124-023000-seed1", "breakout"),
        ("runs/BreakoutNoFrameskip-v4__dqn_atari__1__1700000000", "BreakoutNoFrameskip-v4__dqn_atari"),
        ("runs/DQN_12", "DQN"),
        ("runs/dueling/seed0", "dueling"),
        ("runs/dueling/3/2026-11-24_02-30-00", "dueling"),
        ("runs/dueling_s3/rlwatch", "dueling"),
        ("runs/lr_0.001", "lr_0.001"),
        ("runs/ALE-Breakout-v5", "ALE-Breakout-v5"),
    ],
)
def test_a_name_loses_its_seed_and_date_only(folder, name):
    assert stem(Path(folder)).name == name


def test_seeds_of_one_name_and_one_setting_are_one_variant():
    runs = [
        run("r/b-1", seed=1.0, lr=0.1, logdir="r/b-1"),
        run("r/b-2", seed=2.0, lr=0.1, logdir="r/b-2"),
        run("r/c-1"),
    ]
    assert grouped(runs) == {"b": runs[:2], "c": runs[2:]}


def test_runs_of_one_name_and_other_hyperparameters_are_other_variants_that_say_so():
    runs = [run("r/b-1", seed=1.0, lr=0.1, batch=8.0), run("r/b-2", seed=2.0, lr=2.0, batch=8.0)]
    assert list(grouped(runs)) == ["b lr=0.1", "b lr=2"]


def test_the_same_name_in_two_folders_is_told_apart_by_them():
    runs = [run("r/old/b-1"), run("r/new/b-1"), run("r/new/c-1")]
    assert list(grouped(runs)) == ["old/b", "new/b", "c"]


def test_other_runs_take_no_groups_name():
    runs = [run("r/a-1"), run("r/a-2")]
    assert grouped(runs, taken={"a": []}) == {"r/a": runs}
    assert list(grouped([*runs, run("r/b-1")], taken={"b": []})) == ["a", "r/b"]


def test_a_group_takes_what_its_patterns_match_and_a_run_counts_once(tmp_path):
    for name in ("a-1", "a-2", "b"):
        write_run(tmp_path / name, looking([1.0], [0]))
    found = variants([tmp_path / "b", tmp_path / "b"], {"ours": [f"{tmp_path}/a-*", f"{tmp_path}/a-1"]})
    assert {name: [one.folder.name for one in runs] for name, runs in found.items()} == {
        "ours": ["a-1", "a-2"],
        "b": ["b"],
    }
    with pytest.raises(FileNotFoundError, match=r"no folder matches .*nowhere"):
        variants([], {"x": [f"{tmp_path}/nowhere-*"]})


@pytest.mark.parametrize(
    ("runs", "noted"),
    [
        ([run("r/batch-32"), run("r/batch-64")], True),
        ([run("r/batch/32"), run("r/batch/64")], True),
        ([run("r/b-1/rlwatch"), run("r/b-2/rlwatch")], True),
        ([run("r/b-20261124-0230-1"), run("r/b-20261125-0230-2")], True),
        ([run("r/b-1")], False),
        ([run("r/b-seed1"), run("r/b_s2"), run("r/b-run3")], False),
        ([run("r/b__1__1700000000"), run("r/b__2__1700000001")], False),
        ([run("r/b-1", batch=8.0), run("r/b-2", batch=8.0)], False),
        ([run("r/b-1", seed=1.0), run("r/b-2", seed=2.0)], False),
        ([run("r/b-1", seed=1.0), run("r/b-2", seed=1.0)], True),
    ],
)
def test_bare_numbers_taken_for_seeds_are_noted_unless_hyperparameters_agree(runs, noted):
    notes = list(notes_on_names(grouped(runs), {}))
    assert len(grouped(runs)) == 1
    assert ["--group NAME=GLOB" in note for note in notes] == [True] * noted


def test_groups_are_taken_at_their_word_and_a_run_in_two_is_noted():
    runs = [run("r/b-1"), run("r/b-2")]
    (note,) = notes_on_names({"ours": runs, "one": runs[:1]}, {"ours": ["r/b-*"], "one": ["r/b-1"]})
    assert note.endswith("b-1 is in several groups: ours, one")
