"""Networks as trainings wrap them: compiled, parallel, in several processes."""

import copy
import subprocess
import sys
from types import MethodType

import pytest
import torch
from torch import nn

from rlwatch import Probe, Watch
from rlwatch.unwrap import Read, check_updates, unwrapped
from tests.fixtures.saved import beginning
from tests.fixtures.watched import Nature, tags

FRAMES = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


pytestmark = pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own, at first compile


@pytest.fixture(scope="module")
def probe():
    """The first two stretches of Breakout's."""
    return beginning(Probe.load("breakout"), segments=2)


def never(*_):
    """A compiler that must not be asked."""
    raise AssertionError("compiled")


def compiled(callable_):
    return torch.compile(callable_, backend=never)


class Compiled(nn.Module):
    """A network of which only a part is compiled."""

    def __init__(self, body):
        super().__init__()
        self.body = compiled(body)

    def forward(self, x):
        return self.body(x)


def compiled_in_place(network):
    network.compile(backend=never)
    return network


WRAPPED = {
    "compiled": compiled,
    "parallel": nn.DataParallel,
    "compiled and parallel": lambda network: compiled(nn.DataParallel(network)),
    "its forward": lambda network: network.forward,
    "a method of its own": lambda network: MethodType(lambda module, x: module.body(x.float() / 255), network),
    "its forward, compiled": lambda network: compiled(network.forward),
    "a compiled function of it": lambda network: compiled(lambda x: network(x) * 1),
    "a compiled part": Compiled,
    "compiled in place": compiled_in_place,
    "as it is": lambda network: network,
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_network_beneath_computes_the_same_without_being_compiled(name):
    network = Nature()
    expected = network(FRAMES)
    wrapped = WRAPPED[name](network)
    plain = unwrapped(wrapped)
    assert torch.equal(plain(FRAMES), expected)
    assert not any(type(module).__name__ == "OptimizedModule" for module in getattr(plain, "modules", list)())


@pytest.mark.parametrize("name", ["compiled", "compiled in place", "a compiled part"])
def test_what_is_beneath_learns_with_the_training(name):
    network = Nature()
    plain = unwrapped(WRAPPED[name](network))
    with torch.no_grad():
        network.body[-1].bias += 1
    assert torch.equal(plain(FRAMES), network.body(FRAMES.float() / 255))


@pytest.mark.parametrize("name", ["compiled", "a compiled part", "a method of its own"])
def test_a_training_is_watched_with_its_untrained_baseline(tmp_path, probe, name):
    watch = Watch(WRAPPED[name](Nature()), probe, logdir=tmp_path)
    assert watch(0) is not None
    watch.close()
    assert "rlwatch/untrained/greedy/ball" in tags(tmp_path)


class AroundCompiled(nn.Module):
    """A network with layers and settings of its own around a compiled part."""

    def __init__(self):
        super().__init__()
        self.body = compiled(nn.Sequential(nn.Conv2d(4, 2, 8, 8), nn.ReLU(), nn.Flatten()))
        self.head, self.gain = nn.Linear(200, 4), 1.0

    def forward(self, x):
        return self.head(self.body(x.float() / 255)) * self.gain


def test_what_changes_around_a_compiled_part_is_seen(tmp_path, probe):
    network = AroundCompiled()
    watch = Watch(network, probe, logdir=tmp_path, every=1)
    watch(0)
    network.head, network.gain = nn.Linear(200, 4), 3.0
    report = watch(1)
    watch.close()
    with torch.no_grad():
        expected = unwrapped(network)(torch.from_numpy(probe.observations())).amax(1).mean()
    assert report.q.greedy == pytest.approx(float(expected))


RANK = """
import sys, torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from rlwatch import Watch
from tests.fixtures.watched import Nature
torch.set_num_threads(1)
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
watch = Watch(DistributedDataParallel(Nature()), "breakout", logdir=sys.argv[3], every=1)
print("reports", sum(watch(step) is not None for step in range(2)), watch.finish(2) is not None)
watch.close()
distributed.destroy_process_group()
"""


def test_of_a_distributed_training_only_rank_0_logs(tmp_path):
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=120)[0].strip() for rank in ranks]
    assert said == ["reports 2 True", "reports 0 False"]
    assert len(list((tmp_path / "log").iterdir())) == 1


def test_an_optimiser_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"attach the one that trains the network, or call watch\(step\) in the loop"):
        check_updates(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), Nature())


def asked(watch):
    """The steps that checkpoints are asked for at, none of which is made."""
    steps = []
    watch._submit = lambda step, **_: steps.append(step) or watch._schedule.pay(step, 0.0)
    return steps


class PassingOn(torch.optim.Optimizer):
    """An optimiser that is none by birth, as accelerate's is."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def step(self):
        self.optimizer.step()


def test_an_optimiser_that_passes_steps_on_drives_it(tmp_path, probe):
    network = Nature()
    wrapped = PassingOn(torch.optim.SGD(network.parameters(), lr=0.0))
    watch = Watch(network, probe, logdir=tmp_path, every=4)
    watch.attach(wrapped)
    steps = asked(watch)
    for _ in range(5):
        wrapped.step()
    watch.close()
    assert steps == [1, 5]


class Twice(torch.optim.SGD):
    """An optimiser whose step makes two of its base."""

    def step(self, closure=None):
        super().step(closure)
        return super().step(closure)


class Bare(torch.optim.Optimizer):
    def __init__(self, base):
        self.base, self.param_groups = base, base.param_groups

    def step(self, closure=None):
        return self.base.step(closure)


def test_steps_of_which_another_one_is_made_are_no_updates_by_themselves(tmp_path, probe, monkeypatch):
    network, seen = Nature(), []
    monkeypatch.setattr(Watch, "_look", lambda _, step, _began: seen.append(step))
    with Watch(network, probe, logdir=tmp_path) as watch:
        torch.optim.SGD(network.parameters(), lr=0.1)  # from the first one on torch tells of each step of its class
        optimizer = Twice(network.parameters(), lr=0.1)
        watch.attach(optimizer)
        for _ in range(3):
            optimizer.step()
        with pytest.raises(TypeError, match="a Bare that has not: attach the one that it passes its steps on to"):
            watch.attach(Bare(optimizer))
    assert seen == [1, 2, 3]


def test_two_optimisers_of_one_network_count_steps_and_not_updates(tmp_path, probe):
    network = Nature()
    first, second = (torch.optim.SGD(part.parameters(), lr=0.0) for part in (network.body[:6], network.body[6:]))
    watch = Watch(network, probe, logdir=tmp_path, every=4)
    watch.attach(first)
    watch.attach(second)
    steps = asked(watch)
    for _ in range(9):
        first.step()
        second.step()
    watch.close()
    assert steps == [1, 5, 9]


class Quantiles(nn.Module):
    """A head that returns quantiles."""

    def __init__(self):
        super().__init__()
        self.body = Nature(actions=20)

    def forward(self, x):
        return self.body(x).view(len(x), 4, 5)


def test_a_read_network_stays_the_trained_one_and_its_copies_are_their_own():
    network = Quantiles()
    read = Read(network, lambda quantiles, observations: quantiles(observations).mean(2))
    assert torch.equal(read(FRAMES), network(FRAMES).mean(2))
    twin = copy.deepcopy(read)
    with torch.no_grad():
        twin.network.body.body[-1].bias += 1
    assert not torch.equal(twin(FRAMES), read(FRAMES))
