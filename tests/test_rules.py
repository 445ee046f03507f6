"""Each rule against its formula written out over the dense matrix of the layer, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rlwatch.attribution import Composite, explain
from rlwatch.attribution.lrp.pixel_rules import Flat, WSquare, ZBox
from rlwatch.attribution.lrp.rules import AlphaBeta, Epsilon, Gamma, Pass, Zero, ZPlus
from rlwatch.attribution.operations.convolution import Convolution
from rlwatch.attribution.operations.layers import Dense, Layer

EPSILON = 1e-6
LOW, HIGH = -1.5, 1.25

GEOMETRIES = {
    "dense": (Dense(), (3, 7), (5, 7)),
    "kernel of two strides": (Convolution((4, 4)), (2, 3, 12, 14), (4, 3, 8, 8)),
    "rows left over": (Convolution((2, 2)), (2, 2, 9, 10), (3, 2, 4, 4)),
    "kernel of one and a half strides": (Convolution((2, 2), (1, 1)), (2, 2, 8, 7), (3, 2, 3, 3)),
    "padded": (Convolution((1, 1), (2, 1)), (2, 2, 6, 5), (3, 2, 3, 3)),
    "kernel smaller than its stride": (Convolution((3, 3)), (2, 2, 8, 8), (3, 2, 2, 2)),
    "two strides": (Convolution((2, 1), (0, 1)), (2, 2, 7, 6), (3, 2, 3, 2)),
    "dilated": (Convolution((1, 1), (1, 1), (2, 2)), (2, 2, 7, 6), (3, 2, 3, 3)),
    "grouped": (Convolution((1, 1), (1, 1), (1, 1), 2), (2, 4, 5, 5), (6, 2, 3, 3)),
}


def layer_of(geometry, *, bias=True, nonnegative=False, seed=0):
    linear_map, input_shape, weight_shape = GEOMETRIES[geometry]
    random = torch.Generator().manual_seed(seed)
    inputs = torch.rand(input_shape, generator=random, dtype=torch.float64) * (HIGH - LOW) + LOW
    inputs = inputs.clamp(min=0) if nonnegative else inputs
    weight = torch.randn(weight_shape, generator=random, dtype=torch.float64)
    offsets = torch.randn(weight_shape[0], generator=random, dtype=torch.float64) if bias else None
    layer = Layer(linear_map, inputs, weight, offsets, linear_map.forward(inputs, weight, offsets))
    box = torch.full_like(inputs[:1], LOW), torch.full_like(inputs[:1], HIGH)
    layer.box = lambda: box
    return layer


def dense(layer):
    """The layer as inputs (probe, i), matrix (o, i), bias (o) and outputs (probe, o)."""
    count = layer.inputs[0].numel()
    unit = torch.eye(count, dtype=torch.float64).view(count, *layer.inputs.shape[1:])
    matrix = layer.map.forward(unit, layer.weight).flatten(1).t()
    bias = torch.zeros(len(matrix), dtype=torch.float64)
    if layer.bias is not None:
        bias = layer.bias.repeat_interleave(len(matrix) // len(layer.bias))
    return layer.inputs.flatten(1), matrix, bias, layer.outputs.flatten(1)


def away_from_zero(values, epsilon=EPSILON):
    return torch.where(values < 0, values - epsilon, values + epsilon)


def in_shares(contributions, rest, relevance):
    """Relevance (probe, o) shared out by contributions (probe, o, i); `rest` (probe, o) keeps its own part."""
    total = contributions.sum(2) + rest
    return (contributions * (relevance / away_from_zero(total))[:, :, None]).sum(1)


def replica(rule, layer, relevance):  # noqa: PLR0911 - one formula per rule
    inputs, matrix, bias, outputs = dense(layer)
    plain = inputs[:, None, :] * matrix
    match rule:
        case Zero():
            return (plain * (relevance / torch.where(outputs == 0, 1, outputs))[:, :, None]).sum(1)
        case Epsilon(epsilon=epsilon):
            return (plain * (relevance / away_from_zero(outputs, epsilon))[:, :, None]).sum(1)
        case ZPlus(bias=with_bias):
            return in_shares(plain.clamp(min=0), bias.clamp(min=0) * with_bias, relevance)
        case AlphaBeta(alpha=alpha, beta=beta):
            up = in_shares(plain.clamp(min=0), bias.clamp(min=0), relevance)
            return alpha * up - beta * in_shares(plain.clamp(max=0), bias.clamp(max=0), relevance)
        case Gamma(gamma=gamma):
            up = in_shares(
                plain + gamma * plain.clamp(min=0), bias + gamma * bias.clamp(min=0), relevance * (outputs > 0)
            )
            return up + in_shares(
                plain + gamma * plain.clamp(max=0), bias + gamma * bias.clamp(max=0), relevance * (outputs < 0)
            )
        case Flat():
            reads = (dense_ones(layer) != 0).double().expand_as(plain)
            return in_shares(reads, torch.zeros(()), relevance)
        case WSquare():
            return in_shares(matrix.square().expand_as(plain), bias.square(), relevance)
        case ZBox():
            return in_shares(plain - LOW * matrix.clamp(min=0) - HIGH * matrix.clamp(max=0), torch.zeros(()), relevance)
    raise AssertionError(rule)


def dense_ones(layer):
    """The layer's matrix if every weight were 1."""
    ones = torch.ones_like(layer.weight)
    return dense(Layer(layer.map, layer.inputs, ones, None, layer.outputs))[1]


