"""What a network's own Python code changes while it is explained is put back."""

from __future__ import annotations

import random
import threading
from collections import deque
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from rlwatch.attribution import explain
from rlwatch.attribution.inputs import fit
from rlwatch.attribution.randomise import untrained
from rlwatch.attribution.sandbox.untouched import untouched
from rlwatch.unwrap import Read
from tests.fixtures.networks import ACTIONS, SIDE, STACK, convolutions, observations


class Recording(nn.Module):
    """Keeps statistics, a state, a journal and its last features, and draws numbers, as people's networks do."""

    def __init__(self):
        super().__init__()
        self.body, self.cell, self.head = convolutions(), nn.LSTMCell(32, 8), nn.Linear(8, ACTIONS)
        self.register_buffer("mean", torch.zeros(()))
        self.hidden, self.journal, self.recent, self.counts, self.kinds = None, ["begun"], deque([0], 3), {"n": 0}, {1}

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()
        self.features = self.body(x - self.mean).flatten(1)
        self.hidden = self.cell(self.features, self.hidden)
        self.journal.append(random.random() + np.random.rand())  # noqa: NPY002, S311
        self.recent.append(len(self.journal))
        self.counts["n"] += 1
        self.kinds.add("seen")
        return self.head(self.hidden[0])


class Agent:
    def __init__(self, network):
        self.network = network

    def q_values(self, x):
        return self.network(x)


ASKED = {
    "a module": lambda network: network,
    "its forward": lambda network: network.forward,
    "a closure": lambda network: lambda x: network(x * 1),
    "a partial": lambda network: partial(lambda inner, x: inner(x), network),
    "an agent's method": lambda network: Agent(network).q_values,
}


def state_of(network):
    hidden = network.hidden
    lists = network.journal, list(network.recent), dict(network.counts), set(network.kinds)
    return network.mean, hidden, hasattr(network, "features"), [type(one)(one) for one in lists]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("method", ["epsilon_gamma_box", "gradient_x_input", "occlusion"])
def test_attributes_buffers_and_generators_end_as_they_began(asked, method):
    network = Recording().double()
    before, numpy = state_of(network), np.random.get_state()[1].copy()  # noqa: NPY002
    explain(ASKED[asked](network), observations(), method, **({"low": -1.0, "high": 1.0} if "box" in method else {}))
    after = state_of(network)
    assert before[0] is after[0]
    assert before[1:] == after[1:]
    assert (np.random.get_state()[1] == numpy).all()  # noqa: NPY002


def test_pythons_generator_ends_where_it_began():
    before = random.getstate()
    with untouched(convolutions()):
        random.random()  # noqa: S311
    assert random.getstate() == before


def test_a_network_that_is_tried_for_its_view_stays_as_it_was():
    network = Recording()
    frames = torch.randint(256, (2, STACK, SIDE, SIDE), dtype=torch.uint8)
    before = state_of(network)
    assert fit(lambda x: network(x / 255), frames).name == "uint8, NCHW"
    assert state_of(network) == before


class Tally:
    def __init__(self):
        self.count, self.mean = 0, np.zeros(1)

    def add(self):
        self.count += 1
        self.mean = self.mean + 1


class Counted(nn.Module):
    calls, seen = 0, {}

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(convolutions(), nn.Flatten(), nn.Linear(32, ACTIONS)).double()

    def forward(self, x):
        Counted.calls += 1
        Counted.seen[Counted.calls] = x
        Counted.last = x
        return self.inner(x)


def by_closure(network, tally):
    draws = np.random.default_rng(0)

    def ask(x):
        tally.add()
        return network(x) + draws.normal()

    return ask, lambda: (tally.count, tally.mean, draws.bit_generator.state)


def by_defaults(network, tally):
    def ask(x, tally=tally):
        tally.add()
        return network(x)

    return ask, lambda: (tally.count, tally.mean)


def by_an_agent(network, tally):
    class Counting(Agent):
        def q_values(self, x):
            self.tally.add()
            return super().q_values(x)

    agent = Counting(network)
    agent.tally = tally
    return agent.q_values, lambda: (tally.count, tally.mean)


def by_what_reads(network, tally):
    return Read(network, lambda inner, x: tally.add() or inner(x)), lambda: (tally.count, tally.mean)


def by_its_class(network, _):
    return network, lambda: (Counted.calls, len(Counted.seen), hasattr(Counted, "last"))


@pytest.mark.parametrize("asked", [by_closure, by_defaults, by_an_agent, by_what_reads, by_its_class])
def test_what_lies_around_a_network_ends_as_it_began(asked):
    ask, state = asked(Counted(), Tally())
    before = state()
    for _ in range(2):
        explain(ask, observations(), "epsilon")
        assert state() == before


def test_a_function_may_note_in_variables_of_its_own_what_it_is_asked():
    network, seen, count = Counted(), [], 0

    def ask(x):
        nonlocal count
        count += 1
        seen.append(len(x))
        return network(x)

    explain(ask, observations(), "gradient_x_input")
    assert (count, seen) == (1, [len(observations())])


def test_what_the_first_pass_has_not_changed_is_left_to_other_threads():
    agent = Agent(convolutions())
    agent.steps, agent.replay = 0, deque([0])
    for step in range(2):
        with untouched(agent.q_values):
            agent.q_values(observations().float())
            agent.steps += step
            agent.replay.extend([step] * step)
    assert (agent.steps, list(agent.replay)) == (1, [0, 1])


def test_an_agent_that_acts_in_another_thread_is_left_to_it():
    agent, begun, may_end = Agent(convolutions()), threading.Event(), threading.Event()
    agent.steps = 0

    def act(agent):
        begun.set()
        may_end.wait(5)
        agent.steps += 1

    actor = threading.Thread(target=act, args=[agent])
    actor.start()
    begun.wait(5)
    with untouched(agent.q_values):
        may_end.set()
        actor.join()
    assert agent.steps == 1


def test_weights_that_torch_caches_are_the_trainings_own():
    network = weight_norm(nn.Linear(4, 4))
    before = network.weight.clone()
    with parametrize.cached():
        with untouched(network):
            seen = network.weight
        untrained(network, seed=0)
        assert network.weight is not seen
        assert network.weight is network.weight
        assert torch.equal(network.weight, before)
