"""What torch.compile was given: the network, parts of it, and the steps that call the monitor."""

import copy

import pytest
import torch
from torch import nn

from rlwatch import Probe, Watch, explain
from rlwatch.attribution.randomise import untrained
from rlwatch.monitor.travel import pack
from rlwatch.unwrap import unwrapped
from tests.fixtures import watched
from tests.fixtures.networks import Nature, build, observations, part
from tests.fixtures.saved import beginning

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.compile's own


class HoldsCompiled(Nature):
    """A network that has compiled a method of its own, as an attribute."""

    def __init__(self):
        super().__init__()
        self.features = torch.compile(self.convolved)

    def convolved(self, x):
        return part(self, 0, 5)(x)

    def forward(self, x):
        return part(self, 5, 8)(self.features(x))


def of_compiled_methods(_):
    class OfCompiledMethods(Nature):
        @torch.compile
        def forward(self, x):
            return super().forward(x)

    return build(OfCompiledMethods)


def calling_compiled(_):
    rectified = torch.compile(torch.relu)

    class CallsCompiled(Nature):
        def forward(self, x):
            return part(self, 2, 8)(rectified(self[0](x)))

    return build(CallsCompiled)


def compiled_forward(network):
    network.forward = torch.compile(network.forward)
    return network


COMPILED = {
    "a network": torch.compile,
    "its forward": lambda network: torch.compile(network).forward,
    "a function": lambda network: torch.compile(lambda x: network(x) * 1),
    "a part": lambda network: nn.Sequential(torch.compile(nn.Sequential(*list(network)[:5])), *list(network)[5:]),
    "a network in place": lambda network: network.compile() or network,
}
if hasattr(torch.compiler, "set_stance"):
    COMPILED |= {
        "its forward in place": compiled_forward,
        "a method that it holds": lambda _: build(HoldsCompiled),
        "a method of its class": of_compiled_methods,
        "a function that it calls": calling_compiled,
    }


@pytest.mark.parametrize("compiled", COMPILED)
def test_what_is_compiled_is_explained_by_the_original(compiled):
    found = explain(COMPILED[compiled](build(Nature)), observations()).relevance
    assert torch.equal(found, explain(build(Nature), observations()).relevance)


class Remembers(HoldsCompiled):
    """It holds another method of its own, which is not compiled, too."""

    def __init__(self):
        super().__init__()
        self.head = self.headed

    def headed(self, x):
        return part(self, 5, 8)(x)

    def forward(self, x):
        return self.head(self.features(x))


def test_methods_that_a_network_has_compiled_are_those_of_its_copies():
    network = build(Remembers)
    eager = unwrapped(network)
    fresh, again = untrained(eager, seed=0), copy.deepcopy(eager)
    assert torch.equal(eager(observations()), build(Nature)(observations()))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    assert not again(observations()).any()
    assert pack(eager)[1]
    assert eager[0] is network[0]
    assert eager.head.__self__ is eager
    assert fresh.head.__self__ is fresh.features.__self__ is fresh


def test_what_calls_the_monitor_may_be_compiled_and_the_monitor_is_not(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network, compiling = watched.Nature(), []
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    monkeypatch.setattr(Watch, "_look", lambda _, step, _began: compiling.append((step, torch.compiler.is_compiling())))
    with Watch(network, beginning(Probe.load("breakout"), segments=1), logdir=tmp_path) as watch:
        watch.attach(optimizer, first_step=10)

        @torch.compile(backend="eager")
        def step(number):
            network(torch.zeros(2, 4, 84, 84)).square().mean().backward()
            optimizer.step()
            watch(number)

        step(1)
        step(2)
    assert compiling == [(11, False), (1, False), (12, False), (2, False)]