def propagated(rule, layer, relevance):
    outputs = layer.outputs.flatten(1)
    carried = rule(layer)((relevance / torch.where(outputs == 0, 1, outputs)).view_as(layer.outputs))
    return (carried if rule.pixels else carried * layer.inputs).flatten(1)


def relevance_for(layer):
    random, outputs = torch.Generator().manual_seed(7), layer.outputs.flatten(1)
    return torch.randn(outputs.shape, generator=random, dtype=torch.float64) * (outputs != 0)


RULES = [
    Zero(),
    Epsilon(),
    Epsilon(0.3),
    ZPlus(),
    ZPlus(bias=False),
    AlphaBeta(),
    AlphaBeta(1.0, 0.0),
    Gamma(),
    Gamma(2.0),
]
RULES += [Flat(), WSquare(), ZBox()]


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_rule_is_its_formula_over_the_dense_matrix(rule, geometry, bias, nonnegative):
    layer = layer_of(geometry, bias=bias, nonnegative=nonnegative)
    relevance = relevance_for(layer)
    expected = replica(rule, layer, relevance)
    torch.testing.assert_close(
        propagated(rule, layer, relevance), expected, rtol=1e-9, atol=1e-9 * expected.abs().max()
    )


def test_gamma_behind_a_rectifier_needs_the_positive_outputs_only():
    layer = layer_of("padded", nonnegative=True)
    relevance = relevance_for(layer) * (layer.outputs.flatten(1) > 0)
    full = propagated(Gamma(), layer, relevance)
    layer.consumers = {"relu"}
    torch.testing.assert_close(propagated(Gamma(), layer, relevance), full, rtol=1e-12, atol=0)


def test_pass_hands_relevance_on_unchanged():
    layer = layer_of("padded")
    layer.outputs = layer.inputs + 1
    relevance = relevance_for(layer)
    torch.testing.assert_close(propagated(Pass(), layer, relevance), relevance)


def test_pass_refuses_a_layer_that_changes_the_shape():
    with pytest.raises(ValueError, match=r"\(3, 7\) -> \(3, 5\): give this layer another rule"):
        Pass()(layer_of("dense"))


@pytest.mark.parametrize("rule", [Flat(), WSquare(), ZBox()], ids=repr)
def test_the_pixel_rules_give_a_black_pixel_relevance(rule):
    layer = layer_of("padded", bias=False)
    layer.inputs = torch.zeros_like(layer.inputs)
    layer.outputs = torch.ones_like(layer.outputs)
    assert (propagated(rule, layer, relevance_for(layer).abs()) != 0).all()


@pytest.mark.parametrize("rule", [Zero(), Epsilon(), ZPlus(), AlphaBeta(), Gamma()], ids=repr)
def test_the_other_rules_give_a_black_pixel_none(rule):
    layer = layer_of("padded")
    layer.inputs = layer.inputs * (layer.inputs > 0)
    relevance = propagated(rule, layer, relevance_for(layer))
    assert (relevance[layer.inputs.flatten(1) == 0] == 0).all()
    assert (relevance != 0).any()


@pytest.mark.parametrize("rule", [ZPlus(bias=False), AlphaBeta(1.0, 0.0, bias=False), Flat(), ZBox()], ids=repr)
def test_rules_without_bias_lose_nothing(rule):
    layer = layer_of("rows left over")
    relevance = relevance_for(layer)
    total = propagated(rule, layer, relevance).sum(1)
    torch.testing.assert_close(total, relevance.sum(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", [ZPlus(), Flat(), WSquare(), ZBox()], ids=repr)
def test_positive_rules_keep_positive_relevance_positive(rule):
    layer = layer_of("kernel of two strides")
    assert (propagated(rule, layer, relevance_for(layer).abs()) >= 0).all()


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 2.0), (0.0, -1.0), (1.0, 1.0)])
def test_alpha_and_beta_must_differ_by_one(alpha, beta):
    with pytest.raises(ValueError, match="expected alpha - beta = 1"):
        AlphaBeta(alpha, beta)


def test_the_box_rule_says_what_it_misses():
    layer = layer_of("dense")
    layer.box = lambda: None
    with pytest.raises(ValueError, match="expected low= and high=, got none"):
        ZBox()(layer)


def test_the_box_rule_stays_finite_where_rounding_takes_outputs_below_their_least():
    layer = layer_of("dense", bias=False)
    least = LOW * layer.weight.clamp(min=0).sum(1) + HIGH * layer.weight.clamp(max=0).sum(1)
    layer.outputs = (least - EPSILON).expand(3, 5).clone()
    layer.inputs = torch.full_like(layer.inputs, LOW)
    assert ZBox()(layer)(torch.ones(3, 5, dtype=torch.float64)).abs().max() < 1e9


def test_a_total_that_is_zero_by_chance_gives_no_relevance_and_spoils_none():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).double()
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.copy_(torch.tensor([-1.5, 1.0]))  # 1.25 - 1.5 + 0.25 = 0, where ReLU is silent
    explanation = explain(
        network, torch.ones(1, 1, 2, 2, dtype=torch.float64), Composite(Gamma(0.25, epsilon=0.25), Epsilon())
    )
    assert explanation.relevance.isfinite().all()
    assert explanation.relevance.abs().min() > 0
