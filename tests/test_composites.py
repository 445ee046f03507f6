"""Whole networks against zennit, and the equalities between composites."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rlwatch.attribution import (
    COMPOSITES,
    AlphaBeta,
    Composite,
    Epsilon,
    Flat,
    Gamma,
    WSquare,
    ZBox,
    ZPlus,
    explain,
)
from tests.fixtures import zennit_maps

MAPS = np.load(zennit_maps.FILE)

SMALL = {
    "epsilon": Composite(Epsilon(0.1), Epsilon(0.1)),
    "gamma": Composite(Gamma(0.5), Gamma(0.5)),
    "alpha_beta": Composite(AlphaBeta(3.0, 2.0), AlphaBeta(3.0, 2.0)),
    "zplus": Composite(ZPlus(), ZPlus()),
    "flat": Composite(Gamma(), Epsilon(), first=Flat()),
    "wsquare": Composite(Gamma(), Epsilon(), first=WSquare()),
    "zbox": Composite(Gamma(), Epsilon(), first=ZBox()),
}


def assert_equal_maps(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", zennit_maps.COMPOSITES)
def test_a_composite_on_nature_dqn_equals_zennits(name):
    explanation = explain(zennit_maps.nature_dqn(), zennit_maps.frames(), name)
    assert_equal_maps(zennit_maps.thinned(explanation.relevance), MAPS[f"nature_{name}"])


@pytest.mark.parametrize("name", zennit_maps.RULES)
def test_a_rule_on_signed_inputs_equals_zennits(name):
    explanation = explain(
        zennit_maps.small(), zennit_maps.signed_frames(), SMALL[name], low=zennit_maps.LOW, high=zennit_maps.HIGH
    )
    assert_equal_maps(explanation.relevance.numpy(), MAPS[f"small_{name}"])


def test_every_named_composite_is_compared_with_zennit():
    assert set(COMPOSITES) == set(zennit_maps.COMPOSITES)


def winning_probabilities(network, pixels):
    """Excitation backprop written out: each neuron's winners share by input × positive weight."""
    activations, layers = [pixels], list(network)
    for layer in layers:
        activations.append(layer(activations[-1]))
    q_values = activations[-1]
    relevance = nn.functional.one_hot(q_values.argmax(1), q_values.shape[1]) * q_values
    for layer, inputs in zip(reversed(layers), reversed(activations[:-1]), strict=True):
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            total, transposed = torch.func.vjp(lambda values, layer=layer: excitatory(layer, values), inputs)
            relevance = inputs * transposed(relevance / (total + 1e-6))[0]
        elif isinstance(layer, nn.Flatten):
            relevance = relevance.view_as(inputs)
    return relevance


def excitatory(layer, values):
    weight = layer.weight.clamp(min=0)
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(values, weight)
    return nn.functional.conv2d(values, weight, None, layer.stride, layer.padding)


def test_excitation_backprop_is_deep_taylor_and_alpha_one_beta_zero_on_nonnegative_activations():
    network, pixels = zennit_maps.nature_dqn(bias=False), zennit_maps.frames()
    with torch.no_grad():
        expected = winning_probabilities(network, pixels).numpy()
    alpha_one, deep_taylor = AlphaBeta(1.0, 0.0), COMPOSITES["deep_taylor"]
    hidden_deep_taylor = Composite(deep_taylor.convolution, deep_taylor.dense)
    for method in ("excitation_backprop", Composite(alpha_one, alpha_one), hidden_deep_taylor):
        assert_equal_maps(explain(network, pixels, method).relevance.numpy(), expected)


def test_a_composite_may_be_any_function_from_layer_to_rule():
    def mine(layer):
        return ZBox() if layer.first else Gamma(0.25) if layer.kind == "convolution" else Epsilon()

    network, pixels = zennit_maps.nature_dqn(), zennit_maps.frames()
    own, named = explain(network, pixels, mine), explain(network, pixels, "epsilon_gamma_box")
    assert torch.equal(own.relevance, named.relevance)
    assert own.method == "mine"


def test_a_composite_sees_each_layer_once_in_order():
    seen = []

    def noting(layer):
        seen.append((layer.index, layer.kind, layer.first))
        return Epsilon()

    explain(zennit_maps.small(), zennit_maps.signed_frames(), noting)
    assert seen == [(0, "convolution", True), (1, "convolution", False), (2, "dense", False), (3, "dense", False)]


@pytest.mark.parametrize("rule", [Flat(), WSquare(), ZBox()], ids=repr)
def test_a_pixel_rule_on_a_hidden_layer_is_refused(rule):
    with pytest.raises(ValueError, match="got it for layer 1: give this layer another rule"):
        explain(zennit_maps.small(), zennit_maps.signed_frames(), Composite(rule, Epsilon()), low=-1.0, high=1.0)
