"""Likeness, flipping and hits, against slow replicas and by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr

from rlwatch.measures.flipping import DIRECTIONS, _sizes, gains
from rlwatch.measures.validity import covered, mass, moves, pointing, spearman, ssim

SSIM_7, SSIM_5, SSIM_NEGATED = 0.1219366465138556, 0.23845424849242092, 0.3192967065440535
"""scikit-image 0.26.0: structural_similarity(one / max|one|, other / max|other|, data_range=2, win_size=7 or 5)."""


def waves():
    y, x = np.mgrid[:12, :10]
    one = np.sin(0.7 * y + 0.3 * x * x)
    return one, np.cos(0.5 * y * x) + 0.6 * one


def test_spearman_is_scipys_with_signs_ties_and_all():
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 3, 9, 8))
    one[:, :4] = 0
    other[:, :3] = 0
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(spearman(one, other), expected, atol=1e-12)
    np.testing.assert_allclose(spearman(one, -one), -1)


def test_a_constant_map_is_like_nothing():
    flat, other = np.ones((1, 3, 3)), np.arange(9.0).reshape(1, 3, 3)
    assert np.isnan(spearman(flat, other)).all()


def test_ssim_is_that_of_scikit_image():
    one, other = waves()
    alike = ssim(np.stack([one, one, one]), np.stack([other, -one, one]))
    np.testing.assert_allclose(alike, [SSIM_7, SSIM_NEGATED, 1], atol=1e-12)
    np.testing.assert_allclose(ssim(one[None], other[None], window=5), SSIM_5, atol=1e-12)


def test_ssim_knows_no_scale_and_takes_empty_maps():
    one, other = waves()
    assert ssim(1e-6 * one[None], 1e6 * other[None])[0] == pytest.approx(SSIM_7)
    assert ssim(np.zeros((1, 9, 9)), np.zeros((1, 9, 9)))[0] == 1


def test_windows_of_an_even_size_are_all_that_lie_inside():
    one, other = (np.random.default_rng(seed).normal(size=(9, 11)) for seed in (0, 1))
    x, y = (maps / np.abs(maps).max() for maps in (one, other))
    found = []
    for top, left in np.ndindex(6, 8):
        a, b = (maps[top : top + 4, left : left + 4].ravel() for maps in (x, y))
        joint = np.cov(a, b)
        alike = (2 * a.mean() * b.mean() + 0.02**2) * (2 * joint[0, 1] + 0.06**2)
        found.append(alike / ((a.mean() ** 2 + b.mean() ** 2 + 0.02**2) * (joint[0, 0] + joint[1, 1] + 0.06**2)))
    assert ssim(one[None], other[None], window=4)[0] == pytest.approx(np.mean(found))
    assert ssim(one[None, :4, :4], one[None, :4, :4], window=4)[0] == pytest.approx(1)


def test_ssim_refuses_maps_smaller_than_its_window():
    with pytest.raises(ValueError, match="smaller window="):
        ssim(np.zeros((1, 5, 9)), np.zeros((1, 5, 9)))


def masked(*inside):
    mask = np.zeros((1, 1, 2, 2), bool)
    for where in inside:
        mask[0, 0][where] = True
    return mask


RELEVANCE = np.array([[[[3.0, -9.0], [1.0, 0.0]]]])


@pytest.mark.parametrize(
    ("mask", "hit", "part"),
    [
        (masked((0, 0)), 1, 0.75),
        (masked((0, 1)), 0, 0),
        (masked((1, 0), (0, 1)), 0, 0.25),
        (masked(), math.nan, math.nan),
    ],
)
def test_hits_and_mass_count_positive_relevance_on_the_mask(mask, hit, part):
    np.testing.assert_equal(pointing(RELEVANCE, mask), [hit])
    np.testing.assert_equal(mass(RELEVANCE, mask), [part])


def test_a_map_without_positive_relevance_has_neither_hits_nor_mass():
    assert np.isnan(pointing(-np.abs(RELEVANCE), masked((0, 0)))).all()
    assert np.isnan(mass(-np.abs(RELEVANCE), masked((0, 0)))).all()


def test_chance_is_the_part_that_masks_cover_where_there_are_any():
    assert covered(np.concatenate([masked((0, 0)), masked(), masked((0, 0), (1, 1))])) == pytest.approx(0.375)
    assert math.isnan(covered(masked()))


def test_what_comes_to_cover_new_pixels_moves_and_what_only_vanishes_does_not():
    ball, wall = np.zeros((2, 2, 3, 3), bool), np.zeros((2, 2, 3, 3), bool)
    ball[0, 0, 0, 0] = ball[0, 1, 1, 1] = True
    wall[:, 0, 0] = True
    wall[:, 1, 0, :2] = True
    assert moves(ball)
    assert not moves(wall)
    assert not moves(np.zeros((1, 2, 3, 3), bool))


PICTURE = np.random.default_rng(3).integers(1, 200, size=(5, 2, 6, 6)).astype(np.uint8)
STARTS = {"black": np.zeros((6, 6), np.uint8), "grey": np.full((6, 6), 90, np.uint8)}


def linear(frames, weights):
    """Q of two actions: weighted sums of the newest frame's pixels, the second with the opposite sign."""
    value = (frames[:, -1] * weights).sum(axis=(1, 2)) / 255
    return np.stack([value, -value], axis=1).astype(np.float32)


def greedy(frames):
    return np.tile([1.0, 0.0], (len(frames), 1))


