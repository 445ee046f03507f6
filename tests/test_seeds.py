"""Statistics over seeds, by hand, by slow replicas, and by SciPy's bootstrap."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from rlwatch.measures.seeds import band, interpolated, interquartile_mean, median, since_last, stratified_interval

INF = math.inf
SCORES = np.random.default_rng(5).normal(size=(7, 3)) + np.array([0.0, 10.0, 50.0])


def generator():
    return np.random.default_rng(11)


def test_the_interquartile_mean_is_that_of_the_middle_half_of_all_runs_and_tasks():
    assert interquartile_mean(np.array([[1.0, 100.0], [2.0, 3.0], [4.0, -90.0], [5.0, 6.0]])) == 3.5
    assert interquartile_mean(SCORES) == trim_mean(SCORES, 0.25, axis=None)
    assert interquartile_mean(np.array([[1.0], [2.0], [9.0]])) == 4


def test_the_interval_is_that_of_a_loop_that_draws_the_runs_of_each_task_by_themselves():
    source, means = generator(), []
    drawn = source.integers(7, size=(400, 7, 3))
    for rows in drawn:
        again = sorted(SCORES[rows[run, task], task] for run in range(7) for task in range(3))
        means.append(sum(again[5:-5]) / 11)
    low, high = stratified_interval(SCORES, generator(), resamples=400)
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_the_interval_of_one_task_is_that_of_scipys_percentile_bootstrap():
    scores = np.random.default_rng(3).gamma(2.0, size=(12, 1))
    expected = bootstrap(
        (scores[:, 0],),
        lambda x, axis: trim_mean(x, 0.25, axis=axis),
        n_resamples=20_000,
        method="percentile",
        random_state=np.random.default_rng(4),
    ).confidence_interval
    low, high = stratified_interval(scores, generator(), resamples=20_000)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_tasks_are_strata_so_that_their_differences_are_no_uncertainty():
    assert stratified_interval(np.tile([0.0, 100.0], (4, 1)), generator()) == (50, 50)


def test_one_run_has_no_interval():
    assert all(math.isnan(end) for end in stratified_interval(np.ones((1, 1)), generator()))
    one = median(np.array([100.0]), generator())
    assert (one.middle, one.reached) == (100, 1)
    assert math.isnan(one.low)


def test_a_band_leaves_out_a_run_where_it_has_no_value_and_counts_the_rest():
    curves = np.array([[1.0, 1.0, math.nan], [3.0, math.nan, math.nan]])
    found = band(curves, generator())
    np.testing.assert_equal(found.middle, [2, 1, math.nan])
    np.testing.assert_equal(found.low, [1, math.nan, math.nan])
    np.testing.assert_equal(found.high, [3, math.nan, math.nan])
    assert found.runs.tolist() == [2, 1, 0]


def test_a_run_that_never_gets_there_counts_as_later_than_all_others():
    found = median(np.array([200.0, INF, 100.0]), generator())
    assert (found.middle, found.low, found.high, found.reached) == (200, 100, INF, 2)
    assert median(np.array([INF, INF, 100.0]), generator()).middle == INF
    assert median(np.array([300.0, INF, 100.0, INF]), generator()).middle == 300


def test_the_median_interval_is_that_of_a_loop():
    steps = np.array([100.0, 500.0, INF, 300.0, 900.0])
    drawn = generator().integers(5, size=(2000, 5))
    medians = sorted(sorted(steps[rows])[2] for rows in drawn)
    found = median(steps, generator())
    assert (found.low, found.high) == (medians[49], medians[1949])


def test_lifts_lie_on_straight_lines_between_checkpoints_and_nowhere_else():
    steps, values = np.array([10, 20, 40]), np.array([1.0, 3.0, math.nan])
    np.testing.assert_equal(
        interpolated(np.array([5, 10, 15, 20, 30, 50]), steps, values), [math.nan, 1, 2, 3] + [math.nan] * 2
    )


def test_returns_are_the_mean_since_the_step_before_or_the_newest_earlier_one_and_end_with_the_last():
    axis = np.array([0, 10, 20, 30, 40, 50])
    steps, values = np.array([8, 10, 10, 11, 35]), np.array([1.0, 2.0, 3.0, 8.0, 5.0])
    np.testing.assert_equal(since_last(axis, steps, values), [math.nan, 2, 8, 8, 5, math.nan])


def test_a_run_that_was_cut_off_counts_as_those_that_went_on():
    got = np.array([1.0, INF, INF])
    found = median(got, generator(), ended=np.array([INF, 0.0, 0.0]))
    assert (found.middle, found.low, found.reached, found.ended) == (1, 1, 1, 2)
    assert math.isnan(found.high)
    whole = median(got, generator(), ended=np.array([INF, INF, INF]))
    assert (whole.middle, whole.high, whole.ended) == (INF, INF, 0)


def test_the_median_by_hand_after_kaplan_and_meier():
    # of five, one is there at 10 (4/5 are left), two end at 15, then one of two is there at 20 (2/5 are left)
    got, ended = np.array([10.0, INF, 20.0, INF, INF]), np.array([INF, 15.0, INF, INF, 15.0])
    assert median(got, generator(), ended=ended).middle == 20
    assert median(got, generator()).middle == INF


def test_an_onset_that_those_cut_off_may_have_had_is_unknown_and_else_never():
    unknown = median(np.array([INF, INF, INF]), generator(), ended=np.array([INF, 5.0, 5.0]))
    assert math.isnan(unknown.middle)
    never = median(np.array([INF, INF, INF]), generator(), ended=np.array([INF, INF, 5.0]))
    assert never.middle == INF


def test_a_run_that_got_there_before_it_ended_counts_as_there():
    found = median(np.array([3.0, 4.0]), generator(), ended=np.array([5.0, INF]))
    assert (found.middle, found.reached, found.ended) == (3, 2, 0)
