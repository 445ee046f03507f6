"""Fresh weights, and nothing else moved."""

import pytest
import torch
from torch import nn

from rlwatch.attribution.randomise import untrained


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


def test_a_network_that_cannot_be_copied_is_refused():
    network = nn.Linear(2, 2)
    network.generator = (value for value in ())
    with pytest.raises(TypeError, match="must be copyable"):
        untrained(network, seed=0)
