import math

import numpy as np
import pytest

from rlwatch.pictures import heatmap


def test_relevance_becomes_the_nearest_of_fifteen_levels():
    relevance = np.array([[0.0, 0.49, 0.51], [-0.51, 3.4, -3.6], [7.0, -7.0, 6.6]], np.float32)

    found = heatmap.levels(relevance, scale=7.0)

    assert found.dtype == np.int8
    assert found.tolist() == [[0, 0, 1], [-1, 3, -4], [7, -7, 7]]


def test_relevance_beyond_the_scale_gets_full_colour():
    assert heatmap.levels(np.array([[8.0, 900.0, -900.0]], np.float32), scale=7.0).tolist() == [[7, 7, -7]]


def test_the_scale_is_symmetric():
    relevance = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)

    np.testing.assert_array_equal(heatmap.levels(-relevance, 2.0), -heatmap.levels(relevance, 2.0))


def test_one_scale_makes_a_fading_map_paler():
    relevance = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)

    assert np.abs(heatmap.levels(relevance / 4, 2.0)).sum() < np.abs(heatmap.levels(relevance, 2.0)).sum() / 3


def test_fewer_levels_end_in_the_same_colours():
    assert heatmap.levels(np.array([[-1.0, -0.4, 0.4, 1.0]], np.float32), 1.0, levels=3).tolist() == [[-1, 0, 0, 1]]


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale must be a positive .* proposed_scale"):
        heatmap.levels(np.zeros((2, 2), np.float32), scale)
    with pytest.raises(ValueError, match=r"scale must be a positive .* proposed_scale"):
        heatmap.saturated(np.zeros((2, 2), np.float32), scale)


@pytest.mark.parametrize("levels", [1, 14, 255])
def test_levels_without_a_middle_or_too_many_are_refused(levels):
    with pytest.raises(ValueError, match="levels must be an odd number"):
        heatmap.levels(np.zeros((2, 2), np.float32), 1.0, levels=levels)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_relevance_that_is_not_finite_gets_no_picture(wrong):
    relevance = np.array([[0.0, wrong]], np.float32)

    for call in (lambda: heatmap.levels(relevance, 1.0), lambda: heatmap.saturated(relevance, 1.0)):
        with pytest.raises(ValueError, match="relevance must be finite"):
            call()
    with pytest.raises(ValueError, match="relevance must be finite"):
        heatmap.proposed_scale(relevance)


def test_the_palette_runs_from_blue_over_the_backdrop_to_red():
    colours = heatmap.palette(backdrop=(40, 50, 60)).astype(int)

    assert len(colours) == 15
    assert tuple(colours[0]) == heatmap.AGAINST
    assert tuple(colours[7]) == (40, 50, 60)
    assert tuple(colours[14]) == heatmap.FOR
    assert (np.diff(colours[7:, 0]) > 0).all()
    assert (np.diff(colours[:8, 2]) < 0).all()


def test_the_proposed_scale_is_the_quantile_rounded_up_to_two_digits():
    relevance = -np.arange(1, 1001, dtype=np.float32).reshape(1, 20, 50) / 1e4

    assert heatmap.proposed_scale(relevance, quantile=0.9) == 0.09
    assert heatmap.proposed_scale(relevance, quantile=0.9001) == 0.091
    assert heatmap.proposed_scale(relevance, quantile=1.0) == 0.1


def test_the_proposed_scale_leaves_the_promised_part_saturated():
    relevance = np.random.default_rng(0).normal(size=(16, 84, 84)).astype(np.float32)

    assert heatmap.saturated(relevance, heatmap.proposed_scale(relevance)) <= 0.001


def test_sparse_relevance_is_scaled_by_its_strongest_pixel():
    relevance = np.zeros((4, 84, 84), np.float32)
    relevance[0, 3, 3] = -0.25

    assert heatmap.proposed_scale(relevance) == 0.25


def test_relevance_that_is_zero_has_no_scale():
    assert math.isnan(heatmap.proposed_scale(np.zeros((2, 3, 3), np.float32)))


@pytest.mark.parametrize("quantile", [0.0, 1.1])
def test_a_quantile_outside_of_its_range_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile must lie in"):
        heatmap.proposed_scale(np.ones((2, 2), np.float32), quantile=quantile)


def test_the_saturated_part_counts_both_signs_and_not_the_scale_itself():
    assert heatmap.saturated(np.array([[1.0, -1.0, 1.5, -2.0, 0.0]], np.float32), 1.0) == pytest.approx(0.4)
