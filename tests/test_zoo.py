"""Every network under every composite, against an oracle that shares nothing with the engine."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from rlwatch.attribution import COMPOSITES, Composite, Zero, explain
from tests.fixtures.networks import build
from tests.fixtures.oracle import relevance
from tests.fixtures.zoo import (
    ACTIONS,
    ZOO,
    Categorical,
    Chain,
    Dueling,
    Impala,
    Implicit,
    Noisy,
    Pooled,
    Quantiles,
    Recurrent,
    Sampled,
    Tensorflow,
    network_of,
    observations_of,
)

BOUND = 1e-8
RULES = COMPOSITES | {"zero": Composite(Zero(), Zero())}
BIAS_FREE = [Pooled, Dueling, Noisy, Quantiles, Categorical, Implicit, Sampled, Impala, Tensorflow, Chain]


def close(found, expected, bound=BOUND):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= bound * expected.abs().max()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", ZOO)
def test_the_map_is_that_of_the_oracle(kind, name):
    network, seen = network_of(kind), observations_of(kind)
    replica = network.replica() if hasattr(network, "replica") else network
    torch.testing.assert_close(replica(seen), network(seen))
    expected = relevance(replica, seen, RULES[name], lambda q: q * functional.one_hot(q.argmax(1), ACTIONS))
    found = explain(network, seen, RULES[name])
    close(found.relevance, expected.reshape(found.relevance.shape))
    assert found.relevance.abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("kind", BIAS_FREE)
def test_without_biases_lrp_0_is_gradient_x_input(kind):
    network = build(lambda: kind(bias=False))
    seen = observations_of("same padding, channels last" if kind is Tensorflow else "nature")
    found = explain(network, seen, RULES["zero"])
    close(found.relevance, explain(network, seen, "gradient_x_input").relevance)
    if kind is not Categorical:
        assert found.absorbed.abs().max() <= BOUND * found.score.abs().max()


def test_the_expected_value_of_c51_conserves_the_covariance_of_logits_and_atoms():
    network, seen = build(lambda: Categorical(bias=False)), observations_of("c51")
    logits = network.body(seen).detach().view(-1, ACTIONS, 11)
    odds = logits.softmax(2)
    means = (odds * network.atoms).sum(2, keepdim=True)
    covariance = (odds * (network.atoms - means) * logits).sum(2)
    close(explain(network, seen, RULES["zero"], "all").relevance.sum((2, 3, 4)), covariance)


def test_a_number_that_is_added_to_all_logits_of_an_action_leaves_the_sum_of_c51_as_it_is():
    network, seen = build(Categorical), observations_of("c51")
    before = explain(network, seen, RULES["zero"])
    with torch.no_grad():
        network.body[8].bias += 3
    after = explain(network, seen, RULES["zero"])
    close(after.q_values, before.q_values)
    close(after.relevance, before.relevance)  # a bias, so it takes its relevance itself


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_relevance_goes_back_through_time_to_every_frame_that_is_remembered(kind):
    network, seen = build(lambda: Recurrent(kind)), observations_of("lstm")
    found = explain(network, seen, "epsilon")
    assert found.relevance.shape == (2, 6, 20, 20)  # three times two stacked frames, oldest first
    assert found.relevance.abs().amax((2, 3)).min() > 0
    seen[:, 0] = 0
    assert explain(network, seen, "epsilon").relevance[:, :2].abs().max() == 0


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell])
def test_cells_have_the_map_of_their_layer(kind):
    layer = build(lambda: Recurrent(nn.LSTM if kind is nn.LSTMCell else nn.GRU))
    cell = kind(64, 6).double()
    for name, weight in layer.memory.named_parameters():
        getattr(cell, name.removesuffix("_l0")).data = weight.data

    def network(x):
        features = functional.relu(layer.encoder(x.flatten(0, 1))).flatten(1).unflatten(0, (-1, 3))
        state = None
        for time in range(3):
            state = cell(features[:, time], state)
        return layer.head(state[0] if isinstance(state, tuple) else state)

    for name in ("zero", "epsilon_gamma_box"):
        whole = explain(layer, observations_of("lstm"), RULES[name])
        close(explain(network, observations_of("lstm"), RULES[name]).relevance, whole.relevance)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_layers_on_layers_and_both_directions_are_unfolded_to_the_same_q_values(kind, bias, batch_first):
    settings = {"num_layers": 2, "bidirectional": True, "bias": bias, "batch_first": batch_first}
    memory, encoder = kind(64, 5, **settings).double(), nn.Conv2d(2, 4, 8, 4).double()
    head = nn.Linear(10, ACTIONS).double()

    def network(x):
        features = functional.relu(encoder(x.flatten(0, 1))).flatten(1).unflatten(0, (-1, 3))
        outputs, last = memory(features if batch_first else features.transpose(0, 1))
        last = last[0] if kind is nn.LSTM else last
        return head((outputs.mean(1 if batch_first else 0)) + torch.cat([last[2], last[3]], 1))

    seen = observations_of("lstm")
    found = explain(network, seen, "epsilon")
    close(found.q_values, network(seen).detach(), 1e-12)
    assert found.relevance.abs().amax((2, 3)).min() > 0


def test_projected_and_packed_sequences_are_refused():
    network = build(Recurrent)
    network.memory, network.head = nn.LSTM(64, 9, batch_first=True, proj_size=6).double(), network.head
    with pytest.raises(NotImplementedError, match="projections of its hidden state"):
        explain(network, observations_of("lstm"), "epsilon")
    memory, pack = nn.GRU(64, 6, batch_first=True).double(), nn.utils.rnn.pack_padded_sequence

    def packed(x):
        features = functional.relu(network.encoder(x.flatten(0, 1))).flatten(1).unflatten(0, (-1, 3))
        return network.head(memory(pack(features, torch.tensor([3, 3]), batch_first=True))[1][0])

    with pytest.raises(NotImplementedError, match="gradient_x_input"):
        explain(packed, observations_of("lstm"), "epsilon")


def unknown(network):
    return lambda x: network(x).exp()


def test_a_fallback_is_warned_of_and_flagged_and_is_gradient_x_input():
    network, seen = unknown(build(Chain)), observations_of("nature")
    expected = explain(network, seen, "gradient_x_input")
    with pytest.warns(RuntimeWarning, match="gradient_x_input is used instead of epsilon: LRP has no rule for exp"):
        found = explain(network, seen, "epsilon", fallback="gradient_x_input")
    assert torch.equal(found.relevance, expected.relevance)
    assert found.method == "gradient_x_input"
    assert "no rule for exp" in found.fallback
    assert expected.fallback == ""
    with pytest.warns(RuntimeWarning, match="gradient_x_input is used"):
        every = explain(network, seen, "epsilon", "all", fallback="gradient_x_input")
    assert (every.method, every.fallback) == ("gradient_x_input", found.fallback)


def test_without_a_fallback_an_unknown_operation_is_refused_and_nothing_else_falls_back():
    network, seen = build(Chain), observations_of("nature")
    with pytest.raises(NotImplementedError, match="no rule for exp"):
        explain(unknown(network), seen, "epsilon")
    assert explain(network, seen, "epsilon", fallback="gradient_x_input").fallback == ""
    with pytest.raises(ValueError, match="expected as fallback 'gradient_x_input' or None, got 'epsilon'"):
        explain(network, seen, fallback="epsilon")


def test_an_operation_that_turns_up_later_is_refused_as_one_explanation_has_one_method():
    network, seen = build(Chain), observations_of("nature")

    def moody(x):
        return network(x).exp() if len(x) == 1 and x.max() < 0.5 else network(x)

    seen[1] *= 0.4
    with pytest.raises(NotImplementedError, match="no rule for exp"):
        explain(moody, seen, "epsilon", batch_size=1, fallback="gradient_x_input")
