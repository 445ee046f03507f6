"""The methods that read the derivative of a score."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rlwatch.attribution import explain
from tests.fixtures.networks import RELU_NETWORKS, STACK, Nature, Trained, build, observations


def gradient_of(network, pixels, score):
    pixels = pixels.clone().requires_grad_()
    outputs = network(pixels)
    (gradient,) = torch.autograd.grad(score(outputs[0] if isinstance(outputs, tuple) else outputs).sum(), pixels)
    return gradient


def close(found, expected, bound=1e-12):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= bound * expected.abs().max()


@pytest.mark.parametrize("kind", [kind for kind in RELU_NETWORKS if kind != "same padding"])
def test_gradient_x_input_and_sensitivity_are_autograds(kind):
    network, pixels = build(RELU_NETWORKS[kind]).eval(), observations()
    gradient = gradient_of(network, pixels, lambda q_values: q_values.max(1).values)
    close(explain(network, pixels, "gradient_x_input").relevance, pixels * gradient)
    close(explain(network, pixels, "sensitivity").relevance, gradient.square())


def test_the_contrast_has_a_gradient_of_its_own():
    network, pixels = build(Nature), observations()
    gradient = gradient_of(network, pixels, lambda q_values: 1.5 * q_values.max(1).values - 0.5 * q_values.sum(1))
    close(explain(network, pixels, "gradient_x_input", "contrast").relevance, pixels * gradient)


def test_batch_normalisation_and_dropout_are_those_of_evaluation():
    network, pixels = build(Trained).eval(), observations()
    gradient = gradient_of(network, pixels, lambda q_values: q_values.max(1).values)
    close(explain(network.train(), pixels, "gradient_x_input").relevance, pixels * gradient)


def test_smooth_networks_have_their_true_gradient():
    network = nn.Sequential(
        nn.Conv2d(STACK, 3, 4, 4), nn.Tanh(), nn.Flatten(), nn.Linear(75, 8), nn.LayerNorm(8), nn.GELU()
    )
    network, pixels = network.double(), observations()
    gradient = gradient_of(network, pixels, lambda q_values: q_values.max(1).values)
    close(explain(network, pixels, "gradient_x_input").relevance, pixels * gradient)


@pytest.mark.parametrize("probes", [1, 2])
def test_instance_normalisation_has_its_true_gradient_for_any_number_of_observations(probes):
    body, head = nn.Conv2d(STACK, 3, 8, 4).double(), nn.Linear(3, 5).double()
    norm, last = nn.InstanceNorm2d(3, affine=True).double(), nn.Linear(5, 3).double()

    def network(x):
        rows = norm(body(x)).flatten(2).transpose(1, 2)
        return last(torch.tanh(head(rows)).mean(1))

    pixels, step = observations()[:probes], 1e-6
    found = explain(network, pixels, "gradient_x_input", "action=0").relevance
    way = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rise = (network(pixels + step * way) - network(pixels - step * way))[:, 0] / (2 * step)
    torch.testing.assert_close((found / pixels * way).sum((1, 2, 3)), rise.detach(), rtol=1e-6, atol=1e-8)


def test_sensitivity_is_never_negative_and_adds_up_to_nothing():
    explanation = explain(build(Nature), observations(), "sensitivity")
    assert (explanation.relevance >= 0).all()
    assert explanation.absorbed.isnan().all()
    assert explanation.score.isfinite().all()


def test_random_operations_of_a_network_leave_the_global_generator_alone():
    network, state = build(Nature), torch.get_rng_state()
    explain(lambda frames: nn.functional.rrelu(network(frames), training=True), observations(), "gradient_x_input")
    assert torch.equal(torch.get_rng_state(), state)