def slow_area(frame, relevance, start, weights, direction, step):
    """The mean of Q over the pixels flipped, pixel by pixel, by hand: trapezoids between every `step` pixels."""
    ranked = sorted(np.ndindex(relevance.shape), key=lambda pixel: -relevance[pixel])
    picture = frame.copy() if direction == "deletion" else np.broadcast_to(start, frame.shape).copy()
    scores = [linear(picture[None], weights)[0, 0]]
    for number, (y, x) in enumerate(ranked, 1):
        picture[:, y, x] = start[y, x] if direction == "deletion" else frame[:, y, x]
        if number % step == 0:
            scores.append(linear(picture[None], weights)[0, 0])
    return sum((a + b) / 2 for a, b in pairwise(scores)) / (len(scores) - 1), scores


@pytest.mark.parametrize("step", [1, 4])
def test_gains_are_areas_against_random_orders_over_how_far_the_score_moves(step):
    weights = np.random.default_rng(5).normal(size=(6, 6))
    relevance = np.random.default_rng(6).normal(size=(5, 6, 6))
    drawn = np.random.default_rng(7)
    maps = {"a": (relevance, greedy(PICTURE))}
    found = gains(
        lambda frames: linear(frames, weights), PICTURE, maps, STARTS, np.arange(5), drawn, step=step, points=99
    )["a"]
    again = np.random.default_rng(7)
    chance = [-again.random((5, 6, 6)) for _ in range(2)]
    for direction in DIRECTIONS:
        for name, start in STARTS.items():
            expected = []
            for index, frame in enumerate(PICTURE):
                areas, scores = zip(
                    *(
                        slow_area(frame, order[index], start, weights, direction, step)
                        for order in (relevance, *chance)
                    ),
                    strict=True,
                )
                gain = (np.mean(areas[1:]) - areas[0]) / np.ptp(np.concatenate(scores))
                expected.append(gain if direction == "deletion" else -gain)
            assert found.parts[f"{direction}_{name}"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert found.mean == pytest.approx(np.mean(list(found.parts.values())))


def test_points_are_rows_of_the_picture_dense_at_first_and_reach_the_last_pixel():
    assert _sizes(7056, 84, 84).tolist() == list(range(0, 7057, 84))
    few = _sizes(7056, 84, 12)
    assert few[:3].tolist() == [0, 84, 168]
    assert few[-1] == 7056
    assert len(few) <= 13
    assert _sizes(36, 10, 99).tolist() == [0, 10, 20, 30, 36]


def test_the_map_of_a_planted_pixel_beats_random_maps_and_its_opposite_loses():
    weights = np.zeros((6, 6))
    weights[2, 3] = 1
    relevance = np.broadcast_to(weights, PICTURE[:, 0].shape).copy()
    maps = {"right": (relevance, greedy(PICTURE)), "wrong": (-relevance, greedy(PICTURE))}
    found = gains(
        lambda frames: linear(frames, weights),
        *(PICTURE, maps, {"black": STARTS["black"]}, np.arange(5), np.random.default_rng(0)),
        step=1,
        orders=20,
    )
    assert found["right"].mean == pytest.approx(0.5, abs=0.1)
    assert found["right"].low > 0
    assert found["wrong"].mean < -0.3
    assert found["wrong"].low <= 0


def test_on_a_network_that_sees_nothing_no_map_has_power():
    rounding = np.random.default_rng(2)

    def constant(frames):
        return (7 + 1e-6 * rounding.normal(size=(len(frames), 2))).astype(np.float32)

    maps = {"any": (np.random.default_rng(0).normal(size=(5, 6, 6)), greedy(PICTURE))}
    found = gains(constant, PICTURE, maps, STARTS, np.arange(5), np.random.default_rng(1), step=1)["any"]
    assert found.mean == 0
    assert found.low <= 0


def test_an_even_map_has_no_power_wherever_reading_order_leads():
    weights = np.zeros((6, 6))
    weights[0] = 1
    maps = {"even": (np.full((5, 6, 6), 0.5), greedy(PICTURE))}
    found = gains(lambda asked: linear(asked, weights), PICTURE, maps, STARTS, np.arange(5), np.random.default_rng(0))
    assert (found["even"].mean, found["even"].low, found["even"].high) == (0, 0, 0)
    assert set(found["even"].parts.values()) == {0}


def test_random_maps_have_no_power_against_random_maps():
    weights = np.random.default_rng(5).normal(size=(6, 6))
    frames = np.repeat(PICTURE, 8, axis=0)
    maps = {"random": (np.random.default_rng(11).normal(size=(40, 6, 6)), greedy(frames))}
    found = gains(
        lambda asked: linear(asked, weights), frames, maps, STARTS, np.arange(40), np.random.default_rng(1), step=1
    )["random"]
    assert abs(found.mean) < 0.05
    assert found.low <= 0


def test_frames_of_one_episode_are_drawn_by_themselves():
    weights = np.ones((6, 6))
    maps = {"a": (PICTURE[:, 1].astype(float), greedy(PICTURE))}
    found = gains(
        lambda frames: linear(frames, weights),
        PICTURE,
        maps,
        STARTS,
        np.zeros(5, int),
        np.random.default_rng(1),
        step=1,
    )["a"]
    assert found.low < found.mean < found.high


def test_ends_of_curves_are_asked_about_once_and_the_number_of_copies_is_bounded():
    asked = []

    def count(frames):
        asked.append(len(frames))
        return np.zeros((len(frames), 2), np.float32)

    frames = np.repeat(PICTURE, 8, axis=0)
    maps = {name: (np.zeros((40, 6, 6)), greedy(frames)) for name in "ab"}
    gains(count, frames, maps, STARTS, np.arange(40), np.random.default_rng(0), step=1, points=6, orders=3)
    points = len(_sizes(36, 1, 6))
    ends = 40 + 2
    assert sum(asked) == ends + 40 * (points - 2) * 2 * 2 * (2 + 3)
    assert max(asked) <= 64
