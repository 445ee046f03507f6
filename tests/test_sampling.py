"""Features that are hidden: Shapley values against their definition, local models against what is linear."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch.nn import functional

from rlwatch.attribution.families.sampling import _paired_combinations, lime, shap
from rlwatch.attribution.families.superpixels import grid, objects, spread
from tests.fixtures import captum_maps
from tests.fixtures.perturbed import left_as_found

NETWORK, SEEN, BEHIND = captum_maps.network(), captum_maps.observations(), captum_maps.background()
MAPS = np.load(captum_maps.FILE)
CHOSEN = functional.one_hot(captum_maps.ACTIONS, 3).double()
QUARTERS = captum_maps.segments().expand(2, -1, -1, -1)
WEIGHTS = torch.from_numpy(np.random.default_rng(4).normal(size=(1, 4, 14, 13)))


def ask(observations):
    return NETWORK(observations).detach()


def collected(relevance, features):
    """The sum of a map over each feature; 0 for one without pixels."""
    labels = features.flatten(1)
    return relevance.new_zeros(len(labels), int(labels.max()) + 1).scatter_add_(1, labels, relevance.flatten(1))


def linear(observations):
    """Q of three actions, all the same weighted sum of the pixels."""
    return (observations * WEIGHTS).sum((1, 2, 3))[:, None].expand(-1, 3) + 5


def score_of_shown(shown, network=ask, features=QUARTERS):
    """The score where only these features are not black."""
    visible = torch.stack([features == feature for feature in shown]).any(0) if shown else torch.zeros(features.shape)
    return (network(SEEN * visible) * CHOSEN).sum(1)


def shapley_by_definition(network=ask, features=QUARTERS, count=5):
    """The mean gain of a feature over all orders in which features can appear."""
    values, orders = torch.zeros(2, count, dtype=torch.float64), list(permutations(range(count)))
    for order in orders:
        for place, feature in enumerate(order):
            gain = [score_of_shown(sorted(order[:end]), network, features) for end in (place + 1, place)]
            values[:, feature] += (gain[0] - gain[1]) / len(orders)
    return values


def test_a_grid_cell_reaches_through_the_stack_and_may_be_cut_off_at_the_border():
    cells = grid(torch.zeros(2, 4, 5, 7), cell=3)
    expected = [[0, 0, 0, 1, 1, 1, 2]] * 3 + [[3, 3, 3, 4, 4, 4, 5]] * 2
    assert cells.shape == (2, 4, 5, 7)
    assert all(frame.tolist() == expected for stack in cells for frame in stack)


def test_a_grid_frame_by_frame_counts_on_from_frame_to_frame():
    cells = grid(torch.zeros(1, 2, 2, 4), cell=2, frame_by_frame=True)
    assert cells.tolist() == [[[[0, 0, 1, 1]] * 2, [[2, 2, 3, 3]] * 2]]


def test_the_first_object_takes_a_pixel_that_two_share_and_the_rest_comes_last():
    masks = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)[:, None, None, None]
    assert objects(masks).tolist() == [[[[0, 0, 1, 2]]]]


def test_features_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="cell must be at least 1 pixel, got 0"):
        grid(SEEN, cell=0)
    with pytest.raises(ValueError, match="mask of at least one object, got none"):
        objects(torch.zeros(0, 2, 4, 14, 13, dtype=torch.bool))


def test_a_value_is_spread_evenly_and_can_be_collected_again():
    features = torch.tensor([[[[0, 0, 2]]], [[[1, 2, 2]]]])
    values = torch.tensor([[4.0, 7.0, 1.0], [5.0, -3.0, 2.0]])
    relevance = spread(values, features)
    assert relevance.tolist() == [[[[2, 2, 1]]], [[[-3, 1, 1]]]]
    assert collected(relevance, features).tolist() == [[4, 0, 1], [0, -3, 2]]


def test_shapley_values_are_the_mean_gain_over_all_orders():
    values = collected(shap(ask, SEEN, CHOSEN, features=QUARTERS, samples=32, batch_size=9), QUARTERS)
    torch.testing.assert_close(values, shapley_by_definition(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("samples", [12, 31, 32, 2048])
def test_no_more_combinations_are_asked_than_samples(samples):
    asked = 0

    def counting(observations):
        nonlocal asked
        asked += len(observations)
        return ask(observations)

    shap(counting, SEEN, CHOSEN, features=QUARTERS, samples=samples)
    assert asked == 2 * {12: 12, 31: 30, 32: 32, 2048: 32}[samples]


def test_shapley_values_are_captum_s():
    relevance = shap(ask, SEEN, CHOSEN, features=QUARTERS, baseline=BEHIND)
    sizes = torch.bincount(QUARTERS[0].flatten())[QUARTERS]
    np.testing.assert_allclose(relevance * sizes, MAPS["shapley"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [32, 31, 12])
def test_shapley_values_sum_to_what_hiding_everything_changes(samples):
    relevance = shap(ask, SEEN, CHOSEN, features=QUARTERS, samples=samples)
    everything, nothing = score_of_shown(range(5)), score_of_shown([])
    torch.testing.assert_close(relevance.sum((1, 2, 3)), everything - nothing, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("samples", [2048, 200])
def test_features_that_do_the_same_have_the_same_value_and_one_that_does_nothing_has_none(samples):
    """Eight columns: 0 and 1 only work together, 2 does nothing, the others add up."""

    def game(observations):
        lit = observations[:, 0, 0]
        total = 6 * lit[:, 0] * lit[:, 1] + lit[:, 3:] @ torch.arange(5.0)
        return torch.stack([total, -total], 1)

    columns = torch.arange(8).view(1, 1, 1, 8)
    picture, weights = torch.ones(1, 1, 1, 8), torch.tensor([[1.0, 0.0]])
    values = shap(game, picture, weights, features=columns, samples=samples).flatten()
    exact = torch.tensor([3.0, 3, 0, 0, 1, 2, 3, 4])
    torch.testing.assert_close(values, exact, rtol=0, atol=1e-5 if samples > 256 else 0.5)


def test_an_object_that_is_not_there_has_no_value():
    masks = torch.stack([feature == QUARTERS for feature in (0, 4)])
    masks[0, 1] = False
    relevance = shap(ask, SEEN, CHOSEN, features=objects(masks))
    values = collected(relevance, objects(masks))
    assert values[1, 0] == 0
    torch.testing.assert_close(relevance.sum((1, 2, 3)), score_of_shown(range(5)) - score_of_shown([]))


def test_sampled_shapley_values_come_closer_to_the_exact_ones_with_more_samples():
    features = grid(SEEN, cell=4)
    assert features.max() + 1 == 16
    exact = collected(shap(ask, SEEN, CHOSEN, features=features, samples=2**16, batch_size=512), features)
    errors = [
        (collected(shap(ask, SEEN, CHOSEN, features=features, samples=samples), features) - exact).abs().mean()
        for samples in (50, 400, 6400)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02 * exact.abs().mean()


def test_combinations_are_drawn_as_often_as_the_shapley_kernel_weighs_their_size():
    shown = _paired_combinations(5, 20_002, None)
    assert shown[:2].sum(1).tolist() == [0, 5]
    sizes = torch.bincount(shown[2:].sum(1), minlength=6)
    expected = [0, 0.3, 0.2, 0.2, 0.3, 0]  # (5 - 1) / (size · (5 - size)), summing to 1
    torch.testing.assert_close(sizes / 20_000, torch.tensor(expected), rtol=0, atol=0.01)
    torch.testing.assert_close(shown.double().mean(0), torch.full((5,), 0.5).double(), rtol=0, atol=1e-12)


def test_sampled_shapley_values_of_a_linear_network_are_exact():
    features = grid(SEEN, cell=4)
    relevance = shap(linear, SEEN, CHOSEN, features=features, samples=100)
    torch.testing.assert_close(collected(relevance, features), collected(WEIGHTS * SEEN, features))


def test_too_few_samples_for_that_many_features_are_refused():
    with pytest.raises(ValueError, match="16 features need at least 34 samples, got 33: take more, or larger superpix"):
        shap(ask, SEEN, CHOSEN, features=grid(SEEN, cell=4), samples=33)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        lime(ask, SEEN, CHOSEN, samples=0)


def test_one_feature_takes_all():
    relevance = shap(ask, SEEN, CHOSEN, features=torch.zeros_like(QUARTERS))
    change = score_of_shown(range(5)) - score_of_shown([])
    torch.testing.assert_close(relevance, (change / relevance[0].numel())[:, None, None, None].expand_as(SEEN))


def test_lime_recovers_a_linear_network():
    features = grid(SEEN)
    expected = collected(WEIGHTS * (SEEN - BEHIND), features)
    exact, usual = (
        collected(lime(linear, SEEN, CHOSEN, features=features, baseline=BEHIND, ridge=ridge), features)
        for ridge in (1e-9, 1.0)
    )
    torch.testing.assert_close(exact, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(usual, expected, rtol=0, atol=0.05 * expected.abs().max().item())


def test_lime_is_the_ridge_regression_of_scikit_learn_weighted_by_nearness():
    from sklearn.linear_model import Ridge  # noqa: PLC0415 - slow to import, needed here only

    shown = torch.randint(2, (40, 5), generator=torch.Generator().manual_seed(2)).bool()
    shown[0] = True
    scores = torch.stack([score_of_shown(row.nonzero().flatten().tolist()) for row in shown]).numpy()
    lengths = shown.sum(1).double().sqrt()
    cosine = (shown.sum(1) / (lengths * 5**0.5)).nan_to_num(0).numpy()
    nearness = np.sqrt(np.exp(-((1 - cosine) ** 2) / 0.3**2))
    expected = Ridge(alpha=0.5).fit(shown.double().numpy(), scores, sample_weight=nearness).coef_
    settings = {"samples": 40, "kernel_width": 0.3, "ridge": 0.5, "generator": torch.Generator().manual_seed(2)}
    values = collected(lime(ask, SEEN, CHOSEN, features=QUARTERS, **settings), QUARTERS)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [lime, shap])
def test_without_features_the_grid_is_taken_and_a_map_does_not_depend_on_its_neighbours(method):
    both = method(ask, SEEN, CHOSEN, samples=20)
    alone = method(ask, SEEN[1:], CHOSEN[1:], samples=20, features=grid(SEEN[1:]))
    torch.testing.assert_close(both[1:], alone)


@pytest.mark.parametrize("method", [lime, shap])
def test_bytes_stay_bytes(method):
    met = set()

    def takes_bytes(observations):
        met.add(observations.dtype)
        return observations.double().mean((2, 3))[:, :3]

    method(takes_bytes, (255 * SEEN).byte(), CHOSEN.float(), features=QUARTERS, baseline="mean", samples=12)
    assert met == {torch.uint8}


@pytest.mark.parametrize("method", [lime, shap])
def test_nothing_is_left_behind(method):
    with left_as_found(NETWORK, SEEN):
        relevance = method(NETWORK, SEEN, CHOSEN, samples=20)
    assert relevance.shape == SEEN.shape
    assert not relevance.requires_grad


WRONG = {
    "of one observation": (QUARTERS[:1], r"of shape \(2, 4, 14, 13\), got torch.int64 of \(1, 4, 14, 13\)"),
    "below 0": (QUARTERS - 1, "got torch.int64 .* from -1 on"),
    "fractions": (QUARTERS.double(), "got torch.float64"),
    "a list": ([1, 2], "got list"),
}


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("method", [lime, shap])
@pytest.mark.parametrize("kind", WRONG)
def test_what_are_no_features_is_refused(method, kind):
    features, said = WRONG[kind]
    with pytest.raises(ValueError, match=f"{said}.*use grid"):
        method(ask, SEEN, CHOSEN, features=features, samples=64)
