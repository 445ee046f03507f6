"""What the Python objects that a network holds have changed while it is explained is put back."""

from __future__ import annotations

import random
import threading
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
import pytest
import torch
from torch import nn

from rlwatch.attribution import explain
from rlwatch.attribution.sandbox import keeping
from rlwatch.attribution.sandbox.keeping import keep, put_back
from tests.fixtures.networks import ACTIONS, convolutions, observations


class RunningMeanStd:
    """The normaliser of gym and baselines."""

    def __init__(self):
        self.mean, self.count, self.array = torch.zeros(()), 1e-4, np.zeros(3)

    def update(self, x):
        self.mean = self.mean + x.mean()
        self.count += len(x)
        self.array += 1


class Slotted:
    __slots__ = ("__hidden", "count", "fresh")

    def __init__(self):
        self.count, self.__hidden = 0, 0

    def update(self, _):
        self.count, self.__hidden, self.fresh = self.count + 1, self.__hidden + 1, True


@dataclass
class Inner:
    stats: dict = field(default_factory=lambda: {"a": {"n": 0, "list": [[1], 2]}})

    def update(self, x):
        self.stats["a"]["n"] += 1
        self.stats["a"]["list"][0].append(x)
        self.stats["b"] = x


class Drawing:
    def __init__(self):
        self.new, self.old = np.random.default_rng(0), np.random.RandomState(0)
        self.python = random.Random(0)  # noqa: S311

    def update(self, _):
        self.new.random(), self.old.random(), self.python.random()


class Collections:
    def __init__(self):
        self.counter, self.default, self.lru = Counter("aab"), defaultdict(list), OrderedDict(a=1, b=2)

    def update(self, x):
        self.counter.update("abc")
        self.default["new"].append(x)
        self.lru.move_to_end("a")


class Network(nn.Module):
    def __init__(self, kept):
        super().__init__()
        self.body, self.head, self.kept = convolutions(), nn.Linear(32, ACTIONS), [(kept,)]

    def forward(self, x):
        self.kept[0][0].update(x)
        return self.head(self.body(x).flatten(1))


def told(value, *, depth=6):
    """All that is in a value, as text."""
    if depth == 0 or isinstance(value, (int, float, str, bool)):
        return repr(value)
    if isinstance(value, dict):
        return f"{type(value)} {[(key, told(one, depth=depth - 1)) for key, one in value.items()]}"
    if isinstance(value, (list, tuple)):
        return str([told(one, depth=depth - 1) for one in value])
    states = {np.random.Generator: "bit_generator.state", np.random.RandomState: "get_state", random.Random: "getstate"}
    if type(value) in states:
        found = attrgetter(states[type(value)])(value)
        return str(found() if callable(found) else found)
    slots = getattr(type(value), "__slots__", ())
    found = {name: getattr(value, name, None) for name in ("count", "fresh", "_Slotted__hidden") if slots}
    found |= getattr(value, "__dict__", {})
    return told(found, depth=depth - 1) if found else repr(value)


@pytest.mark.parametrize("kind", [RunningMeanStd, Slotted, Inner, Drawing, Collections])
def test_plain_objects_of_a_network_end_as_they_began(kind):
    network = Network(kind()).double()
    before = told(network.kept)
    mean = getattr(network.kept[0][0], "mean", None)
    explain(network, observations(), "epsilon")
    assert told(network.kept) == before
    assert getattr(network.kept[0][0], "mean", None) is mean
    assert not hasattr(mean, "_rlwatch")
    network(observations())
    assert told(network.kept) != before


def test_what_another_thread_may_hold_is_left_to_it():
    class Shared:
        def __init__(self):
            self.lock, self.items = threading.Lock(), []

    shared = Shared()
    kept = keep([[shared]])
    shared.items.append(1)
    put_back(kept)
    assert shared.items == [1]


def test_arrays_are_kept_up_to_a_bound_and_values_too(monkeypatch):
    monkeypatch.setattr(keeping, "ROOM", 100)
    small, large, whole = np.zeros(4), np.zeros(20), np.zeros(8)
    kept = keep([[small, large, whole]])
    for array in (small, large, whole):
        np.add(array, 1, out=array)
    put_back(kept)
    assert (small.sum(), large.sum(), whole.sum()) == (0, 20, 0)
    monkeypatch.setattr(keeping, "VALUES", 10)
    long, short = [[0]] * 20, [[0]]
    kept = keep([long, short])
    long[0].append(1)
    long.append(2)
    short[0].append(1)
    put_back(kept)
    assert (len(long), long[0], short[0]) == (20, [0, 1], [0])


def test_what_is_too_large_to_be_put_back_is_told_once_by_its_name(monkeypatch, caplog):
    monkeypatch.setattr(keeping, "ROOM", 100)
    monkeypatch.setattr(keeping, "VALUES", 200)
    monkeypatch.setattr(keeping, "_TOLD", set())
    network = nn.Linear(2, 2)
    network.table, network.replay, network.numbers = np.zeros(1_000_000), [[0]] * 300, [0] * 300
    for _ in range(2):
        keep([network])
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(" is too large")[0] for text in told] == [
        "rlwatch: table of the network (an array of 8 MB)",
        "rlwatch: replay of the network (list of 300 values)",
    ]
    assert all("keep it outside of the network, or as a tensor" in text for text in told)
    network.deep = [[tuple([0] for _ in range(300 + number))] for number in range(9)]
    keep([network])
    assert len(caplog.records) == 3  # of what has no name of its own the first is told


def test_the_gradients_of_weights_that_a_network_looks_at_carry_no_mark():
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = convolutions(), nn.Linear(32, ACTIONS)

        def forward(self, x):
            self.norm = self.head.weight.grad.norm()
            return self.head(self.body(x).flatten(1))

    network = Looking().double()
    network.head.weight.grad = torch.ones_like(network.head.weight)
    explain(network, observations(), "epsilon")
    assert not hasattr(network.head.weight.grad, "_rlwatch")
