"""Networks that nobody has thought of: no crash, no silent NaN, and books that balance."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from rlwatch.attribution import COMPOSITES, Composite, Zero, explain, explain_targets

ZERO = Composite(Zero(), Zero())
ACTIVATIONS = {"relu": functional.relu, "tanh": torch.tanh, "elu": functional.elu, "gelu": functional.gelu}
BLOCKS = "convolution", "residual", "branches", "max-pool", "average-pool", "batch norm"
HEADS = "plain", "dueling", "quantiles", "noisy", "iqn"
SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Drawn(nn.Module):
    """A network put together from a plan; blocks that do not fit on what is left of the picture are left out."""

    def __init__(self, plan):
        super().__init__()
        self.plan, self.bias, self.layers = plan, plan["bias"], nn.ModuleList()
        self.activation = ACTIVATIONS[plan["activation"]]
        channels, side = plan["stack"], plan["side"]
        self.steps = []
        for block in plan["blocks"]:
            channels, side = self.extend(block, channels, side)
        self.hidden = nn.Linear(channels * side * side, 6, bias=self.bias)
        actions = plan["actions"]
        self.head = nn.Linear(6, actions * (4 if plan["head"] == "quantiles" else 1), bias=self.bias)
        self.value = nn.Linear(6, 1, bias=self.bias)
        self.fractions = nn.Linear(1, 6)
        self.double().eval()

    def extend(self, drawn, channels, side):
        block, width, kernel, stride, padding, groups = drawn
        if not self.steps or block == "convolution":
            kernel = min(kernel, side)
            padding = min(padding, kernel - 1)
            groups = groups if self.steps and channels % groups == 0 and width % groups == 0 else 1
            layer = nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=self.bias)
            return self.add("convolution", layer, width, (side + 2 * padding - kernel) // stride + 1)
        if block == "residual":
            return self.add(block, nn.Conv2d(channels, channels, 3, padding=1, bias=self.bias), channels, side)
        if block == "branches":
            sizes = ((1, 0), (3, 1))
            layers = [nn.Conv2d(channels, width, size, padding=around, bias=self.bias) for size, around in sizes]
            return self.add(block, nn.ModuleList(layers), 2 * width, side)
        if block == "batch norm" and self.bias:
            layer = nn.BatchNorm2d(channels)
            nn.init.uniform_(layer.weight, -1.5, 1.5)
            layer.running_var.uniform_(0.5, 2)
            return self.add(block, layer, channels, side)
        if block.endswith("pool") and side > 1:
            return self.add(block, nn.Identity(), channels, side // 2)
        return channels, side

    def add(self, block, layer, channels, side):
        self.steps.append(block)
        self.layers.append(layer)
        return channels, side

    def forward(self, x):
        for block, layer in zip(self.steps, self.layers, strict=True):
            x = self.through(block, layer, x)
        x = self.activation(self.hidden(x.flatten(1)))
        head = self.plan["head"]
        if head == "iqn":
            x = (x[:, None] * functional.relu(self.fractions(torch.rand(3, 1, dtype=torch.float64)))).mean(1)
        if head == "noisy":
            return functional.linear(x, self.head.weight * torch.rand(1, 6, dtype=torch.float64), self.head.bias)
        q_values = self.head(x)
        if head == "quantiles":
            return q_values.view(len(x), -1, 4).mean(2)
        return self.value(x) + q_values - q_values.mean(1, keepdim=True) if head == "dueling" else q_values

    def through(self, block, layer, x):
        if block == "residual":
            return x + self.activation(layer(x))
        if block == "branches":
            return self.activation(torch.cat([one(x) for one in layer], 1))
        if block.endswith("pool"):
            return (functional.max_pool2d if block == "max-pool" else functional.avg_pool2d)(x, 2)
        return layer(x) if block == "batch norm" else self.activation(layer(x))


blocks = st.tuples(
    *(st.sampled_from(BLOCKS), st.sampled_from([2, 3, 4]), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)),
    st.sampled_from([1, 2]),
)


def plans(**fixed):
    drawn = {
        "stack": st.integers(1, 5),
        "side": st.integers(5, 14),
        "blocks": st.lists(blocks, min_size=1, max_size=5),
        "activation": st.sampled_from(list(ACTIVATIONS)),
        "head": st.sampled_from(HEADS),
        "bias": st.booleans(),
        "actions": st.integers(2, 4),
        "probes": st.integers(1, 3),
        "seed": st.integers(0, 2**16),
        "method": st.sampled_from(list(COMPOSITES)),
    }
    return st.fixed_dictionaries(drawn | {name: st.just(value) for name, value in fixed.items()})


def made(plan):
    with torch.random.fork_rng():
        torch.manual_seed(plan["seed"])
        network = Drawn(plan)
        seen = torch.rand(plan["probes"], plan["stack"], plan["side"], plan["side"], dtype=torch.float64)
    return network, seen * (seen > 0.3)  # black pixels, as games have them


def near(found, expected, bound=1e-8):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= bound * expected.abs().max() + 1e-14


@settings(SETTINGS, max_examples=250)
@given(plans())
def test_any_network_is_explained_in_finite_numbers_that_every_way_of_asking_repeats(plan):
    network, seen = made(plan)
    found = explain_targets(network, seen, ("greedy", "contrast"), plan["method"])
    every = explain(network, seen, plan["method"], "all")
    best = every.q_values.argmax(1)
    rows = torch.arange(len(seen))
    assert every.relevance.isfinite().all()
    near(found["greedy"].relevance, every.relevance[rows, best])
    own, all_maps = every.relevance[rows, best], every.relevance.sum(1)
    difference = found["contrast"].relevance - (own - (all_maps - own) / (plan["actions"] - 1))
    assert difference.abs().max() <= 1e-8 * every.relevance.abs().max() + 1e-14
    for one in found.values():
        near(one.relevance.sum((1, 2, 3)) + one.absorbed, one.score)


@settings(SETTINGS, max_examples=150)
@given(plans(activation="relu", bias=False))
def test_without_biases_lrp_0_is_gradient_x_input_and_sums_to_the_score(plan):
    network, seen = made(plan)
    found = explain(network, seen, ZERO)
    near(found.relevance, explain(network, seen, "gradient_x_input").relevance)
    near(found.relevance.sum((1, 2, 3)), found.score)


@settings(SETTINGS, max_examples=100)
@given(plans(activation="relu", bias=True))
def test_what_is_absorbed_is_what_the_biases_add(plan):
    network, seen = made(plan | {"head": "plain" if plan["head"] in {"iqn", "noisy"} else plan["head"]})
    found = explain(network, seen, ZERO)
    biases = [one for name, one in network.named_parameters() if name.endswith("bias")]
    for probe in range(len(seen)):
        hidden = network(seen[probe : probe + 1])
        gradients = torch.autograd.grad(hidden.amax(1).sum(), biases, allow_unused=True)
        added = sum((bias * slope).sum() for bias, slope in zip(biases, gradients, strict=True) if slope is not None)
        assert abs(found.absorbed[probe] - added) <= 1e-8 * max(1, found.score[probe].abs())
