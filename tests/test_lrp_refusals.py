"""What the engine refuses, with the reason and the way out."""

from threading import Thread

import pytest
import torch
from torch import nn
from torch.nn import functional

from rlwatch.attribution import explain
from rlwatch.unwrap import pixels
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
    "matmul with weights as its first factor": lambda x, network: (network[7].weight @ part(network, 0, 7)(x).T).T,
    "Tensor.item": lambda x, network: network(x) + network(x).mean().item(),
    "an operation that reads the observations by another way": lambda x, network: (
        network(x * 1) + x.mean((1, 2, 3))[:, None]
    ),
    "a second layer that reads the observations by another way": lambda x, network: network(x * 1) + network(x * 0.5),
    "div that rounds": lambda x, network: network(x).div(0.01, rounding_mode="floor"),
    "a product of two signals ": lambda x, network: functional.prelu(network(x), network(x)[0].sigmoid()),
    "new_tensor": lambda x, network: network(x) + x.new_tensor(network(x)),
    "batch_norm with weights": lambda x, network: functional.batch_norm(
        network(x), None, None, network(x)[0], training=True
    ),
    "convolution, which is the first layer": lambda x, network: part(network, 2, 8)(
        torch.convolution(x, network[0].weight, None, [4, 4], [0, 0], [1, 1], False, [0, 0], 1)
    ),
}


@pytest.mark.parametrize("operation", REFUSED)
def test_an_operation_without_a_rule_is_named_and_refused(operation):
    network = build(Nature)
    with pytest.raises(NotImplementedError, match=f"{operation.strip()}.*(gradient_x_input|observe=pixels)"):
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


@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input", "occlusion"])
def test_what_goes_by_the_order_in_memory_is_refused_as_that_may_be_another_one(method):
    network = build(Nature)

    def ask(x):
        features = part(network, 0, 4)(x)
        return part(network, 5, 8)(features.as_strided((len(x), features[0].numel()), (features[0].numel(), 1)))

    with pytest.raises(NotImplementedError, match=r"Tensor\.as_strided, which goes by memory.*: let .* use unfold"):
        explain(ask, observations(), method)


WHOLE = {
    "added": lambda frames, network: network(frames / 255.0) + frames.sum((1, 2, 3))[:, None],
    "chosen": lambda frames, network: (q_values := network(frames / 255.0)).where(q_values > 0, frames[:, 0, 0, :3]),
    "multiplied": lambda frames, network: network(frames / 255.0) * frames[:, 0, 0, :3],
}


OTHERWISE = {
    "patches": lambda x: [functional.unfold(x[:, :, :20, :20], 5, stride=5).transpose(1, 2)] * 2,
    "a picture and a difference": lambda x: [
        functional.unfold(x[:, -1:], 10, stride=10).transpose(1, 2),
        functional.unfold(x[:, -1:] - x[:, :1], 10, stride=10).transpose(1, 2),
    ],
    "the newest picture alone": lambda x: [functional.unfold(x[:, -1:], 10, stride=10).transpose(1, 2)] * 2,
}


@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input", "occlusion"])
@pytest.mark.parametrize("way", WHOLE)
def test_whole_numbers_of_the_observations_are_no_constants(way, method):
    network, frames = build(Nature).float(), (observations() * 255).to(torch.uint8)
    with pytest.raises(NotImplementedError, match="reads the observations by another way"):
        explain(lambda x: WHOLE[way](x, network), frames, method)


@pytest.mark.parametrize("method", ["epsilon", "epsilon_plus_flat", "gradient_x_input"])
@pytest.mark.parametrize("way", OTHERWISE)
def test_a_network_that_cuts_up_or_reads_twice_what_it_is_given_has_maps_of_it_behind_pixels(way, method):
    frames, draw = observations(), torch.Generator().manual_seed(0)
    weights = [torch.randn(3, size, generator=draw, dtype=torch.float64) for size in (100, 100)]

    def network(x):
        return sum(functional.linear(x, one).relu().mean(1) for x, one in zip(OTHERWISE[way](x), weights, strict=True))

    with pytest.raises((NotImplementedError, ValueError), match=r"pixels of rlwatch\.unwrap"):
        explain(network, frames, method)
    found = explain(lambda x: network(pixels(x)), frames, method)
    assert found.relevance.shape == frames.shape
    if method != "epsilon_plus_flat":
        close(found.relevance, plain_gradient_x_input(network, frames), 1e-4)
    if way == "the newest picture alone":
        assert found.relevance[:, :-1].eq(0).all()


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


