"""Ways to write a head, and activation functions that are not 0 at 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional

from rlwatch.attribution import explain
from tests.fixtures.networks import ACTIONS, convolutions, observations

ATOMS = 5
VALUES = torch.linspace(-2, 3, ATOMS, dtype=torch.float64)


class Distributional(nn.Module):
    """Logits of atoms, of which `head` makes Q-values."""

    def __init__(self, head):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.atoms, self.head = convolutions(), nn.Linear(32, ACTIONS * ATOMS), head

    def forward(self, x):
        return self.head(self.atoms(self.body(x).flatten(1)).view(-1, ACTIONS, ATOMS))


def distributional(head):
    return Distributional(head).double()


def repeated(count):
    return VALUES.view(1, ATOMS, 1).expand(count, ATOMS, 1)


SAME = {
    "log_softmax": lambda x: x.log_softmax(-1).exp() @ VALUES,
    "functional.log_softmax": lambda x: torch.exp(functional.log_softmax(x, 2).clone()) @ VALUES,
    "Categorical": lambda x: (Categorical(logits=x).probs * VALUES).sum(-1),
    "mean of a Categorical": lambda x: torch.inner(Categorical(logits=x).probs, VALUES),
    "einsum": lambda x: torch.einsum("bak,k->ba", x.softmax(-1), VALUES),
    "einsum the other way": lambda x: torch.einsum("k,bak->ba", VALUES, x.softmax(-1)),
    "bmm": lambda x: torch.bmm(x.softmax(-1), repeated(len(x))).squeeze(-1),
    "tensordot": lambda x: torch.tensordot(x.softmax(-1), VALUES, dims=1, out=None),
    "sum": lambda x: torch.sum(x.softmax(-1) * VALUES, dim=-1, out=None),
}


@pytest.mark.parametrize("method", ["epsilon", "epsilon_plus", "gradient_x_input"])
@pytest.mark.parametrize("head", SAME)
def test_the_mean_of_a_distribution_has_the_map_of_a_softmax_however_it_is_written(head, method):
    expected = explain(distributional(lambda x: x.softmax(-1) @ VALUES), observations(), method)
    found = explain(distributional(SAME[head]), observations(), method)
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(found.q_values, expected.q_values)


ALIKE = {
    "sort": lambda x: x.sort(-1).values[..., :3].mean(-1),
    "topk": lambda x: x.topk(3, -1, largest=False)[0].mean(-1),
}


def test_means_of_the_lowest_quantiles_are_alike():
    sort, topk = (explain(distributional(head), observations(), "epsilon") for head in ALIKE.values())
    torch.testing.assert_close(sort.relevance, topk.relevance)
    torch.testing.assert_close(sort.relevance.sum((1, 2, 3)) + sort.absorbed, sort.score)


REFUSED = {
    "exp": lambda x: x.exp().mean(-1),
    "einsum": lambda x: torch.einsum("bak,kl->bal", x, torch.ones(ATOMS, 2, dtype=x.dtype)).mean(-1),
    "inner": lambda x: torch.inner(x, torch.ones(2, ATOMS, dtype=x.dtype)).mean(-1),
    "bmm": lambda x: torch.bmm(x, torch.rand(len(x), ATOMS, 2).to(x)).mean(-1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_and_exponentials_that_have_no_rule_are_still_refused(name):
    with pytest.raises(NotImplementedError, match=name):
        explain(distributional(REFUSED[name]), observations(), "epsilon")


def activated(function):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 4, 4), function, nn.Conv2d(8, 8, 2), function, nn.Flatten(), nn.LazyLinear(ACTIONS)
    )


def test_an_exponential_is_no_softmax_for_being_1_for_one_observation():
    net = distributional(lambda x: (0 * x).exp().mean(-1))
    with pytest.raises(NotImplementedError, match="exp"):
        explain(net, observations()[:1], "epsilon")


FUNCTIONS = [
    nn.Sigmoid(),
    nn.Softplus(),
    nn.LogSigmoid(),
    nn.Hardsigmoid(),
    nn.Threshold(0.1, 0.0),
    nn.RReLU(),
    nn.GLU(1),
]


def network(function, dtype=torch.float32):
    made = activated(function)
    if isinstance(function, nn.GLU):
        made[0], made[2] = nn.Conv2d(4, 16, 4, 4), nn.Conv2d(8, 16, 2)
    made(observations().float())
    return made.to(dtype)


@pytest.mark.parametrize("method", ["epsilon", "epsilon_gamma_box", "gradient_x_input"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_maps_are_of_the_size_of_the_score_and_books_balance(function, method):
    torch.manual_seed(1)
    net, seen = network(function), observations().float().abs()
    seen = seen / seen.max()
    found = explain(net, seen, method)
    torch.testing.assert_close(found.q_values, net.eval()(seen))
    torch.testing.assert_close(found.relevance.sum((1, 2, 3)) + found.absorbed, found.score)
    assert found.absorbed.abs().max() < 10 * found.q_values.abs().max()
    assert found.relevance.abs().sum((1, 2, 3)).max() < 100 * found.q_values.abs().max()


@pytest.mark.parametrize("function", [nn.Sigmoid(), nn.Softplus()], ids=str)
def test_what_a_function_is_at_0_is_a_bias_by_hand(function):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False), function, nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        net[1].weight[:], net[3].weight[:] = 0.25, torch.tensor([[3.0], [-1.0]])
    found = explain(net, torch.full((1, 1, 2, 2), 0.8, dtype=torch.float64), "epsilon")
    origin = {nn.Sigmoid: 0.5, nn.Softplus: math.log(2)}[type(function)]
    assert float(found.absorbed) == pytest.approx(3 * origin, rel=1e-5)
    assert float(found.relevance.sum()) == pytest.approx(float(found.q_values[0, 0]) - 3 * origin, rel=1e-5)


def test_a_number_close_to_0_is_not_divided_by():
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False), nn.Sigmoid(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        net[1].weight[:] = torch.tensor([[1.0, -1.0]])
    found = explain(net, torch.tensor([[[[1.0, 1 - 2**-20]]]]), "epsilon")
    assert found.relevance.abs().max() < net[3].weight.abs().max()


@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input"])
@pytest.mark.parametrize("tracks", [False, True])
def test_instance_normalisation_is_explained_as_in_evaluation(method, tracks):
    net = network(nn.InstanceNorm2d(8, affine=True, track_running_stats=tracks), torch.float64)
    seen = observations()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = explain(net.train(), seen, method)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    torch.testing.assert_close(found.q_values, net.eval()(seen))
    torch.testing.assert_close(found.relevance.sum((1, 2, 3)) + found.absorbed, found.score)
