"""Fresh weights, and nothing else moved."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from rlwatch.attribution.randomise import cascade, untrained
from tests.fixtures.networks import Dueling, Functional, Nature, Noisy, Residual, build, observations


class Scaled(nn.Module):
    """A layer whose initialisation torch does not know."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(0, 1, 50))
        self.body = nn.Linear(50, 2)

    def forward(self, x):
        return self.body(x * self.gain)


def test_every_parameter_is_drawn_anew_and_the_original_keeps_its_own():
    network = Scaled()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fresh = untrained(network, seed=1)
    assert all(not torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_seed_draws_the_same_network_and_leaves_the_global_generator_alone():
    network = nn.Linear(4, 4)
    state = torch.get_rng_state()
    first, again, other = (untrained(network, seed).weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("born", [1, 5])
def test_what_is_drawn_does_not_depend_on_the_weights_also_where_they_come_from_the_same_seed(born):
    torch.manual_seed(born)
    network = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    trained = copy.deepcopy(network)
    for parameter in trained.parameters():
        parameter.data.mul_(2)
    first, second = (untrained(one, seed=1).state_dict() for one in (network, trained))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_a_network_keeps_of_its_last_pass_stands_in_no_way_of_a_copy():
    network = build(Nature)
    hidden = network(observations())
    network.hidden, network.seen = (hidden, hidden * 2), {"features": [hidden]}
    fresh = untrained(network, seed=0)
    assert torch.equal(fresh.hidden[1], network.hidden[1])
    assert fresh.seen["features"][0] is fresh.hidden[0]
    assert network.hidden[0] is hidden
    assert hidden.grad_fn is not None


def test_a_network_that_cannot_be_copied_is_refused():
    network = nn.Linear(2, 2)
    network.generator = (value for value in ())
    with pytest.raises(TypeError, match="must be copyable"):
        untrained(network, seed=0)


class Itself(nn.Sequential):
    def __deepcopy__(self, memo):
        return self


class SharesItsTrunk(nn.Sequential):
    def __deepcopy__(self, memo):
        return nn.Sequential(self[0], copy.deepcopy(self[1], memo))


class SharesMemory(nn.Sequential):
    def __deepcopy__(self, memo):
        fresh = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        fresh[0].weight.data = self[0].weight.data
        return fresh


class ClosesOverItself(nn.Sequential):
    def __init__(self, *layers):
        super().__init__(*layers)
        self.read = lambda x: self[0](x) * 1

    def forward(self, x):
        return self[1](self.read(x))


@pytest.mark.parametrize("kind", [Itself, SharesItsTrunk, SharesMemory, ClosesOverItself])
def test_a_network_whose_copy_is_partly_itself_is_refused_and_keeps_its_weights(kind):
    network = kind(nn.Linear(2, 2), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(TypeError, match="must be copyable"):
        untrained(network, seed=0)
    with pytest.raises(TypeError, match="must be copyable"):
        next(cascade(network, torch.zeros(1, 2), seed=0))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_replay_memory_that_a_network_holds_is_not_copied_with_it():
    network = nn.Linear(2, 2)
    network.memory = SimpleNamespace(frames=np.zeros(1 << 25, np.uint8), steps=[[number] for number in range(30_000)])
    network.small = [1, 2]
    fresh = untrained(network, seed=0)
    assert fresh.memory.frames is network.memory.frames
    assert fresh.memory.steps is network.memory.steps
    assert fresh.memory is not network.memory
    assert fresh.small is not network.small


class Evolvable(nn.Sequential):
    """A network that calls something else its modules, as those of AgileRL do."""

    def modules(self):
        return {"first": self[0]}


def test_a_network_that_calls_something_else_its_modules_is_drawn_anew():
    network = Evolvable(nn.Conv2d(4, 2, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(200, 4))
    before = weights_of(network)
    fresh = weights_of(untrained(network, seed=0))
    assert all(not torch.equal(fresh[name], before[name]) for name in before)
    example = torch.zeros(1, 4, 84, 84)
    assert list(drawn_anew(network, example).values()) == [{"3.weight", "3.bias"}, set(before)]


def weights_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def drawn_anew(network, example, **settings):
    """For each stage, the names of the tensors that differ from the network's."""
    before = weights_of(network)
    return {
        stage: {name for name, value in fresh.state_dict().items() if not torch.equal(value, before[name])}
        for stage, fresh in cascade(network, example, 0, **settings)
    }


FRAMES = observations(1)


def test_layers_are_drawn_anew_from_the_output_down_and_stay_so():
    network = build(Nature)
    stages = drawn_anew(network, FRAMES)
    head, dense, late, early = ({f"{layer}.weight", f"{layer}.bias"} for layer in (7, 5, 2, 0))
    assert list(stages) == ["head", "top2", "top3", "all"]
    assert stages["head"] == head
    assert stages["top2"] == head | dense
    assert stages["top3"] == head | dense | late
    assert stages["all"] == head | dense | late | early


def test_both_last_layers_of_a_dueling_network_are_its_head():
    stages = drawn_anew(build(Dueling), FRAMES)
    last = {f"{stream}.1.{part}" for stream in ("value", "advantage") for part in ("weight", "bias")}
    assert stages["head"] == last


def test_layers_that_are_not_called_as_modules_stand_in_the_order_in_which_they_were_made():
    assert drawn_anew(build(Functional), FRAMES)["head"] == {"7.weight", "7.bias"}


def test_many_layers_are_drawn_in_as_many_stages_as_asked_for():
    stages = drawn_anew(build(Residual), FRAMES, stages=3)
    assert list(stages) == ["head", "top4", "all"]
    assert len(stages["all"]) == len(build(Residual).state_dict())


def test_the_cascade_leaves_the_network_and_the_global_generator_alone():
    network = build(Noisy).train()
    before, state = weights_of(network), torch.get_rng_state()
    first, again = (weights_of(list(cascade(network, FRAMES, 3))[-1][1]) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    drawn = next(cascade(network, FRAMES, 3))[1]
    assert not any(module._forward_hooks for either in (network, drawn) for module in either.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_frozen_networks_are_drawn_too_and_stay_frozen():
    network = build(Nature).requires_grad_(requires_grad=False)
    assert len(drawn_anew(network, FRAMES)) == 4
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_network_without_parameters_and_no_stages_are_refused():
    with pytest.raises(ValueError, match="got none in Flatten"):
        list(cascade(nn.Flatten(), FRAMES, 0))
    with pytest.raises(ValueError, match="at least 1"):
        list(cascade(nn.Linear(2, 2), FRAMES, 0, stages=0))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("normed", [nn.utils.spectral_norm, nn.utils.weight_norm])
def test_a_weight_that_its_layer_computes_is_drawn_anew_with_what_it_is_computed_of(normed):
    torch.manual_seed(0)
    network = nn.Sequential(normed(nn.Linear(50, 40)), nn.ReLU(), nn.Linear(40, 2))
    network(torch.rand(3, 50))
    fresh = untrained(network, seed=0)
    fresh(torch.rand(3, 50))
    both = torch.stack([network[0].weight.flatten(), fresh[0].weight.flatten()])
    assert torch.corrcoef(both)[0, 1].abs() < 0.1


def test_what_a_reset_leaves_alone_and_was_never_trained_draws_nothing():
    network = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2))
    fresh = untrained(network, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = nn.Linear(3, 2).weight
    assert torch.equal(fresh[0].weight, torch.ones(3))
    assert torch.equal(fresh[1].weight, expected)


class Drawing(Nature):
    """Draws in each pass, in evaluation too, as implicit quantiles do."""

    def forward(self, x):
        return super().forward(x) + torch.rand(1, dtype=x.dtype)


def test_a_network_that_draws_is_asked_for_its_layers_without_the_global_generator():
    network, state = build(Drawing), torch.get_rng_state()
    assert [stage for stage, _ in cascade(network, FRAMES, 0)][-1] == "all"
    assert torch.equal(torch.get_rng_state(), state)
