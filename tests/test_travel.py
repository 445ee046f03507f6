"""What is sent to another process arrives as it was."""

import pickle
import threading
from types import MethodType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from rlwatch.monitor import travel
from rlwatch.monitor.travel import Hold, form, pack, read_file, shared_file, unpack


def sent(value):
    """The value as another process gets it."""
    structure, tensors = pack(value)
    hold = Hold(shared_file(sum(form(one).size for one in tensors)), [form(one) for one in tensors])
    hold.load(tensors)
    arrived = hold.empty()
    hold.fetch(arrived)
    return unpack(structure, arrived)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_a_tensor_arrives_bit_for_bit(dtype, shape):
    tensor = (100 * torch.rand(shape)).to(dtype)
    assert torch.equal(sent([tensor])[0], tensor)


def test_a_module_arrives_with_its_kinds_of_tensors_and_what_it_shares():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)).eval()
    network[2].weight = network[0].weight
    network[0].bias.requires_grad_(requires_grad=False)
    arrived = sent(network)
    assert arrived[2].weight is arrived[0].weight
    assert [one.requires_grad for one in arrived.parameters()] == [one.requires_grad for one in network.parameters()]
    assert not arrived.training
    torch.testing.assert_close(arrived(torch.eye(3)), network(torch.eye(3)), rtol=0, atol=0)


def test_a_parametrised_module_arrives_and_computes_the_same():
    network = nn.Sequential(weight_norm(nn.Linear(3, 4)), spectral_norm(nn.Linear(4, 2)))
    network(torch.eye(3))  # spectral norm learns from each pass of a training
    network.eval()
    arrived = sent(network)
    assert torch.equal(arrived(torch.eye(3)), network(torch.eye(3)))
    assert [*arrived.state_dict()] == [*network.state_dict()]
    assert pack(network)[0] == pack(network)[0]


class Halving:
    """What accelerate puts around a forward: it says of itself that it is not to be pickled."""

    def __init__(self, forward):
        self.forward = forward

    def __call__(self, *args):
        return self.forward(*args) / 2

    def __getstate__(self):
        raise pickle.PicklingError("unwrap the model before pickling it")


def test_a_module_whose_forward_refuses_to_be_pickled_arrives_and_computes_the_same():
    network = nn.Linear(3, 2)
    halving = Halving(type(network).forward)
    network.forward = MethodType(halving, network)
    assert torch.equal(sent(network)(torch.eye(3)), network(torch.eye(3)))
    assert pack(network)[0] == pack(network)[0]


def test_tensors_within_a_function_are_found():
    network = nn.Linear(2, 2)
    structure, tensors = pack(lambda observations: network(observations).relu())
    assert {id(one) for one in tensors} == {id(network.weight), id(network.bias)}
    assert len(structure) < 10_000


def test_tensors_are_loaded_outside_of_the_inference_mode_in_which_the_hold_was_made():
    tensor = torch.arange(3.0)
    with torch.inference_mode():
        hold = Hold(shared_file(64), [form(tensor)])
    hold.load([tensor])
    arrived = hold.empty()
    hold.fetch(arrived)
    assert torch.equal(arrived[0], tensor)


def test_a_transposed_tensor_arrives_in_its_order():
    tensor = torch.arange(6).view(2, 3).t()
    assert torch.equal(sent(tensor), tensor)


def test_what_cannot_be_pickled_is_refused_with_a_remedy():
    network, lock = nn.Linear(2, 2), threading.Lock()
    with pytest.raises(TypeError, match=r"cannot be sent.*pass the module itself.*where='inline'"):
        pack(lambda observations: (network(observations), lock))


def test_a_function_that_holds_a_replay_memory_is_refused_with_a_remedy():
    network, memory = nn.Linear(2, 2), np.zeros(1 << 29, np.uint8)
    with pytest.raises(ValueError, match=r"512 MB besides its weights: pass the module itself"):
        pack(lambda observations: (network(observations), memory))


class Witness:
    """Notes that it is pickled."""

    def __init__(self):
        self.reached = False

    def __reduce__(self):
        self.reached = True
        return Witness, ()


def test_what_is_too_large_is_not_copied_to_its_end(monkeypatch):
    monkeypatch.setattr(travel, "LARGEST", 1 << 20)
    witness = Witness()
    with pytest.raises(ValueError, match=r"at least 1 MB besides its weights"):
        pack([*(np.zeros(1 << 18, np.uint8) for _ in range(8)), witness])
    assert not witness.reached


def test_weights_that_are_no_plain_numbers_are_refused():
    with pytest.raises(TypeError, match="expected dense weights"):
        form(torch.eye(3).to_sparse())


def test_a_file_in_memory_holds_what_it_was_given():
    assert read_file(shared_file(3, b"abc")) == b"abc"
