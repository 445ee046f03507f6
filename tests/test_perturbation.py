"""Pictures that are changed, against slow loops, captum and planted networks."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import softmax
from scipy.stats import entropy
from torch import nn
from torch.nn import functional

from rlwatch.attribution import targets
from rlwatch.attribution.copies import action_weights, ask_copies, blurred, reference
from rlwatch.attribution.fading import meaningful_perturbation
from rlwatch.attribution.perturbation import greydanus, occlusion, sarfa, sarfa_score
from tests.fixtures import captum_maps

NETWORK, SEEN, BEHIND = captum_maps.network(), captum_maps.observations(), captum_maps.background()
MAPS = np.load(captum_maps.FILE)
FLOAT32 = 1e-7  # captum adds up its occlusion maps in single precision
CHOSEN = functional.one_hot(captum_maps.ACTIONS, 3).double()


def ask(observations):
    return NETWORK(observations).detach()


def planted(observations):
    """Q of two actions; the first is what shines at rows 6 to 8, columns 3 to 5 of the last two stacked frames."""
    value = observations[:, -2:, 6:9, 3:6].sum((1, 2, 3))
    return torch.stack([value, torch.zeros_like(value)], 1)


def gradient_of(network):
    def gradient(observations, weights):
        leaf = observations.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad((network(leaf) * weights).sum(), leaf)[0]

    return gradient


def test_weights_are_those_of_the_action_that_is_best_now():
    q_values = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]])
    assert action_weights(targets.greedy, q_values).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert action_weights(targets.contrast, q_values).tolist() == [[-0.5, 1, -0.5], [1, -0.5, -0.5]]
    assert action_weights(targets.action(2), q_values).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_weights_can_be_had_in_inference_mode():
    with torch.inference_mode():
        assert action_weights(targets.greedy, torch.tensor([[1.0, 3.0]])).tolist() == [[0, 1]]


def test_a_score_that_is_no_weighted_sum_is_refused():
    with pytest.raises(ValueError, match="weighted sum of Q-values"):
        action_weights(lambda q_values: q_values.square().sum(1), torch.tensor([[1.0, 3.0]]))


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


def test_a_batch_size_of_0_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ask_copies(ask, SEEN, lambda probe, _: SEEN[probe : probe + 1], 1, 0)


def spots(stride=5, spot=5.0, sigma=3.0):
    """By the formula: where each spot lies, and both observations blurred there."""
    soft = np.stack([[gaussian_filter(frame, sigma) for frame in stack] for stack in SEEN.numpy()])
    for y in range(0, 14, stride):
        for x in range(0, 13, stride):
            distance = (np.arange(14)[:, None] - y) ** 2 + (np.arange(13) - x) ** 2
            amount = np.exp(-distance / (2 * spot**2))
            yield y, x, torch.from_numpy(SEEN.numpy() * (1 - amount) + soft * amount)


def test_blur_is_scipy_s():
    soft = np.stack([[gaussian_filter(frame, 3.0) for frame in stack] for stack in SEEN.numpy()])
    np.testing.assert_allclose(blurred(SEEN, 3.0), soft, rtol=0, atol=1e-12)


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


def test_a_baseline_is_a_number_the_mean_or_a_background():
    assert reference(SEEN, 0.25).eq(0.25).all()
    assert torch.equal(reference(SEEN, "mean")[:, :, 3, 4], SEEN.mean((2, 3)))
    assert torch.equal(reference(SEEN, BEHIND)[1], BEHIND[0])
    with pytest.raises(ValueError, match="a number, 'mean' or a tensor, got 'median'"):
        reference(SEEN, "median")
    with pytest.raises(ValueError, match=r"broadcasts to the observations' \(2, 4, 14, 13\).*got \(5,\)"):
        reference(SEEN, torch.zeros(5))


def picture_with_planted_light():
    picture = torch.full((2, 4, 20, 20), 0.1)
    picture[0, :, 6:9, 3:6] = 1
    picture[1, :, 6:9, 3:6] = 0.7
    picture[:, :, 14:17, 12:15] = 1
    return picture


@pytest.mark.parametrize("frame_by_frame", [False, True])
def test_meaningful_perturbation_finds_the_planted_pixels_and_spares_the_rest(frame_by_frame):
    relevance = meaningful_perturbation(
        planted,
        picture_with_planted_light(),
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        gradient=gradient_of(planted),
        steps=60,
        frame_by_frame=frame_by_frame,
    )
    assert relevance.min() >= 0
    assert relevance.max() <= 1
    assert relevance[:, -1, 7, 4].min() > 0.9
    assert relevance[:, -1, 14:].max() == 0
    assert relevance[:, -1, :, 11:].max() == 0
    assert bool(relevance[:, 0, 7, 4].max() == 0) is frame_by_frame


def test_a_dearer_area_and_dearer_differences_make_a_smaller_and_a_smoother_mask():
    def mask(**settings):
        picture, weights = picture_with_planted_light(), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        return meaningful_perturbation(planted, picture, weights, gradient=gradient_of(planted), steps=60, **settings)

    usual = mask()
    assert mask(area=0.2).sum() < 0.8 * usual.sum()
    assert mask(roughness=1.0).diff(dim=-1).abs().max() < 0.8 * usual.diff(dim=-1).abs().max()


def test_the_mask_ends_where_autograd_and_torch_s_adam_bring_it():
    """A replica of the published objective, with the interpolation by torch."""
    seen, veil = SEEN[:, :, :13], blurred(SEEN[:, :, :13], 3.75)
    fixed = functional.pad(seen, (0, 0, 0, 1)), functional.pad(veil, (0, 0, 0, 1))
    scale = ((NETWORK(fixed[0]) - NETWORK(fixed[1])) * CHOSEN).sum(1).abs().detach()
    mask = torch.ones(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=0.1)
    for _ in range(12):
        shown = functional.interpolate(mask, (13, 13), mode="bilinear", align_corners=True)
        score = (NETWORK(functional.pad(shown * seen + (1 - shown) * veil, (0, 0, 0, 1))) * CHOSEN).sum(1) / scale
        steps = sum(mask.diff(dim=axis).abs().pow(3).sum() for axis in (2, 3))
        optimizer.zero_grad()
        (score.sum() + 0.02 * (1 - mask).sum() + 0.05 * steps).backward(inputs=[mask])
        optimizer.step()
        mask.data.clamp_(0, 1)

    def wider(observations):
        return NETWORK(functional.pad(observations, (0, 0, 0, 1)))

    settings = {"gradient": gradient_of(wider), "steps": 12, "area": 0.02, "roughness": 0.05, "jitter": 0}
    relevance = meaningful_perturbation(wider, seen, CHOSEN, **settings)
    expected = 1 - functional.interpolate(mask.detach(), (13, 13), mode="bilinear", align_corners=True)
    assert expected.max() > 0.3
    torch.testing.assert_close(relevance, expected.expand_as(seen), rtol=0, atol=1e-6)


def test_a_score_that_the_blur_leaves_alone_gives_an_empty_map():
    flat = torch.full((1, 4, 20, 20), 0.5)
    relevance = meaningful_perturbation(
        planted, flat, torch.tensor([[0.0, 1.0]]), gradient=gradient_of(planted), steps=5
    )
    assert relevance.eq(0).all()


def test_meaningful_perturbation_repeats_itself_and_depends_on_the_generator_only_through_the_jitter():
    def mask(seed, **settings):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return meaningful_perturbation(
            ask, SEEN, CHOSEN, gradient=gradient_of(NETWORK), steps=20, generator=generator, **settings
        )

    assert torch.equal(mask(3), mask(3))
    assert torch.equal(mask(None), mask(0))
    assert not torch.equal(mask(3), mask(4))
    assert torch.equal(mask(3, jitter=0), mask(4, jitter=0))
    torch.testing.assert_close(mask(3, batch_size=1), mask(3, batch_size=2))


def test_a_mask_cannot_fade_bytes():
    with pytest.raises(TypeError, match=r"expected floating observations, got torch.uint8: .float\(\) them"):
        meaningful_perturbation(ask, SEEN.byte(), CHOSEN, gradient=gradient_of(NETWORK))


@pytest.mark.parametrize(
    "method", [occlusion, greydanus, sarfa, partial(meaningful_perturbation, gradient=gradient_of(NETWORK), steps=3)]
)
def test_nothing_is_left_behind(method):
    network = nn.Sequential(nn.Dropout(), NETWORK).train()
    weights = [weight.detach().clone() for weight in network.parameters()]
    seen, drawn, numpy_drawn = SEEN.clone(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  (the state of others)
    relevance = method(ask, SEEN, CHOSEN)
    assert relevance.shape == SEEN.shape
    assert not relevance.requires_grad
    assert torch.equal(SEEN, seen)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert (np.random.get_state()[1] == numpy_drawn).all()  # noqa: NPY002
    assert all(weight.grad is None for weight in network.parameters())
    assert all(map(torch.equal, network.parameters(), weights))
