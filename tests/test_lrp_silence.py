"""What explaining leaves as it was: the network, the generators, the modes, the memory."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from torch import library, nn
from torch.nn import functional

from rlwatch.attribution import explain
from tests.fixtures.networks import (
    EVERY,
    Dueling,
    Nature,
    Noisy,
    Trained,
    build,
    close,
    observations,
    part,
)


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


class Product(nn.Module):
    def forward(self, x):
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)


KINDS = {
    "attention": lambda: nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True),
    "an encoder": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5, batch_first=True),
    "lstm": lambda: nn.LSTM(4, 4, 2, batch_first=True, dropout=0.5),
    "rnn": lambda: nn.RNN(4, 4, 2, batch_first=True, dropout=0.5),
    "a product of attention": Product,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["gradient_x_input", "smoothgrad", "occlusion"])
def test_nothing_is_dropped_within_layers_that_drop_in_training(kind, method):
    network, inner = build(Nature), build(KINDS[kind])

    def ask(x):
        hidden = part(network, 0, 7)(x).view(-1, 4, 4)
        hidden = inner(hidden, hidden, hidden) if kind == "attention" else inner(hidden)
        return network[7]((hidden[0] if isinstance(hidden, tuple) else hidden).flatten(1))

    dropping = explain(ask, observations(), method)
    inner.eval()
    close(dropping.q_values, ask(observations()).detach(), 1e-12)
    close(dropping.relevance, explain(ask, observations(), method).relevance, 1e-12)


DRAWN = {
    "in whole numbers": lambda x: torch.randint_like(x, 5),
    "from a Gamma": lambda x: torch.distributions.Gamma(torch.ones_like(x), 1.0).sample(),
    "of a Gumbel softmax": lambda x: functional.gumbel_softmax(torch.zeros_like(x)),
    "from a Dirichlet": lambda x: torch.distributions.Dirichlet(torch.ones_like(x)).sample(),
}


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.parametrize("method", ["gradient_x_input", "epsilon"])
def test_numbers_that_no_generator_can_be_given_for_are_drawn_from_none_of_the_trainings(draw, method):
    network = build(Nature)

    def ask(x):
        q_values = network(x)
        return q_values + DRAWN[draw](q_values[:1])

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = explain(ask, observations(), method)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    assert torch.equal(first.q_values, explain(ask, observations(), method).q_values)


def test_what_the_signal_itself_draws_repeats_itself_and_differs_from_draw_to_draw():
    network, seen = build(Nature), observations()
    asked = {
        "once": functional.gumbel_softmax,
        "twice": lambda q: functional.gumbel_softmax(q) - functional.gumbel_softmax(q),
    }
    for draw in asked.values():
        found = [explain(lambda x, draw=draw: draw(network(x)), seen, "gradient_x_input", "action=0") for _ in range(2)]
        torch.manual_seed(len(asked))
        found.append(explain(lambda x, draw=draw: draw(network(x)), seen, "gradient_x_input", "action=0"))
        assert found[0].q_values.abs().max() > 0
        assert all(torch.equal(one.relevance, found[0].relevance) for one in found)


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


class Counting(nn.Module):
    """A part that writes into tensors of its own by functions whose names do not say so."""

    def __init__(self, write):
        super().__init__()
        self.weight, self.write = nn.Parameter(torch.ones(2, 32, dtype=torch.float64)), write
        self.register_buffer("count", torch.ones(2, dtype=torch.float64))
        for name in ("lowest", "highest", "scale"):
            self.register_buffer(name, torch.ones(1))
        self.register_buffer("zero", torch.zeros(1, dtype=torch.int32))

    def forward(self, x):
        return x + self.write(self)


def _count_in_numpy(part):
    part.count.detach().numpy()[0] += 1
    np.asarray(part.count)[1] += 1
    return part.count[1]


def _renormalise(function, *indices):
    return lambda part: function(torch.tensor(indices), part.weight, max_norm=0.5)[:1]


def _quantise(part):
    seen = part.lowest, part.highest, part.scale, part.zero
    on = torch.ones(1, dtype=torch.int64)
    return torch.fused_moving_avg_obs_fake_quant(part.weight.float(), on, on, *seen, 0.1, 0, 255, 0)[:1].double()


@library.custom_op("rlwatch_tests::count", mutates_args=("count",))
def _count(count: torch.Tensor) -> torch.Tensor:
    count += 1
    return count.clone()


WRITING = {
    "an embedding that renormalises": _renormalise(functional.embedding, 0),
    "a bag of embeddings that renormalises": _renormalise(functional.embedding_bag, [0, 1]),
    "an array of its memory": _count_in_numpy,
    "an operator of another library": lambda part: _count(part.count)[0],
    "torch's operator for certain types": lambda part: torch.ops.aten.add_.Tensor(part.count, torch.ones(1))[0],
    "fake quantisation": _quantise,
}


@pytest.mark.parametrize("write", WRITING)
@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input", "occlusion"])
def test_what_a_network_writes_unseen_it_writes_into_copies(write, method):
    nature = build(Nature)
    network = nn.Sequential(part(nature, 0, 5), Counting(WRITING[write]), part(nature, 5, 8))
    twin = copy.deepcopy(network)
    before = [tensor.clone() for tensor in network.state_dict().values()]
    found = explain(network, observations(), method)
    assert all(map(torch.equal, network.state_dict().values(), before))
    close(found.q_values, twin(observations()).detach(), 1e-12)


LOOKING = {
    "copied": copy.deepcopy,
    "pickled": pickle.dumps,
    "as an array": lambda x: x.numpy().max() + np.asarray(x).max(),
    "a number": lambda x: float(x.max()) + x.sum().item(),
    "a leaf": lambda x: None if x.is_leaf and x.grad_fn is None and not x.requires_grad else 1 / 0,
    "switched off": lambda x: x.requires_grad_(False),
    "switched on": lambda x: setattr(x, "requires_grad", True),
    "handed on": torch.from_dlpack,
}


@pytest.mark.parametrize("look", LOOKING)
@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input", "occlusion"])
def test_a_network_is_not_told_that_its_observations_are_followed(look, method):
    network, frames = build(Nature), (observations() * 255).to(torch.uint8)

    def looking(x):
        pixels = x.double() / 255
        LOOKING[look](pixels)
        return network(pixels)

    expected = explain(lambda x: network(x.double() / 255), frames, method).relevance
    assert torch.equal(explain(looking, frames, method).relevance, expected)


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


def test_what_a_network_narrows_for_its_autocast_is_explained_in_full_precision():
    network, pixels = build(Nature).float(), observations().float()
    expected = explain(network, pixels.bfloat16().float()).relevance

    def narrowed(frames):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(frames.bfloat16())

    assert torch.equal(explain(narrowed, pixels).relevance, expected)
    with pytest.raises(TypeError, match=r"expected torch.float32, got torch.bfloat16"):
        explain(lambda frames: network(frames.bfloat16()), pixels)


@pytest.mark.parametrize("method", ["occlusion", "epsilon", "sensitivity"])
def test_nothing_of_a_pass_stays_in_memory(method):
    network, seen = build(Nature), []

    def ask(x):
        features = part(network, 0, 2)(x)
        seen.append(weakref.ref(features))
        return part(network, 2, 8)(features)

    explain(ask, observations(), method)
    gc.collect()
    assert seen
    assert not any(feature() is not None for feature in seen)


def test_two_passes_at_once_in_threads_do_not_meet():
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    network = build(Trained)
    expected = explain(network, observations()).relevance
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: explain(network, observations()).relevance, range(4)))
    assert all(torch.equal(each, expected) for each in found)
