"""Gradients at other pictures, against slow loops, captum and linear networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from rlwatch.attribution.families.paths import integrated_gradients, simple_taylor, smoothgrad
from tests.fixtures import captum_maps
from tests.fixtures.perturbed import gradient_of, left_as_found

NETWORK, SEEN, BEHIND = captum_maps.network(), captum_maps.observations(), captum_maps.background()
MAPS = np.load(captum_maps.FILE)
FLOAT32 = 1e-9  # captum keeps its places and shares in single precision
CHOSEN = functional.one_hot(captum_maps.ACTIONS, 3).double()
METHODS = [simple_taylor, smoothgrad, integrated_gradients]


def score(observations, weights=CHOSEN, network=NETWORK):
    return (network(observations).detach() * weights).sum(1)


def linear_network():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(4 * 14 * 13, 3)).double()
    weight = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 4 * 14 * 13)))
    layers[1].weight.data = weight
    return layers, (CHOSEN @ weight).view_as(SEEN)


def test_integrated_gradients_are_captum_s():
    relevance = integrated_gradients(gradient_of(NETWORK), SEEN, CHOSEN, baseline=BEHIND, batch_size=7)
    np.testing.assert_allclose(relevance, MAPS["integrated_gradients"], rtol=0, atol=FLOAT32)


def test_integrated_gradients_sum_to_what_the_baseline_changes():
    change = score(SEEN) - score(torch.zeros_like(SEEN))
    for steps, bound in ((50, 1e-3), (1000, 1e-4)):
        relevance = integrated_gradients(gradient_of(NETWORK), SEEN, CHOSEN, steps=steps)
        assert ((relevance.sum((1, 2, 3)) - change).abs() < bound * relevance.abs().sum((1, 2, 3))).all()


def test_integrated_gradients_of_a_smooth_network_are_exact_with_50_steps():
    network = nn.Sequential(*(nn.Tanh() if isinstance(layer, nn.ReLU) else layer for layer in NETWORK))
    relevance = integrated_gradients(gradient_of(network), SEEN, CHOSEN, baseline=BEHIND)
    change = score(SEEN, network=network) - score(BEHIND, network=network)
    torch.testing.assert_close(relevance.sum((1, 2, 3)), change, rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [1, 3])
def test_integrated_gradients_of_a_linear_network_are_exact_with_any_number_of_steps(steps):
    network, slopes = linear_network()
    relevance = integrated_gradients(gradient_of(network), SEEN, CHOSEN, steps=steps, baseline=BEHIND)
    torch.testing.assert_close(relevance, slopes * (SEEN - BEHIND), rtol=1e-12, atol=1e-13)


def test_integrated_gradients_follow_the_weights_and_not_the_action_that_is_best_on_the_way():
    def crossing(observations):
        first = observations.sum((1, 2, 3))
        return torch.stack([first, 2 - first], 1)

    picture = torch.full((1, 1, 1, 1), 3.0)
    relevance = integrated_gradients(gradient_of(crossing), picture, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(relevance, picture)


def test_smoothgrad_is_the_mean_over_noisy_copies():
    generator, total, seen = torch.Generator().manual_seed(5), torch.zeros_like(SEEN), SEEN + 0.4
    spread = 0.2 * torch.stack([picture.max() - picture.min() for picture in seen])[:, None, None, None]
    for _ in range(6):
        noise = torch.randn(4, 14, 13, generator=generator, dtype=torch.float64)
        total += gradient_of(NETWORK)(seen + spread * noise, CHOSEN)
    settings = {"samples": 6, "sigma": 0.2, "batch_size": 5}
    same = [torch.Generator().manual_seed(5) for _ in range(2)]
    mean = smoothgrad(gradient_of(NETWORK), seen, CHOSEN, generator=same[0], times_input=False, **settings)
    torch.testing.assert_close(mean, total / 6, rtol=0, atol=1e-14)
    times_input = smoothgrad(gradient_of(NETWORK), seen, CHOSEN, generator=same[1], **settings)
    torch.testing.assert_close(times_input, mean * seen, rtol=0, atol=1e-14)


def test_smoothgrad_without_noise_is_gradient_x_input():
    relevance = smoothgrad(gradient_of(NETWORK), SEEN, CHOSEN, samples=2, sigma=0.0)
    torch.testing.assert_close(relevance, SEEN * gradient_of(NETWORK)(SEEN, CHOSEN))


def test_the_noise_of_a_map_does_not_depend_on_the_observations_beside_it():
    alone = smoothgrad(gradient_of(NETWORK), SEEN[1:], CHOSEN[1:], samples=3)
    torch.testing.assert_close(smoothgrad(gradient_of(NETWORK), SEEN, CHOSEN, samples=3)[1:], alone)


def test_simple_taylor_takes_the_slope_at_its_root_point():
    relevance = simple_taylor(gradient_of(NETWORK), SEEN, CHOSEN, root=0.3, baseline=BEHIND)
    root = BEHIND + 0.3 * (SEEN - BEHIND)
    torch.testing.assert_close(relevance, (SEEN - root) * gradient_of(NETWORK)(root, CHOSEN))
    assert not torch.allclose(relevance, (SEEN - root) * gradient_of(NETWORK)(SEEN, CHOSEN))


def test_simple_taylor_without_biases_is_gradient_x_input():
    network = captum_maps.network()
    for layer in network:
        if hasattr(layer, "bias"):
            layer.bias.data.zero_()
    relevance = simple_taylor(gradient_of(network), SEEN, CHOSEN)
    torch.testing.assert_close(relevance, 0.999 * SEEN * gradient_of(network)(SEEN, CHOSEN), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(relevance.sum((1, 2, 3)), 0.999 * score(SEEN, network=network))


@pytest.mark.parametrize("method", METHODS)
def test_bytes_are_refused_as_there_is_nothing_between_their_levels(method):
    with pytest.raises(TypeError, match=r"expected floating observations.*got torch.uint8: .*observations.float\(\)"):
        method(gradient_of(NETWORK), SEEN.byte(), CHOSEN)


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        (simple_taylor, {"root": 0.0}, r"root must lie in \(0, 1\), got 0.0"),
        (simple_taylor, {"root": 1.0}, r"root must lie in \(0, 1\), got 1.0"),
        (smoothgrad, {"samples": 0}, "samples must be at least 1, got 0"),
        (integrated_gradients, {"steps": 0}, "steps must be at least 1, got 0"),
        (integrated_gradients, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(method, setting, message):
    with pytest.raises(ValueError, match=message):
        method(gradient_of(NETWORK), SEEN, CHOSEN, **setting)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_never_gets_more_than_batch_size_pictures(method):
    sizes = []

    def noting(observations, weights):
        sizes.append(len(observations))
        return gradient_of(NETWORK)(observations, weights)

    in_parts = method(noting, SEEN, CHOSEN, batch_size=1)
    assert set(sizes) == {1}
    torch.testing.assert_close(method(gradient_of(NETWORK), SEEN, CHOSEN), in_parts, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_behind(method):
    with left_as_found(NETWORK, SEEN):
        relevance = method(gradient_of(NETWORK), SEEN, CHOSEN)
    assert relevance.shape == SEEN.shape
    assert not relevance.requires_grad