class Summed(torch.autograd.Function):
    """A branch of its own beside the layers."""

    @staticmethod
    def forward(ctx, frames):
        ctx.shape = frames.shape
        return frames.flatten(1).sum(1, keepdim=True)

    @staticmethod
    def backward(ctx, gradient):
        return gradient[:, :, None, None].expand(ctx.shape)


BRANCHES = {
    "of fractions": (observations(), lambda x: x),
    "of divided fractions": (observations(), lambda x: x / 2),
    "of bytes": ((observations() * 255).to(torch.uint8), lambda x: x.double() / 255),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # scripting is old, and in use
@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input", "occlusion"])
@pytest.mark.parametrize("kind", BRANCHES)
def test_a_branch_that_reads_the_observations_unseen_is_refused(method, kind):
    network, (frames, scaled) = build(Nature), BRANCHES[kind]
    traced = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(1600, 3)).double(), observations())

    def ask(x, branch):
        pixels = scaled(x)
        return network(pixels) + branch(pixels)

    for branch in (Summed.apply, traced):
        with pytest.raises(NotImplementedError, match=r"autograd\.Function or scripted code"):
            explain(lambda x, branch=branch: ask(x, branch), frames, method)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own layers are to go
@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input"])
def test_layers_of_whole_numbers_are_refused_wherever_they_stand(method):
    quantised = torch.ao.quantization.quantize_dynamic
    rows, head = nn.Sequential(nn.Linear(20, 20)), nn.Sequential(nn.Linear(16, 3))
    network = build(Nature).float()
    for asked in (
        lambda x: network(quantised(rows, {nn.Linear})(x)),
        lambda x: quantised(head, {nn.Linear})(part(network, 0, 7)(x)),
    ):
        with pytest.raises(NotImplementedError, match="quantized::linear_dynamic"):
            explain(asked, observations().float(), method)


def test_q_values_that_a_mask_has_taken_away_are_refused_with_what_to_do():
    network, mask = build(Nature), torch.tensor([False, True, False])
    with pytest.raises(
        ValueError, match=r"of 3 of 3 observations are not finite: .*Read.* returns them without a mask"
    ):
        explain(lambda x: network(x).masked_fill(mask, -torch.inf), observations())
    with pytest.raises(ValueError, match="the weights have diverged"):
        explain(lambda x: network(x) * torch.nan, observations())


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


@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input"])
def test_weights_that_are_written_anew_before_relevance_has_passed_are_refused(method):
    network, weights = build(Nature), torch.zeros(16, 16, dtype=torch.float64)

    def ask(x):
        hidden = part(network, 0, 7)(x)
        for size in (1.0, 2.0):
            weights.copy_(torch.eye(16) * size)
            hidden = functional.linear(hidden, weights).relu()
        return network[7](hidden)

    with pytest.raises(RuntimeError, match="let it write into a clone"):
        explain(ask, observations(), method)


def test_writing_into_what_a_layer_has_read_is_refused():
    network, second = build(Nature), build(lambda: nn.Conv2d(6, 8, 3))

    def overwriting(frames):
        hidden = network[0](frames)
        direct = second(hidden)
        return part(network, 4, 8)(network[3](network[2](hidden.relu_())) + direct)

    with pytest.raises(RuntimeError, match="let it write into a clone"):
        explain(overwriting, observations())


def test_weights_that_another_thread_updates_meanwhile_are_told_as_such():
    network = build(Nature)

    def update():
        with torch.no_grad():
            network[7].weight.add_(1)

    def asked(frames):
        q_values = network(frames)
        training = Thread(target=update)
        training.start()
        training.join()
        return q_values

    with pytest.raises(RuntimeError, match="if another thread trains it, call the monitor in that thread"):
        explain(asked, observations())
