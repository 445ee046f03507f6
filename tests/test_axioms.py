"""What a method promises of its maps, whatever the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from rlwatch.attribution import COMPOSITES, METHODS, Composite, Epsilon, Zero, ZPlus, explain
from rlwatch.attribution.methods import QUERYING
from tests.fixtures.networks import SIDE, STACK, Nature, build, close, observations

ONCE = [method for method in METHODS if method not in QUERYING]
POSITIVE = ["excitation_backprop", "deep_taylor"]


def as_functions(network):
    """The same function without a module, every bias a sum of its own, in place where torch can."""

    def forward(x):
        x = functional.conv2d(x, network[0].weight, stride=4) + network[0].bias.view(1, -1, 1, 1)
        x = torch.conv2d(torch.relu_(x), network[2].weight, network[2].bias).clamp_min_(0)
        x = torch.addmm(network[5].bias, x.reshape(len(x), -1), network[5].weight.T).relu()
        return x.matmul(network[7].weight.T) + network[7].bias

    return forward


def fused(network):
    """The same function behind a batch normalisation that is merged into the first layer, and unmerged by it."""
    norm = nn.BatchNorm2d(6).double().eval()
    with torch.no_grad():
        norm.running_mean.copy_(torch.linspace(-1, 1, 6))
        norm.running_var.copy_(torch.linspace(0.5, 2, 6))
        first = nn.Conv2d(STACK, 6, 8, 4).double()
        deviation = (norm.running_var + norm.eps).sqrt()
        first.weight.copy_(network[0].weight * deviation.view(-1, 1, 1, 1))
        first.bias.copy_(network[0].bias * deviation + norm.running_mean)
    return nn.Sequential(first, norm, *list(network)[1:])


@pytest.mark.parametrize("written", [as_functions, fused])
@pytest.mark.parametrize("method", [*ONCE, "occlusion", "integrated_gradients"])
def test_the_map_belongs_to_the_function_not_to_how_it_is_written(method, written):
    network = build(Nature)
    close(
        explain(written(network), observations(), method).relevance, explain(network, observations(), method).relevance
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", [*POSITIVE, Composite(ZPlus(), ZPlus())])
def test_positive_rules_keep_the_sign_of_the_score(method, seed):
    network = build(Nature, seed=seed)
    for action in range(3):
        found = explain(network, observations(seed=seed), method, f"action={action}")
        signed = found.relevance * found.score.sign().view(-1, 1, 1, 1)
        assert signed.min() >= -1e-12 * signed.abs().max()
        # no pixel gets more than there is
        assert (found.relevance.abs().sum((1, 2, 3)) <= found.score.abs() * (1 + 1e-9)).all()


@pytest.mark.parametrize("method", ["sensitivity", "greydanus", "sarfa"])
def test_maps_without_a_sign_are_never_negative(method):
    assert explain(build(Nature), observations(), method).relevance.min() >= 0


class Larger(nn.Module):
    """The larger of two pixels, by rectifiers; its gradient jumps where both are equal."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, (1, 2), bias=False).double(), nn.Linear(3, 1, bias=False).double()
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, -1], [-1, 1], [1, 1]]).view(3, 1, 1, 2))
            self.second.weight.fill_(0.5)

    def forward(self, x):
        return self.second(functional.relu(self.first(x)).flatten(1))


def jump(method, step):
    """How far the map moves when the two pixels change places in being the larger one by `step`."""
    sides = torch.tensor([[1 + step, 1.0], [1.0, 1 + step]], dtype=torch.float64).view(2, 1, 1, 2)
    one, other = explain(Larger(), sides, method).relevance
    return float((one - other).abs().max())


@pytest.mark.parametrize("method", [*POSITIVE, "epsilon_plus", "epsilon_plus_flat"])
def test_positive_rules_are_continuous_where_the_gradient_jumps(method):
    assert jump(method, 1e-3) <= 5e-3
    assert jump(method, 1e-5) <= 5e-5
    assert jump("gradient_x_input", 1e-5) >= 0.9


@pytest.mark.parametrize("method", [name for name in COMPOSITES if name != "epsilon"])
def test_a_vanishing_change_of_the_picture_moves_its_map_by_little(method):
    network, seen = build(Nature), observations()
    noise = torch.randn(seen.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    here, there = (
        explain(network, seen + step * noise, method, "action=0", low=-1.0, high=2.0).relevance for step in (0, 1e-6)
    )
    assert (there - here).norm() <= 1e-3 * here.norm()


def test_lrp_0_and_a_vanishing_epsilon_are_one():
    network = build(Nature)
    tiny, zero = Composite(Epsilon(1e-13), Epsilon(1e-13)), Composite(Zero(), Zero())
    close(explain(network, observations(), tiny).relevance, explain(network, observations(), zero).relevance)


def test_pixels_that_the_network_treats_alike_get_the_same():
    network = nn.Sequential(nn.Conv2d(STACK, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(100, 3)).double()
    with torch.no_grad():
        network[0].weight.copy_(network[0].weight.mean((2, 3), keepdim=True).expand_as(network[0].weight))
    seen = observations()[:1, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    for method in ("integrated_gradients", "epsilon", "epsilon_plus_flat"):
        relevance = explain(network, seen, method).relevance.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
        close(relevance, relevance[..., :1].expand_as(relevance))
    assert seen.shape[-1] == SIDE
