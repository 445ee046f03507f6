"""The engine on networks as people write them: what it may not get wrong."""

import pytest
import torch
from torch import nn

from rlwatch.attribution import Composite, Epsilon, Gamma, ZBox, Zero, ZPlus, explain
from tests.fixtures.networks import (
    ACTIONS,
    EVERY,
    RELU_NETWORKS,
    SIDE,
    STACK,
    Nature,
    build,
    close,
    observations,
    plain_gradient_x_input,
    q_of,
)

TINY = Composite(Epsilon(1e-14), Epsilon(1e-14))


def seen_by(kind, probes=3):
    return observations(probes, channels_last=kind == "same padding")


@pytest.mark.parametrize("kind", RELU_NETWORKS)
def test_lrp_0_is_gradient_x_input_without_biases(kind):
    network, pixels = build(RELU_NETWORKS[kind], bias=False).eval(), seen_by(kind)
    expected = plain_gradient_x_input(network, pixels)
    expected = expected.permute(0, 3, 1, 2) if kind == "same padding" else expected
    close(explain(network, pixels, TINY).relevance, expected)
    close(explain(network, pixels, Composite(Zero(), Zero())).relevance, expected)
    close(explain(network, pixels, "gradient_x_input").relevance, expected)


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("kind", RELU_NETWORKS)
def test_q_values_are_the_networks_own_and_the_books_balance(kind, method):
    network, pixels = build(RELU_NETWORKS[kind]).eval(), seen_by(kind)
    explanation = explain(network, pixels, method)
    close(explanation.q_values, q_of(network, pixels).detach(), 1e-12)
    close(explanation.score, explanation.q_values.max(1).values)
    assert explanation.relevance.shape == (3, STACK, SIDE, SIDE)
    if method != "sensitivity":
        close(explanation.relevance.sum((1, 2, 3)) + explanation.absorbed, explanation.score)


@pytest.mark.parametrize("kind", RELU_NETWORKS)
def test_without_biases_nothing_is_absorbed(kind):
    explanation = explain(
        build(RELU_NETWORKS[kind], bias=False).eval(), seen_by(kind), Composite(Epsilon(1e-12), Epsilon())
    )
    assert (explanation.absorbed.abs() <= 1e-3 * explanation.score.abs()).all()


def test_a_pixel_that_the_network_does_not_read_gets_no_relevance():
    network = nn.Sequential(
        nn.Conv2d(STACK, 1, 1, bias=False), nn.Flatten(), nn.Linear(SIDE * SIDE, ACTIONS, bias=False)
    )
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([0.0, 0, 2, 0]).view(1, 4, 1, 1))
        network[2].weight.zero_()
        network[2].weight[1, 7 * SIDE + 3] = 5
    for method in EVERY:
        explanation = explain(network.double(), observations(), method)
        heat = explanation.relevance.abs().sum(0)
        assert heat[2, 7, 3] > 0, method
        flat = "flat" in method
        assert (heat.sum(0) > 0).sum() == 1, method
        assert (heat > 0).sum() == (STACK if flat else 1), method


class Smooth(nn.Module):
    """Activations that no ReLU network has, gates of constants, a layer normalisation."""

    def __init__(self, activation):
        super().__init__()
        self.layers, self.activation = (
            nn.ModuleList([nn.Conv2d(STACK, 3, 4, 4), nn.Linear(75, 8), nn.Linear(8, 3)]),
            activation,
        )
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = self.activation(self.layers[0](x)).flatten(1)
        return self.layers[2](self.activation(self.norm(self.layers[1](x))))


def as_line(activation, values):
    """An activation function as a constant factor and what it is at 0."""
    origin = activation(torch.zeros_like(values))
    return values * ((activation(values.clone()) - origin) / values).detach() + origin.detach()


@pytest.mark.parametrize(
    "activation",
    [
        nn.Tanh(),
        nn.ELU(),
        nn.ELU(inplace=True),
        nn.GELU(),
        nn.SiLU(),
        nn.LeakyReLU(0.1, inplace=True),
        nn.ReLU6(),
        nn.Softplus(),
    ],
    ids=str,
)
def test_activations_hand_relevance_on_and_layer_normalisation_keeps_its_deviation(activation):
    network = build(lambda: Smooth(activation))
    pixels = observations().requires_grad_()
    hidden = network.layers[0](pixels)
    inner = network.layers[1](as_line(activation, hidden).flatten(1))
    deviation = (inner.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt().detach()
    normal = (inner - inner.mean(1, keepdim=True)) / deviation * network.norm.weight + network.norm.bias
    q_values = network.layers[2](as_line(activation, normal))
    (gradient,) = torch.autograd.grad(q_values.max(1).values.sum(), pixels)
    explanation = explain(network, observations(), Composite(Zero(), Zero()))
    close(explanation.relevance, (pixels * gradient).detach())
    close(explanation.q_values, network(observations()).detach())


def test_a_skip_from_the_pixels_carries_its_part():
    network = nn.Conv2d(STACK, STACK, 3, padding=1, bias=False).double()
    head = nn.Linear(STACK * SIDE * SIDE, ACTIONS, bias=False).double()

    def skipping(frames):
        return head((frames + network(frames)).flatten(1))

    close(explain(skipping, observations(), TINY).relevance, plain_gradient_x_input(skipping, observations()))
    boxed = explain(skipping, observations(), Composite(Gamma(), Epsilon(), first=ZBox()))
    close(boxed.relevance.sum((1, 2, 3)), boxed.score, 1e-4)


@pytest.mark.parametrize("method", ["epsilon", "epsilon_gamma_box", "epsilon_plus_flat", "gradient_x_input"])
def test_a_sum_of_the_pixels_carries_its_part(method):
    network = build(Nature)

    def with_sum(frames):
        return network(frames) + frames.sum((1, 2, 3))[:, None]

    alone = explain(network, observations(), method).relevance
    close(explain(with_sum, observations(), method).relevance, alone + observations(), 1e-5)


def test_an_activation_of_nothing_passes_nothing_on():
    network = nn.Sequential(nn.Conv2d(STACK, 3, 4, 4), nn.GELU(), nn.Flatten(), nn.Linear(75, 3)).double()
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.zero_()
    assert (explain(network, observations()).relevance == 0).all()


def test_positive_composites_keep_positive_weights_positive():
    network = build(Nature)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    assert (explain(network, observations(), Composite(ZPlus(), ZPlus())).relevance >= 0).all()
