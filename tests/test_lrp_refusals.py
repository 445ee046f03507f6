"""What the engine refuses, with the reason and the way out."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from rlwatch.attribution import explain
from tests.fixtures.networks import (
    Nature,
    Noisy,
    build,
    close,
    observations,
    part,
    plain_gradient_x_input,
)

REFUSED = {
    "exp": lambda x, network: network(x).exp(),
    "a product of two signals": lambda x, network: network(x) * network(x).sigmoid(),
    "__rdiv__": lambda x, network: 1 / network(x),
    "pow": lambda x, network: network(x) ** 2,
    "bmm": lambda x, network: torch.bmm(network(x)[:, None], network(x)[:, :, None]).flatten(1),
    "conv3d": lambda x, network: network(functional.conv3d(x[:, None], torch.ones(1, 1, 1, 1, 1).to(x))[:, 0]),
    "matmul with weights": lambda x, network: (hidden := part(network, 0, 5)(x)) @ hidden.T,
    "Tensor.item": lambda x, network: network(x) + network(x).mean().item(),
    "an operation that reads the observations by another way": lambda x, network: (
        network(x * 1) + x.mean((1, 2, 3))[:, None]
    ),
    "a second layer that reads the observations by another way": lambda x, network: network(x * 1) + network(x * 0.5),
}


@pytest.mark.parametrize("operation", REFUSED)
def test_an_operation_without_a_rule_is_named_and_refused(operation):
    network = build(Nature)
    with pytest.raises(NotImplementedError, match=f"{operation}.*gradient_x_input"):
        explain(lambda frames: REFUSED[operation](frames, network), observations())


DIFFERENTIATED = REFUSED | {"log_softmax": lambda x, network: functional.log_softmax(network(x), 1)}


@pytest.mark.parametrize("operation", ["log_softmax", "exp", "pow", "a product of two signals"])
def test_the_gradient_needs_no_rule(operation):
    network = build(Nature, bias=False)
    expected = plain_gradient_x_input(lambda frames: DIFFERENTIATED[operation](frames, network), observations())
    found = explain(lambda frames: DIFFERENTIATED[operation](frames, network), observations(), "gradient_x_input")
    close(found.relevance, expected)


class Halved(torch.autograd.Function):
    """A gradient of its own, as networks use it to scale their training."""

    @staticmethod
    def forward(ctx, values):  # noqa: ARG004
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):  # noqa: ARG004
        return gradient / 2


@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input"])
def test_a_derivative_of_the_networks_own_is_refused(method):
    network = build(Nature)
    with pytest.raises(NotImplementedError, match=r"autograd\.Function or scripted code"):
        explain(lambda frames: Halved.apply(network(frames)), observations(), method)
    with pytest.raises(NotImplementedError, match=r"autograd\.Function or scripted code"):
        explain(lambda frames: Halved.apply(part(network, 0, 5)(frames)).relu()[:, :3], observations(), method)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # scripting is old, and in use
def test_a_scripted_branch_is_refused():
    network = build(Nature)
    branch = torch.jit.trace(nn.ReLU(), torch.rand(3, 3, dtype=torch.float64))
    with pytest.raises(NotImplementedError, match=r"autograd\.Function or scripted code"):
        explain(lambda frames: branch(network(frames)) + network(frames), observations())


def test_a_plain_recurrent_network_is_refused_by_name():
    network, memory = build(Nature), nn.RNN(3, 3, batch_first=True).double()
    with pytest.raises(NotImplementedError, match="rnn_tanh"):
        explain(lambda frames: memory(network(frames).unsqueeze(1))[0][:, 0], observations())


def test_writing_into_a_view_of_the_networks_own_state_is_refused():
    network = build(Noisy)
    inner = network.forward
    network.forward = lambda frames: (network.noise[0].add_(1), inner(frames))[1]
    noise = network.noise.clone()
    with pytest.raises(RuntimeError, match="let the network write into a clone"):
        explain(network, observations())
    assert torch.equal(network.noise, noise)


def test_a_row_of_a_buffer_that_the_features_are_written_to_is_refused_and_stays():
    network = build(Nature)
    network.register_buffer("rows", torch.zeros(2, 3, 32, dtype=torch.float64))

    def ask(x):
        row = network.rows[0]
        row[:] = part(network, 0, 5)(x)
        return part(network, 5, 8)(row * 1)

    with pytest.raises(RuntimeError, match=r"view of its own state.*clone"):
        explain(ask, observations(), "gradient_x_input")
    assert not network.rows.any()


def test_writing_into_what_a_layer_has_read_is_refused():
    network, second = build(Nature), build(lambda: nn.Conv2d(6, 8, 3))

    def overwriting(frames):
        hidden = network[0](frames)
        direct = second(hidden)
        return part(network, 4, 8)(network[3](network[2](hidden.relu_())) + direct)

    with pytest.raises(RuntimeError, match="let it write into a clone"):
        explain(overwriting, observations())
