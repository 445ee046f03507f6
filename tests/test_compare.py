"""Seeds and variants on one page: as numbers, as a program prints them, and as TensorBoard reads them back."""

import json
import math

import numpy as np
import pytest
from scipy.stats import trim_mean
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlwatch.cli import main
from rlwatch.compare import compare
from tests.fixtures.logs import lifts_of, looking, write_run

STEPS = [0, 100, 200, 300]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Five seeds that come to look at the ball from step 100, 200, 200, 300 on and never, and a variant of one seed."""
    folder = tmp_path_factory.mktemp("runs")
    lifts = [
        [1.0, 5.0, 6.0, 7.0],
        [1.0, 1.0, 4.0, 5.0],
        [1.0, 1.0, 8.0, 9.0],
        [1.0, 2.0, 2.0, 6.0],
        [1.0, 1.0, 1.0, 1.0],
    ]
    for seed, course in enumerate(lifts):
        returns = {step: float(10 * seed + step) for step in (90, 200, 300)}
        write_run(folder / f"plain-seed{seed}", looking(course, STEPS), returns=returns, hparams={"seed": seed})
    write_run(folder / "dueling-seed0", looking(lifts_of(3), [0, 50, 250]), returns={0: 1.0})
    return folder


def test_lifts_are_interquartile_means_over_seeds_with_intervals(runs):
    ball = compare([runs]).as_json()["variants"]["plain"]["objects"]["ball"]
    assert ball["lift"][2] == pytest.approx(trim_mean([6.0, 4.0, 8.0, 2.0, 1.0], 0.25))
    assert ball["low"][2] < ball["lift"][2] < ball["high"][2]
    assert ball["low"][0] == ball["lift"][0] == ball["high"][0] == 1
    assert ball["seeds"] == [5, 5, 5, 5]
    assert ball["untrained"] == pytest.approx(0.9)


def test_onsets_are_medians_in_which_a_seed_without_one_counts_as_the_latest(runs):
    ball = compare([runs]).as_json()["variants"]["plain"]["objects"]["ball"]
    assert ball["onset"]["step"] == 200
    assert ball["onset"]["seeds"] == 3
    assert ball["onset"]["low"] == 100
    assert ball["onset"]["high"] is None


def test_returns_stand_on_the_axis_of_the_lifts(runs):
    plain = compare([runs]).as_json()["variants"]["plain"]
    assert plain["steps"] == STEPS
    assert plain["returns"]["iqm"] == [None, 110, 220, 320]
    assert plain["returns"]["seeds"] == [0, 5, 5, 5]


def test_a_single_run_has_its_own_intervals_over_episodes_and_says_so(runs):
    (variant,) = compare([runs / "dueling-seed0"]).variants
    assert variant.interval == "episodes"
    ball = variant.objects["ball"]
    assert ball.lift.low.tolist() == [0.5, 4.5, 8.5]
    assert (ball.onset.middle, ball.onset.reached) == (50, 1)
    assert math.isnan(ball.onset.low)


def test_the_axis_is_that_of_the_run_that_came_furthest_and_a_shorter_one_ends_where_it_ended(tmp_path):
    write_run(tmp_path / "a-1", looking([1.0, 2.0, 3.0], [0, 100, 200]))
    write_run(tmp_path / "a-2", looking([1.0, 4.0], [0, 160]))
    (variant,) = compare([tmp_path]).variants
    assert variant.steps.tolist() == [0, 100, 200]
    ball = variant.objects["ball"].lift
    assert ball.runs.tolist() == [2, 2, 1]
    assert ball.middle.tolist() == pytest.approx([1, (2 + 1 + 3 * 100 / 160) / 2, 3])


def test_a_checkpoint_written_twice_counts_once_and_one_that_measured_nothing_is_a_gap(tmp_path):
    written = [*looking([1.0, 5.0, 6.0], [0, 100, 200]), *looking([6.0, math.nan, 7.0], [200, 300, 400])]
    write_run(tmp_path, written)
    (variant,) = compare([tmp_path]).variants
    assert variant.steps.tolist() == [0, 100, 200, 300, 400]
    np.testing.assert_equal(variant.objects["ball"].lift.middle, [1, 5, 6, math.nan, 7])


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("target", ["greedy", "contrast"])
def test_a_run_without_any_positive_relevance_is_compared_with_others_and_said_to_be_one(tmp_path, tells, target):
    write_run(tmp_path / "dead-1", looking([math.nan] * 3, [0, 1, 2]), tells=tells)
    write_run(tmp_path / "well-1", looking([9.0] * 3, [0, 1, 2]), tells=tells)
    compared = compare([tmp_path], target=target)
    dead, well = compared.variants
    assert well.objects["ball"].lift.middle.tolist() == [9, 9, 9]
    assert all(np.isnan(one.lift.middle).all() for one in dead.objects.values())
    assert any("no positive relevance in the maps of some seeds of dead" in note for note in compared.notes)


def test_without_a_baseline_there_is_no_onset(tmp_path):
    write_run(
        tmp_path, (report.__class__(**{**vars(report), "untrained": {}}) for report in looking([9.0, 9.0], [0, 1]))
    )
    ball = compare([tmp_path]).variants[0].objects["ball"]
    assert math.isnan(ball.untrained)
    assert ball.onset.reached == 0


def test_a_high_untrained_bound_of_the_report_raises_what_counts_as_looking(tmp_path):
    write_run(tmp_path / "told", looking([2.6, 2.6], [0, 1]))
    write_run(tmp_path / "untold", looking([2.6, 2.6], [0, 1]), tells=False)
    told, untold = (compare([tmp_path / name]).variants[0].objects["ball"].onset for name in ("told", "untold"))
    assert (told.reached, untold.reached) == (0, 1)


@pytest.mark.parametrize(("change", "word"), [({"probe": "other"}, "one probe"), ({"game": "pong"}, "one game")])
def test_runs_of_different_probes_or_games_are_refused(tmp_path, change, word):
    write_run(tmp_path / "a-1", looking([1.0], [0]))
    write_run(tmp_path / "a-2", looking([1.0], [0], **change))
    with pytest.raises(ValueError, match=rf"expected runs of {word}, got .*a-1.*a-2.*explain"):
        compare([tmp_path])


def test_what_a_reader_must_know_is_noted(tmp_path):
    write_run(tmp_path / "a-seed1", looking([1.0], [0]), tells=False)
    write_run(tmp_path / "a-seed2", looking([1.0], [0], method="epsilon"))
    write_run(tmp_path / "b", looking([1.0], [0]))
    few, methods, unnamed, returns = compare([tmp_path]).notes
    assert "fewer than 5 seeds" in few
    assert "epsilon, epsilon_gamma_box" in methods
    assert "a-seed1" in unnamed
    assert "--returns TAG" in returns


def test_the_returns_that_the_monitor_was_told_do_where_the_trainer_logged_none(tmp_path):
    write_run(tmp_path, [report for step in (0, 10) for report in looking([1.0], [step], returns=float(step))])
    compared = compare([tmp_path])
    assert compared.returns_tag == "rlwatch/returns/told"
    assert compared.variants[0].returns.middle.tolist() == [0, 10]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "got none"),
        (["{runs}", "--target", "contrst"], "contrast, greedy, got 'contrst'"),
        (["{runs}", "--returns", "x/y"], "has no scalars x/y"),
        (["--group", "plain-seed0"], "--group must be NAME=GLOB"),
        (["{runs}/nowhere"], "no run at"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_a_remedy(runs, capsys, arguments, remedy):
    assert main(["compare", *(argument.format(runs=runs) for argument in arguments)]) == 1
    assert remedy in capsys.readouterr().err


def test_the_program_prints_one_json_object_of_the_groups_asked_for(runs, capsys):
    assert (
        main(["compare", "--json", "--group", f"ours={runs}/plain-seed[01]", "--group", f"one={runs}/dueling-*"]) == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert {name: len(variant["runs"]) for name, variant in record["variants"].items()} == {"ours": 2, "one": 1}
    assert record["returns_tag"] == "eval/return"


def test_a_run_that_is_grouped_counts_in_its_group_only_wherever_the_group_stands(runs, capsys):
    groups = ["--group", f"ours={runs}/plain-seed0", "--group", f"ours={runs}/plain-seed1"]
    for arguments in ([*groups, str(runs)], [str(runs), *groups]):
        assert main(["compare", "--json", *arguments]) == 0
        variants = json.loads(capsys.readouterr().out)["variants"]
        assert {name: len(one["runs"]) for name, one in variants.items()} == {"ours": 2, "plain": 3, "dueling": 1}


def test_the_program_prints_a_table_per_variant(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["compare", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert "plain (5 seeds)" in printed
    assert "200 [100, never], 3 of 5 seeds" in printed
    assert "one seed, intervals over the probe's episodes" in printed


def test_in_a_narrow_terminal_lifts_stay_whole_and_no_name_is_cut_off(runs, at_terminal):
    printed = at_terminal("compare", runs)
    assert all(between in printed for between in ("[4.5, 5.5]", "[1.0, 3.7]", "[1.3, 7.3]", "[2.7, 8.3]"))
    assert "…" not in printed
    assert "eval/return: at each step the mean since the checkpoint before it" in printed


def test_tensorboard_reads_a_run_per_variant_and_the_newest_comparison_only(runs, tmp_path):
    for arguments in (["--target", "contrast"], []):
        assert main(["compare", str(runs), "--logdir", str(tmp_path), *arguments]) == 0
    log = EventAccumulator(str(tmp_path / "plain")).Reload()
    expected = compare([runs]).variants[1]
    assert expected.name == "plain"
    for tag, column in (("compare", "middle"), ("compare_low", "low"), ("compare_high", "high")):
        events = log.Scalars(f"rlwatch/{tag}/ball")
        assert [event.step for event in events] == STEPS
        assert [event.value for event in events] == pytest.approx(getattr(expected.objects["ball"].lift, column))
    assert [event.step for event in log.Scalars("rlwatch/compare/returns")] == STEPS[1:]
    assert (tmp_path / "dueling").is_dir()
