"""The statistics by hand, on pictures small enough to count."""

import numpy as np
import pytest

from rlwatch.measures.relevance import (
    bootstrap_interval,
    centre_of_mass,
    concentration,
    q_statistics,
    target_relevance,
)
from rlwatch.measures.sums import pixels, sums


def probe_of(*pictures):
    """Frames of a stack of one from 3 × 3 pictures."""
    return np.array(pictures, dtype=np.float32)[:, None]


def mask_of(*pictures):
    return np.array(pictures, dtype=bool)[:, None]


def measure(relevance, masks, *, score=None, episodes=None, **settings):
    score = relevance.sum(axis=(1, 2, 3)) if score is None else np.array(score, dtype=np.float64)
    episodes = np.arange(len(relevance)) if episodes is None else np.array(episodes)
    objects, generator = pixels(masks), np.random.default_rng(0)
    return target_relevance(sums(relevance, objects), relevance, score, objects, episodes, generator, **settings)


ONE_PIXEL = [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
TOP_ROW = [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
EVEN = [[1, 1, 1], [1, 1, 1], [1, 1, 1]]
NOWHERE = [[0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_lift_is_the_number_of_pixels_when_one_pixel_has_everything():
    ball = measure(probe_of(ONE_PIXEL), {"ball": mask_of(ONE_PIXEL)}).objects["ball"]
    assert ball.lift == 9
    assert ball.share == 1
    assert ball.frames == 1


def test_lift_is_one_when_relevance_is_even():
    assert measure(probe_of(EVEN), {"wall": mask_of(TOP_ROW)}).objects["wall"].lift == pytest.approx(1)


def test_lift_counts_the_positive_part_only_and_the_negative_part_has_its_own_share():
    relevance = probe_of([[2, 0, 0], [0, -3, 0], [1, 0, -1]])
    objects = measure(relevance, {"ball": mask_of(ONE_PIXEL), "top": mask_of(TOP_ROW)}).objects
    assert objects["ball"].lift == 0
    assert objects["ball"].share_negative == pytest.approx(3 / 4)
    assert objects["top"].lift == pytest.approx((2 / 3) / (3 / 9))
    assert objects["top"].share == pytest.approx(2 / 3)
    assert objects["top"].share_negative == 0


def test_lift_is_averaged_over_the_frames_in_which_the_object_is_visible():
    relevance = probe_of(ONE_PIXEL, EVEN, EVEN)
    ball = measure(relevance, {"ball": mask_of(ONE_PIXEL, ONE_PIXEL, NOWHERE)}).objects["ball"]
    assert ball.lift == pytest.approx((9 + 1) / 2)
    assert ball.frames == 2
    assert ball.share == pytest.approx(2 / 19)
    assert ball.relevance == pytest.approx((1 + 1) / 2)


def test_an_object_that_is_never_visible_has_no_lift():
    ball = measure(probe_of(EVEN), {"ball": mask_of(NOWHERE)}).objects["ball"]
    assert np.isnan(ball.lift)
    assert ball.frames == 0


def test_a_map_without_positive_relevance_has_no_lift_and_no_share():
    measured = measure(-probe_of(EVEN), {"ball": mask_of(ONE_PIXEL)})
    assert np.isnan(measured.objects["ball"].lift)
    assert np.isnan(measured.objects["ball"].share)
    assert np.isnan(measured.gini)
    assert all(np.isnan(value) for value in measured.centre)


def test_an_objects_mask_belongs_to_one_frame_of_the_stack():
    relevance = np.zeros((1, 2, 3, 3), dtype=np.float32)
    relevance[0, 1] = EVEN
    masks = np.zeros((1, 2, 3, 3), dtype=bool)
    masks[0, 0] = ONE_PIXEL
    measured = measure(relevance, {"ball": masks})
    assert measured.objects["ball"].lift == 0
    assert measured.stack == (0, 1)


def test_books_balance_between_score_relevance_and_absorbed():
    measured = measure(probe_of(EVEN, ONE_PIXEL), {}, score=[12, 3])
    assert measured.score == pytest.approx(7.5)
    assert measured.absorbed == pytest.approx((3 + 2) / 2)
    assert measured.conservation == pytest.approx(10 / 15)


def test_relevance_with_nan_is_refused_with_what_to_look_for():
    with pytest.raises(ValueError, match="diverged weights"):
        measure(probe_of(ONE_PIXEL) * np.nan, {})


def test_bootstrap_draws_episodes_not_frames():
    values, episodes = np.array([0.0] * 50 + [1.0] * 50), np.repeat([0, 1], 50)
    low, high = bootstrap_interval(values, episodes, np.random.default_rng(0))
    assert (low, high) == (0, 1)


def test_bootstrap_agrees_with_drawing_episodes_one_by_one():
    generator = np.random.default_rng(3)
    values, episodes = generator.normal(size=60), np.sort(generator.integers(0, 12, size=60))
    groups = [values[episodes == name] for name in np.unique(episodes)]
    means = [
        np.concatenate([groups[i] for i in generator.integers(0, len(groups), len(groups))]).mean()
        for _ in range(20_000)
    ]
    found = bootstrap_interval(values, episodes, np.random.default_rng(4), resamples=20_000)
    assert found == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)


def test_one_episode_has_no_interval():
    ball = measure(probe_of(EVEN, EVEN), {"ball": mask_of(ONE_PIXEL, ONE_PIXEL)}, episodes=[7, 7]).objects["ball"]
    assert np.isnan(ball.low)
    assert np.isnan(ball.high)


def test_concentration_runs_from_even_to_one_pixel():
    assert concentration(probe_of(EVEN)) == pytest.approx((0, 1))
    gini, entropy = concentration(probe_of(ONE_PIXEL))
    assert gini == pytest.approx(8 / 9)
    assert entropy == pytest.approx(0)


def test_relevance_too_small_for_a_share_leaves_the_entropy_a_number():
    picture = np.zeros((1, 1, 2, 2), np.float32)
    picture[0, 0, 0] = 1e-44, 1e4
    assert concentration(picture) == pytest.approx((3 / 4, 0))


def test_gini_is_the_mean_absolute_difference_over_twice_the_mean():
    picture = np.random.default_rng(0).random((1, 1, 4, 5)).astype(np.float32)
    values = picture.ravel().astype(np.float64)
    expected = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert concentration(picture)[0] == pytest.approx(expected, rel=1e-5)


def test_centre_of_mass_is_in_rows_then_columns():
    assert centre_of_mass(np.array([[0.0, 0, 1], [0, 0, 0], [0, 0, 3]])) == pytest.approx((1.5, 2))


def test_q_statistics_by_hand():
    q = q_statistics(np.array([[1.0, 3.0], [5.0, 1.0]]), before=np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert q.greedy == pytest.approx(4)
    assert q.gap == pytest.approx(3)
    assert q.spread == pytest.approx(1.5)
    assert q.churn == pytest.approx(0.5)
    assert np.isnan(q_statistics(np.array([[1.0, 3.0]])).churn)
