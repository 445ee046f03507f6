"""The engine on networks as people write them: what it may not get wrong, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rlwatch.attribution import COMPOSITES, Composite, Epsilon, Gamma, ZBox, Zero, ZPlus, explain
from tests.fixtures.networks import (
    ACTIONS,
    RELU_NETWORKS,
    SIDE,
    STACK,
    Dueling,
    Folded,
    Functional,
    Nature,
    Noisy,
    Residual,
    Trained,
    build,
    observations,
)

TINY = Composite(Epsilon(1e-14), Epsilon(1e-14))
EVERY = ["gradient_x_input", "sensitivity", *COMPOSITES]


def seen_by(kind, probes=3):
    return observations(probes, channels_last=kind == "same padding")


def q_of(network, pixels):
    outputs = network(pixels)
    return outputs[0] if isinstance(outputs, tuple) else outputs


def part(network, start, stop):
    return nn.Sequential(*list(network)[start:stop])


def plain_gradient_x_input(network, pixels):
    pixels = pixels.clone().requires_grad_()
    q_values = q_of(network, pixels)
    (gradient,) = torch.autograd.grad(q_values.max(1).values.sum(), pixels)
    return (pixels * gradient).detach()


def close(found, expected, bound=1e-9):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= bound * expected.abs().max()


@pytest.mark.parametrize("kind", RELU_NETWORKS)
def test_lrp_0_is_gradient_x_input_without_biases(kind):
    network, pixels = build(RELU_NETWORKS[kind], bias=False).eval(), seen_by(kind)
    expected = plain_gradient_x_input(network, pixels)
    expected = expected.permute(0, 3, 1, 2) if kind == "same padding" else expected
    close(explain(network, pixels, TINY).relevance, expected)
    close(explain(network, pixels, Composite(Zero(), Zero())).relevance, expected)
    close(explain(network, pixels, "gradient_x_input").relevance, expected)


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("kind", RELU_NETWORKS)
def test_q_values_are_the_networks_own_and_the_books_balance(kind, method):
    network, pixels = build(RELU_NETWORKS[kind]).eval(), seen_by(kind)
    explanation = explain(network, pixels, method)
    close(explanation.q_values, q_of(network, pixels).detach(), 1e-12)
    close(explanation.score, explanation.q_values.max(1).values)
    assert explanation.relevance.shape == (3, STACK, SIDE, SIDE)
    if method != "sensitivity":
        close(explanation.relevance.sum((1, 2, 3)) + explanation.absorbed, explanation.score)


@pytest.mark.parametrize("kind", RELU_NETWORKS)
def test_without_biases_nothing_is_absorbed(kind):
    explanation = explain(
        build(RELU_NETWORKS[kind], bias=False).eval(), seen_by(kind), Composite(Epsilon(1e-12), Epsilon())
    )
    assert (explanation.absorbed.abs() <= 1e-3 * explanation.score.abs()).all()


@pytest.mark.parametrize("method", EVERY)
def test_the_same_function_written_another_way_has_the_same_map(method):
    modules, in_place, functional_form = build(Nature), build(Nature, inplace=True), build(Functional)
    expected = explain(modules, observations(), method).relevance
    close(explain(in_place, observations(), method).relevance, expected)
    close(explain(functional_form, observations(), method).relevance, expected)


@pytest.mark.parametrize("method", EVERY)
def test_bytes_and_a_division_inside_give_the_map_of_floats(method):
    network = build(Nature)
    frames = (observations() * 255).to(torch.uint8)
    expected = explain(network, frames.double() / 255, method)
    inside = explain(lambda frames: network(frames.double() / 255.0), frames, method)
    close(inside.relevance, expected.relevance)
    high = explain(lambda frames: network(frames.to(torch.float64).div(255)), frames.double(), method)
    close(high.relevance, expected.relevance)


@pytest.mark.parametrize("method", EVERY)
def test_channels_last_observations_give_the_map_with_stack_first(method):
    network = build(Nature)
    frames = observations(channels_last=True)
    expected = explain(network, frames.permute(0, 3, 1, 2), method).relevance
    close(explain(lambda frames: network(frames.permute(0, 3, 1, 2)), frames, method).relevance, expected)


@pytest.mark.parametrize("method", EVERY)
def test_batch_normalisation_is_part_of_the_layer_before_it(method):
    network = build(Trained).train()
    folded = Folded(copy.deepcopy(network).eval())
    close(explain(network, observations(), method).relevance, explain(folded, observations(), method).relevance)


@pytest.mark.parametrize("method", EVERY)
def test_explaining_leaves_a_training_network_bit_identical(method):
    network = build(Trained).train()
    before = copy.deepcopy(network.state_dict())
    versions = [tensor._version for tensor in [*network.parameters(), *network.buffers()]]
    state = torch.get_rng_state()
    pixels = observations()
    original = pixels.clone()
    explain(network, pixels, method)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert versions == [tensor._version for tensor in [*network.parameters(), *network.buffers()]]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(pixels, original)


def test_a_network_in_train_mode_is_explained_as_it_acts_in_evaluation():
    network = build(Trained).train()
    in_train_mode = explain(network, observations())
    close(in_train_mode.q_values, network.eval()(observations()).detach(), 1e-12)


def test_noise_that_is_drawn_in_the_pass_moves_neither_the_buffer_nor_the_global_generator():
    network = build(Noisy).train()
    noise, state = network.noise.clone(), torch.get_rng_state()
    first, second = explain(network, observations()), explain(network, observations())
    assert torch.equal(network.noise, noise)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.relevance, second.relevance)


def test_noise_that_stands_is_used_as_it_stands():
    network = build(Noisy).eval()
    explanation = explain(network, observations())
    network.noise.zero_()
    assert not torch.equal(explanation.q_values, explain(network, observations()).q_values)


def test_a_network_that_writes_into_its_observations_does_not_reach_the_callers():
    network, pixels = build(Nature), observations()

    def scaling(frames):
        frames /= 2
        return network(frames)

    close(explain(scaling, pixels).relevance, explain(lambda frames: network(frames / 2), pixels).relevance)
    assert torch.equal(pixels, observations())


def test_writing_into_a_view_of_the_networks_own_state_is_refused():
    network = build(Noisy)
    inner = network.forward
    network.forward = lambda frames: (network.noise[0].add_(1), inner(frames))[1]
    noise = network.noise.clone()
    with pytest.raises(RuntimeError, match="let the network write into a clone"):
        explain(network, observations())
    assert torch.equal(network.noise, noise)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_makes_no_difference(context):
    network = build(Dueling)
    expected = explain(network, observations()).relevance
    with context():
        pixels = observations()
        assert torch.equal(explain(network, pixels).relevance, expected)
        assert torch.equal(explain(context()(network.forward), pixels).relevance, expected)


def test_autocast_makes_no_difference():
    network, pixels = build(Nature).float(), observations().float()
    expected = explain(network, pixels).relevance

    def cast(frames):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(frames)

    assert torch.equal(explain(cast, pixels).relevance, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(explain(network, pixels).relevance, expected)


def test_a_pixel_that_the_network_does_not_read_gets_no_relevance():
    network = nn.Sequential(
        nn.Conv2d(STACK, 1, 1, bias=False), nn.Flatten(), nn.Linear(SIDE * SIDE, ACTIONS, bias=False)
    )
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([0.0, 0, 2, 0]).view(1, 4, 1, 1))
        network[2].weight.zero_()
        network[2].weight[1, 7 * SIDE + 3] = 5
    for method in EVERY:
        explanation = explain(network.double(), observations(), method)
        heat = explanation.relevance.abs().sum(0)
        assert heat[2, 7, 3] > 0, method
        flat = "flat" in method
        assert (heat.sum(0) > 0).sum() == 1, method
        assert (heat > 0).sum() == (STACK if flat else 1), method


def test_gradient_hooks_and_detached_branches_of_training_do_not_bend_the_map():
    network = build(Nature, bias=False)

    def with_training_tricks(frames):
        hidden = part(network, 0, 5)(frames)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: 0 * gradient)
        return part(network, 5, 8)(0.5 * hidden + 0.5 * hidden.detach())

    close(explain(with_training_tricks, observations()).relevance, explain(network, observations()).relevance)


class Smooth(nn.Module):
    """Activations that no ReLU network has, gates of constants, a layer normalisation."""

    def __init__(self, activation):
        super().__init__()
        self.layers, self.activation = (
            nn.ModuleList([nn.Conv2d(STACK, 3, 4, 4), nn.Linear(75, 8), nn.Linear(8, 3)]),
            activation,
        )
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = self.activation(self.layers[0](x)).flatten(1)
        return self.layers[2](self.activation(self.norm(self.layers[1](x))))


@pytest.mark.parametrize(
    "activation",
    [
        nn.Tanh(),
        nn.ELU(),
        nn.ELU(inplace=True),
        nn.GELU(),
        nn.SiLU(),
        nn.LeakyReLU(0.1, inplace=True),
        nn.ReLU6(),
        nn.Softplus(),
    ],
    ids=str,
)
def test_activations_hand_relevance_on_and_layer_normalisation_keeps_its_deviation(activation):
    network = build(lambda: Smooth(activation))
    pixels = observations().requires_grad_()
    hidden = network.layers[0](pixels)
    factor = (activation(hidden.clone()) / hidden).detach()
    inner = network.layers[1]((hidden * factor).flatten(1))
    deviation = (inner.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt().detach()
    normal = (inner - inner.mean(1, keepdim=True)) / deviation * network.norm.weight + network.norm.bias
    q_values = network.layers[2](normal * (activation(normal.clone()) / normal).detach())
    (gradient,) = torch.autograd.grad(q_values.max(1).values.sum(), pixels)
    explanation = explain(network, observations(), Composite(Zero(), Zero()))
    close(explanation.relevance, (pixels * gradient).detach())
    close(explanation.q_values, network(observations()).detach())


REFUSED = {
    "log_softmax": lambda x, network: functional.log_softmax(network(x), 1),
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


def raised_in_place(x, network):
    q_values = network(x) * 1
    q_values[:, 1:] += 0.5
    return q_values


def kept_in_a_buffer(x, network):
    features = part(network, 0, 5)(x)
    network.last.copy_(features)
    return part(network, 5, 8)(network.last * 1)


def rewritten(x, network):
    features = part(network, 0, 5)(x) * 1
    features[features < 0.1] = 0
    return part(network, 5, 8)(features)


def weighed(x, network):
    atoms = torch.linspace(-1, 1, 4, dtype=x.dtype)
    return torch.stack([part(network, 0, 7)(x).unflatten(1, (4, 4)) @ atoms for _ in range(1)], 0)[0]


def divided_by_each_member(x, network):
    return network(x / 2) + part(network, 0, 8)(x / 2)


def checkpointed(x, network):
    features = checkpoint(lambda pixels: (part(network, 0, 3)(pixels) * 1).relu(), x, use_reentrant=False)
    return part(network, 4, 8)(features)


def filled(x, network):
    q_values = torch.zeros(len(x), ACTIONS, dtype=x.dtype)
    q_values[:, 0] = network(x)[:, 2]
    q_values[:, 1:] = network(x)[:, :2]
    return q_values


WRITTEN = {
    "a slice that is written in place": raised_in_place,
    "a buffer that the features are copied to": kept_in_a_buffer,
    "a table that is filled column by column": filled,
    "features written by their index": rewritten,
    "a sum that is weighed by a vector": weighed,
    "members that divide the frames each for itself": divided_by_each_member,
    "blocks that torch.utils.checkpoint computes again": checkpointed,
}


@pytest.mark.parametrize("method", ["gradient_x_input", Composite(Zero(), Zero())])
@pytest.mark.parametrize("written", WRITTEN)
def test_what_is_written_differently_is_explained_alike(written, method):
    asked, network = WRITTEN[written], build(Nature, bias=False)
    network.register_buffer("last", torch.zeros(3, 32, dtype=torch.float64))
    found = explain(lambda x: asked(x, network), observations(), method).relevance
    assert not network.last.any()
    half = 0.5 if asked is divided_by_each_member else 1  # of them the pixels are what the first layers read
    close(found, plain_gradient_x_input(lambda x: asked(x / half, network), observations() * half))


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


@pytest.mark.parametrize("operation", ["log_softmax", "exp", "pow", "a product of two signals"])
def test_the_gradient_needs_no_rule(operation):
    network = build(Nature, bias=False)
    expected = plain_gradient_x_input(lambda frames: REFUSED[operation](frames, network), observations())
    found = explain(lambda frames: REFUSED[operation](frames, network), observations(), "gradient_x_input")
    close(found.relevance, expected)


def test_a_layer_that_reads_the_observations_through_the_same_pixels_twice_adds_up():
    network = build(Nature, bias=False)
    for method in ("epsilon_gamma_box", "epsilon_plus_flat", "epsilon"):
        once = explain(network, observations(), method).relevance
        close(
            explain(lambda frames: network(frames) + network(frames), observations(), method).relevance, 2 * once, 1e-5
        )


@pytest.mark.parametrize("first", ["rectified", "direct"])
@pytest.mark.parametrize("method", [*COMPOSITES, Composite(Gamma(), Epsilon())])
def test_outputs_that_are_read_before_and_behind_a_rectifier_propagate_both(method, first):
    network, second = build(Nature), build(lambda: nn.Conv2d(6, 8, 3))

    def branching(frames, copied):
        hidden = network[0](frames)
        rectified = functional.relu(hidden.clone() if copied else hidden) if first == "rectified" else None
        direct = second(hidden.clone() if copied else hidden)
        rectified = functional.relu(hidden.clone() if copied else hidden) if rectified is None else rectified
        return part(network, 4, 8)(network[3](network[2](rectified)) + direct)

    expected = explain(lambda frames: branching(frames, copied=True), observations(), method).relevance
    close(explain(lambda frames: branching(frames, copied=False), observations(), method).relevance, expected)


@pytest.mark.parametrize("method", EVERY)
def test_sums_in_place_have_the_map_of_sums(method):
    in_place, copying = build(Residual), build(Residual, inplace=False)
    close(explain(in_place, observations(), method).relevance, explain(copying, observations(), method).relevance)


def test_writing_into_what_a_layer_has_read_is_refused():
    network, second = build(Nature), build(lambda: nn.Conv2d(6, 8, 3))

    def overwriting(frames):
        hidden = network[0](frames)
        direct = second(hidden)
        return part(network, 4, 8)(network[3](network[2](hidden.relu_())) + direct)

    with pytest.raises(RuntimeError, match="let it write into a clone"):
        explain(overwriting, observations())


def test_a_skip_from_the_pixels_carries_its_part():
    network = nn.Conv2d(STACK, STACK, 3, padding=1, bias=False).double()
    head = nn.Linear(STACK * SIDE * SIDE, ACTIONS, bias=False).double()

    def skipping(frames):
        return head((frames + network(frames)).flatten(1))

    close(explain(skipping, observations(), TINY).relevance, plain_gradient_x_input(skipping, observations()))
    boxed = explain(skipping, observations(), Composite(Gamma(), Epsilon(), first=ZBox()))
    close(boxed.relevance.sum((1, 2, 3)), boxed.score, 1e-4)


@pytest.mark.parametrize("method", ["epsilon", "epsilon_gamma_box", "epsilon_plus_flat", "gradient_x_input"])
def test_a_sum_of_the_pixels_carries_its_part(method):
    network = build(Nature)

    def with_sum(frames):
        return network(frames) + frames.sum((1, 2, 3))[:, None]

    alone = explain(network, observations(), method).relevance
    close(explain(with_sum, observations(), method).relevance, alone + observations(), 1e-5)


def test_an_activation_of_nothing_passes_nothing_on():
    network = nn.Sequential(nn.Conv2d(STACK, 3, 4, 4), nn.GELU(), nn.Flatten(), nn.Linear(75, 3)).double()
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.zero_()
    assert (explain(network, observations()).relevance == 0).all()


def test_two_passes_at_once_in_threads_do_not_meet():
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    network = build(Trained)
    expected = explain(network, observations()).relevance
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: explain(network, observations()).relevance, range(4)))
    assert all(torch.equal(each, expected) for each in found)


def test_positive_composites_keep_positive_weights_positive():
    network = build(Nature)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    assert (explain(network, observations(), Composite(ZPlus(), ZPlus())).relevance >= 0).all()
