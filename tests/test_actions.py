"""All actions at once, and the streams of a dueling head."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from rlwatch.attribution import METHODS, explain, explain_actions, explain_targets
from rlwatch.attribution.methods import QUERYING
from rlwatch.attribution.operations import convolution
from tests.fixtures.networks import ACTIONS, SIDE, STACK, Dueling, Nature, build, close, observations

ONCE = [method for method in METHODS if method not in QUERYING]


@pytest.mark.parametrize("method", [*ONCE, "occlusion", "integrated_gradients"])
def test_all_actions_are_the_maps_of_each_action(method):
    network = build(Nature)
    every = explain(network, observations(), method, "all")
    assert every.relevance.shape == (3, ACTIONS, STACK, SIDE, SIDE)
    assert every.target == "all"
    for action in range(ACTIONS):
        single = explain(network, observations(), method, f"action={action}")
        close(every.relevance[:, action], single.relevance)
        torch.testing.assert_close(every.absorbed[:, action], single.absorbed, equal_nan=True)
        close(every.q_values[:, action], single.score)


@pytest.mark.parametrize("maps", [1, 4, 6, 100])
def test_parts_are_as_small_as_asked_for_and_make_no_difference(maps):
    network = build(Nature)
    parts = list(explain_actions(network, observations(5), maps=maps))
    assert max(len(part.relevance) for part in parts) == min(5, max(1, maps // ACTIONS))
    close(torch.cat([part.relevance for part in parts]), explain(network, observations(5), target="all").relevance)


def test_the_actions_of_a_part_share_one_forward_pass():
    network, passes = build(Nature), []
    list(explain_actions(lambda x: passes.append(1) or network(x), observations(4), "epsilon", maps=2 * ACTIONS))
    assert len(passes) == 3  # parts of one observation, while the number of actions is not known, of two, and of one


class Twofold(nn.Module):
    """Two convolutions read the same pixels."""

    def __init__(self):
        super().__init__()
        self.one, self.other = (nn.Conv2d(STACK, 3, 4, 4) for _ in range(2))
        self.head = nn.Linear(3 * (SIDE // 4) ** 2, ACTIONS)

    def forward(self, x):
        return self.head((self.one(x) + torch.relu(self.other(x))).flatten(1))


@pytest.mark.parametrize("method", ["epsilon", "epsilon_gamma_box", "gradient_x_input"])
@pytest.mark.parametrize("cache", [1, 1 << 20])
def test_all_actions_are_right_where_two_layers_read_the_pixels(monkeypatch, method, cache):
    monkeypatch.setattr(convolution, "CACHE", cache)
    network = Twofold().double()
    every = explain(network, observations(), method, "all")
    for action in range(ACTIONS):
        close(every.relevance[:, action], explain(network, observations(), method, f"action={action}").relevance)


BOUNDED = """
import resource, sys, torch
from torch import nn
from rlwatch.attribution import explain_actions
torch.set_num_threads(1)
network = nn.Sequential(nn.Conv2d(4, 4, 8, 4), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 18))
frames = torch.randint(256, (10_000, 4, 84, 84), dtype=torch.uint8)
ask = lambda x: network(x.float() / 255)
next(explain_actions(ask, frames[:100]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seen = sum(part.relevance.shape[:2].numel() for part in explain_actions(ask, frames))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(seen, grown * (1 if sys.platform == "darwin" else 1024))
"""


def test_ten_thousand_frames_and_eighteen_actions_need_the_memory_of_three_parts():
    done = subprocess.run([sys.executable, "-c", BOUNDED], check=True, capture_output=True, text=True)
    seen, grown = map(int, done.stdout.split())
    assert seen == 180_000  # 20 GB of maps
    assert grown < 3 * 300 * 4 * 84 * 84 * 4


def test_less_than_one_map_is_refused():
    with pytest.raises(ValueError, match="maps must be at least 1, got 0"):
        next(explain_actions(build(Nature), observations(), maps=0))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("maps", [1.5, 3.0, float("nan"), "3", True, None])
def test_a_number_of_maps_that_is_not_whole_is_refused(maps):
    with pytest.raises(TypeError, match=f"maps must be a whole number, got {maps!r}: at least 1"):
        next(explain_actions(build(Nature), observations(), maps=maps))


def test_a_name_that_is_no_target_is_not_told_of_all_where_all_is_none():
    with pytest.raises(ValueError, match=r"advantage, action=k, got 'gredy': did you mean 'greedy'\?"):
        explain_targets(build(Nature), observations(), ("gredy",))


def test_a_single_name_is_not_taken_for_several_targets():
    with pytest.raises(TypeError, match=r"several targets, got 'greedy': pass a tuple, \('greedy',\)"):
        explain_targets(build(Nature), observations(), "greedy")


def test_all_actions_are_no_target_among_others():
    with pytest.raises(ValueError, match=r"or explain\(\.\.\., target='all'\)"):
        explain_targets(build(Nature), observations(), ("greedy", "all"))


class Absorbing(nn.Module):
    """A dueling head whose advantages are taken off their maximum, their mean, or not at all; in place or not."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.body = kind, nn.Sequential(*list(Nature())[:7])
        self.value, self.advantage = nn.Linear(16, 1), nn.Linear(16, ACTIONS)

    def forward(self, x):
        x = self.body(x)
        value, advantage = self.value(x), self.advantage(x)
        if self.kind == "in place":
            advantage -= advantage.mean(1, keepdim=True)
            return value + advantage
        if self.kind == "joined":
            both = torch.cat([advantage, value], 1)
            advantage, value = both[:, :ACTIONS], both[:, ACTIONS:]
        off = {"max": advantage.amax(1, keepdim=True), "nothing": 0.0}.get(self.kind, advantage.mean(1, keepdim=True))
        return value + advantage - off

    def streams(self, x):
        x = self.body(x)
        return self.value(x), self.advantage(x)


@pytest.mark.parametrize("method", [*ONCE, "occlusion", "integrated_gradients"])
def test_the_value_of_a_dueling_head_is_that_of_the_stream_itself(method):
    network = build(Dueling)

    def value(x):
        return network.value[1](network.relu(network.value[0](network.features(x).flatten(1))))

    found = explain(network, observations(), method, "value")
    alone = explain(value, observations(), method, "action=0")
    close(found.score, alone.score)
    close(found.relevance, alone.relevance)


@pytest.mark.parametrize("method", ["epsilon", "epsilon_gamma_box", "gradient_x_input", "integrated_gradients"])
def test_value_and_advantage_add_up_to_the_best_action(method):
    found = explain_targets(build(Dueling), observations(), ("value", "advantage", "greedy"), method)
    value, advantage, greedy = found.values()
    close(value.score + advantage.score, greedy.score)
    close(value.relevance + advantage.relevance, greedy.relevance)
    assert advantage.relevance.abs().max() > 0


@pytest.mark.parametrize("kind", ["max", "nothing", "in place", "joined"])
def test_a_dueling_head_is_found_however_it_is_written(kind):
    network = build(lambda: Absorbing(kind))
    found = explain_targets(network, observations(), ("value", "advantage"), "epsilon")
    expected = network.streams(observations())[0][:, 0].detach()
    close(found["value"].score, expected)
    lead = network(observations()).amax(1).detach() - expected
    torch.testing.assert_close(found["advantage"].score, lead, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", ["value", "advantage"])
def test_a_head_without_streams_is_refused_with_the_remedy(target):
    with pytest.raises(ValueError, match=r"expected a dueling head.*target='action=0'"):
        explain(build(Nature), observations(), target=target)
    network = build(Nature)
    with pytest.raises(ValueError, match="expected a dueling head"):  # a mean of Q is no stream
        explain(lambda x: (q := network(x)) + 0 * q.mean(1, keepdim=True), observations(), target=target)
