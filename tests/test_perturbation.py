"""Pictures that are changed, against slow loops, captum and planted networks."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import softmax
from scipy.stats import entropy

from rlwatch.attribution import targets
from rlwatch.attribution.families.copies import action_weights
from rlwatch.attribution.families.fading import meaningful_perturbation
from rlwatch.attribution.families.perturbation import greydanus, occlusion, sarfa, sarfa_score
from tests.fixtures import captum_maps
from tests.fixtures.perturbed import BEHIND, CHOSEN, NETWORK, SEEN, ask, gradient_of, left_as_found, planted

MAPS = np.load(captum_maps.FILE)

FLOAT32 = 1e-7  # captum adds up its occlusion maps in single precision


def test_another_best_action_in_a_covered_picture_does_not_change_what_is_explained():
    def two_pixels(observations):
        return torch.stack([observations[:, 0, 0, 0], observations[:, 0, 0, 1]], 1)

    picture = torch.tensor([[[[3.0, 2.0]]]])
    weights = action_weights(targets.greedy, two_pixels(picture))
    relevance = occlusion(two_pixels, picture, weights, patch=1, stride=1)
    assert relevance.tolist() == [[[[3.0, 0.0]]]]


def test_occlusion_is_captum_s():
    relevance = occlusion(ask, SEEN, CHOSEN, patch=5, stride=2, baseline=BEHIND)
    np.testing.assert_allclose(relevance, MAPS["occlusion"], rtol=0, atol=FLOAT32)


def test_occlusion_of_one_frame_at_a_time_is_captum_s():
    relevance = occlusion(ask, SEEN, CHOSEN, patch=5, stride=3, baseline=BEHIND, frame_by_frame=True, batch_size=7)
    np.testing.assert_allclose(relevance, MAPS["occlusion_frame_by_frame"], rtol=0, atol=FLOAT32)


def test_occlusion_is_the_mean_loss_over_the_patches_that_cover_a_pixel():
    losses, covers = np.zeros((2, 14, 13)), np.zeros((14, 13))
    for top in range(0, 14, 3):
        for left in range(0, 13, 3):
            if top > 14 - 4 + 2 or left > 13 - 4 + 2:
                continue
            covered = SEEN.clone()
            covered[:, :, top : top + 4, left : left + 4] = SEEN.mean((2, 3), keepdim=True)
            loss = ((ask(SEEN) - ask(covered)) * CHOSEN).sum(1).numpy()
            losses[:, top : top + 4, left : left + 4] += loss[:, None, None]
            covers[top : top + 4, left : left + 4] += 1
    relevance = occlusion(ask, SEEN, CHOSEN, patch=4, stride=3, baseline="mean")
    for frame in range(4):
        np.testing.assert_allclose(relevance[:, frame], losses / covers, rtol=0, atol=1e-12)


def test_occlusion_points_at_the_planted_pixels_and_their_frames():
    picture = torch.ones(1, 4, 20, 20)
    weights = torch.tensor([[1.0, 0.0]])
    relevance = occlusion(planted, picture, weights, patch=1, stride=1, frame_by_frame=True)
    expected = torch.zeros(1, 4, 20, 20)
    expected[:, -2:, 6:9, 3:6] = 1
    assert torch.equal(relevance, expected)


def test_a_patch_larger_than_the_picture_covers_it_all():
    assert occlusion(planted, torch.ones(1, 4, 10, 10), torch.tensor([[1.0, 0.0]]), patch=40).eq(18).all()


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_that_leaves_pixels_uncovered_is_refused(stride):
    with pytest.raises(ValueError, match="stride must lie between 1 and patch=8"):
        occlusion(ask, SEEN, CHOSEN, stride=stride)


def test_bytes_stay_bytes_in_the_unit_of_the_observations():
    met = []

    def takes_bytes(observations):
        met.append(observations.dtype)
        return observations.float().mean((2, 3))[:, :2]

    picture = torch.full((1, 4, 6, 6), 200, dtype=torch.uint8)
    relevance = occlusion(takes_bytes, picture, torch.tensor([[1.0, 0.0]]), patch=6, stride=6, baseline=99.6)
    assert set(met) == {torch.uint8}
    assert relevance.eq(100).all()


def test_the_network_never_gets_more_than_batch_size_copies():
    sizes = []

    def noting(observations):
        sizes.append(len(observations))
        return ask(observations)

    whole = greydanus(ask, SEEN, CHOSEN, batch_size=1000)
    in_parts = greydanus(noting, SEEN, CHOSEN, batch_size=5)
    assert max(sizes) == 5
    assert sum(sizes) == 2 + 2 * 9
    torch.testing.assert_close(whole, in_parts, rtol=0, atol=1e-12)


def spots(stride=5, spot=5.0, sigma=3.0):
    """By the formula: where each spot lies, and both observations blurred there."""
    soft = np.stack([[gaussian_filter(frame, sigma) for frame in stack] for stack in SEEN.numpy()])
    for y in range(0, 14, stride):
        for x in range(0, 13, stride):
            distance = (np.arange(14)[:, None] - y) ** 2 + (np.arange(13) - x) ** 2
            amount = np.exp(-distance / (2 * spot**2))
            yield y, x, torch.from_numpy(SEEN.numpy() * (1 - amount) + soft * amount)


def test_greydanus_is_half_the_squared_change_of_all_q_values():
    relevance = greydanus(ask, SEEN, CHOSEN)
    for y, x, changed in spots():
        expected = ((ask(changed) - ask(SEEN)) ** 2).sum(1) / 2
        for frame in range(4):
            torch.testing.assert_close(relevance[:, frame, y, x], expected, rtol=1e-9, atol=0)


def test_greydanus_of_a_target_is_half_the_squared_change_of_its_score():
    relevance = greydanus(ask, SEEN, CHOSEN, all_actions=False)
    for y, x, changed in spots():
        expected = ((ask(changed) - ask(SEEN)) * CHOSEN).sum(1) ** 2 / 2
        torch.testing.assert_close(relevance[:, 0, y, x], expected, rtol=1e-9, atol=0)


def test_greydanus_interpolates_between_its_spots_and_holds_the_last_one():
    relevance = greydanus(ask, SEEN, CHOSEN)
    torch.testing.assert_close(relevance[..., 5, 7], 0.6 * relevance[..., 5, 5] + 0.4 * relevance[..., 5, 10])
    torch.testing.assert_close(relevance[..., 13, 10], relevance[..., 10, 10])


def test_blurring_one_frame_leaves_the_others_without_relevance_where_the_network_is_blind():
    picture = torch.rand(1, 4, 20, 20, generator=torch.Generator().manual_seed(1))
    relevance = greydanus(planted, picture, torch.tensor([[1.0, 0.0]]), frame_by_frame=True)
    assert relevance[:, :2].eq(0).all()
    assert relevance[:, 2:].amax((0, 2, 3)).gt(0).all()


def test_sarfa_is_the_harmonic_mean_of_specificity_and_relevance():
    relevance = sarfa(ask, SEEN, CHOSEN)
    before, positive = ask(SEEN).numpy(), 0
    for y, x, changed in spots():
        after = ask(changed).numpy()
        for probe, action in enumerate(captum_maps.ACTIONS.tolist()):
            old, new = before[probe] / before[probe].std(ddof=1), after[probe] / before[probe].std(ddof=1)
            loss = softmax(old)[action] - softmax(new)[action]
            others = [other for other in range(3) if other != action]
            kept = 1 / (1 + entropy(softmax(new[others]), softmax(old[others])))
            expected = 2 * loss * kept / (loss + kept) if loss > 0 else 0
            positive += loss > 0
            assert relevance[probe, 0, y, x].item() == pytest.approx(expected, rel=1e-9, abs=1e-14)
    assert 0 < positive < 18


def test_sarfa_weighs_the_other_actions_by_what_they_are_afterwards():
    before, after = torch.tensor([[2.0, 0.0, 1.0, -1.0]]), torch.tensor([[0.5, 1.0, -2.0, 0.0]])
    loss = softmax(before[0])[0] - softmax(after[0])[0]
    kept = 1 / (1 + entropy(softmax(after[0, 1:]), softmax(before[0, 1:])))
    expected = 2 * loss * kept / (loss + kept)
    assert sarfa_score(before, after, torch.tensor([0])).item() == pytest.approx(float(expected), rel=1e-5)


def test_sarfa_is_0_where_the_probability_of_the_action_rises():
    picture = torch.ones(1, 4, 20, 20)
    picture[:, :, 6:9, 3:6] = 0
    falls, rises = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])

    def shifted(observations):
        return planted(observations) + torch.tensor([-3.0, 0.0])

    assert sarfa(shifted, picture, rises).eq(0).all()
    assert sarfa(shifted, picture, falls).max() > 0.01


def test_sarfa_does_not_drift_as_q_grows_unless_it_is_told_to_take_q_as_it_is():
    standard, raw = (
        [sarfa(lambda seen, k=k: k * ask(seen), SEEN, CHOSEN, standardise=standardise) for k in (1, 20)]
        for standardise in (True, False)
    )
    torch.testing.assert_close(*standard, rtol=1e-9, atol=1e-14)
    assert (raw[0] - raw[1]).abs().max() > 0.001


def test_sarfa_needs_a_choice():
    with pytest.raises(ValueError, match="expected at least 2, got 1"):
        sarfa(lambda seen: ask(seen)[:, :1], SEEN, CHOSEN[:, :1])


@pytest.mark.parametrize(
    "method", [occlusion, greydanus, sarfa, partial(meaningful_perturbation, gradient=gradient_of(NETWORK), steps=3)]
)
def test_nothing_is_left_behind(method):
    with left_as_found(NETWORK, SEEN):
        relevance = method(ask, SEEN, CHOSEN)
    assert relevance.shape == SEEN.shape
    assert not relevance.requires_grad
