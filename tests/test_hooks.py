"""The training's hooks do not see that its network is explained."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules import module as everywhere
from torch.nn.utils import spectral_norm, weight_norm

from rlwatch.attribution import explain
from rlwatch.attribution.inputs import fit
from tests.fixtures.networks import ACTIONS, convolutions, observations

METHODS = ("epsilon", "gradient_x_input", "occlusion")
told = []


def network():
    torch.manual_seed(0)
    return nn.Sequential(convolutions(), nn.Flatten(), nn.Linear(32, ACTIONS)).double()


def write(_, __, outputs):
    outputs.mul_(2)


class Tracker:
    def __init__(self):
        self.seen, self.mean = [], torch.zeros((), dtype=torch.float64)

    def look(self, _, inputs, outputs):
        self.seen.append(outputs.detach().numpy().mean() + float(inputs[0].std().detach()))
        self.mean.mul_(0.9).add_(outputs.detach().mean())


@pytest.mark.parametrize("method", METHODS)
def test_hooks_that_look_see_nothing_and_change_nothing(method):
    net, clean, tracker, own = network(), network(), Tracker(), []
    net[0].register_forward_hook(tracker.look)
    net[2].register_forward_hook(lambda *_: own.append(1))
    net[1].register_forward_hook(lambda *_, **__: told.append(1), with_kwargs=True, always_call=True)
    net[0].register_forward_pre_hook(lambda *_: own.append(2))
    everywhere_hook = everywhere.register_module_forward_hook(lambda *_: own.append(3))
    try:
        found = explain(net, observations(), method)
    finally:
        everywhere_hook.remove()
    assert (tracker.seen, float(tracker.mean), own, told) == ([], 0, [], [])
    assert torch.equal(found.relevance, explain(clean, observations(), method).relevance)
    net(observations())
    assert (len(tracker.seen), len(own), len(told)) == (1, 2, 1)
    told.clear()


def test_a_hook_that_looks_is_called_once_at_most():
    net, calls = network(), iter(range(1000))
    net[0].register_forward_hook(lambda *_: [next(calls)].clear())
    for method in METHODS:
        explain(net, observations(), method)
    assert next(calls) == 1


@pytest.mark.parametrize("hook", [lambda *given: given[2] * 2, write])
@pytest.mark.parametrize("method", METHODS)
def test_hooks_that_act_on_outputs_are_a_part_of_the_network(hook, method):
    net, doubled = network(), network()
    net[1].register_forward_hook(hook)
    with torch.no_grad():
        doubled[2].weight *= 2
    for _ in range(2):
        found, expected = (explain(one, observations(), method) for one in (net, doubled))
        torch.testing.assert_close(found.relevance, expected.relevance, rtol=1e-6, atol=1e-12)


def test_backward_hooks_do_not_run_and_stay():
    net, own = network(), []
    net[1].register_full_backward_hook(lambda *_: own.append(1))
    for method in METHODS:
        explain(net, observations(), method)
    assert own == []
    net(observations()).sum().backward()
    assert own == [1]


@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.parametrize("norm", [spectral_norm, weight_norm])
def test_hooks_of_torch_that_make_weights_run(norm):
    net = network()
    norm(net[2])
    net(observations())
    net.eval()
    before = net(observations()).detach()
    with torch.no_grad():
        for parameter in net[2].parameters():
            parameter.add_(torch.rand_like(parameter))  # as an optimiser does, after which the weight is an old one
    found = explain(net, observations(), "epsilon").q_values
    assert not torch.allclose(found, before)
    torch.testing.assert_close(found, net(observations()).detach())


def test_a_hook_that_removes_itself_is_still_there():
    net, own = network(), []

    def once(*_):
        own.append(1)
        handle.remove()

    handle = net[0].register_forward_hook(once, with_kwargs=False)
    before = net[0].register_forward_pre_hook(lambda *_: before.remove())
    explain(net, observations(), "epsilon")
    assert len(net[0]._forward_hooks) == len(net[0]._forward_pre_hooks) == 1
    net(observations())
    assert own == [1]


def test_the_trials_for_a_view_are_not_seen_either():
    net, own = network().float(), []
    net[0].register_forward_hook(lambda *_: own.append(1))
    fit(net, torch.randint(256, (2, *observations().shape[1:]), dtype=torch.uint8))
    assert own == []
