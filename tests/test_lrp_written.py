"""A function is explained alike however it is written."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rlwatch.attribution import COMPOSITES, Composite, Epsilon, Flat, Gamma, WSquare, Zero, explain
from tests.fixtures.networks import (
    ACTIONS,
    EVERY,
    Folded,
    Functional,
    Nature,
    Residual,
    Trained,
    build,
    close,
    observations,
    part,
    plain_gradient_x_input,
)


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


def named(x, network):
    features = torch.clamp(input=functional.conv2d(input=x, weight=network[0].weight, stride=4), min=0)
    features = functional.conv2d(features, network[2].weight).relu().flatten(1)
    hidden = torch.clamp(input=torch.matmul(input=features, other=network[5].weight.T), min=0)
    return torch.addmm(input=torch.zeros(ACTIONS, dtype=x.dtype), mat1=hidden, mat2=network[7].weight.T)


WRITTEN = {
    "arguments by their names": named,
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


def test_gradient_hooks_and_detached_branches_of_training_do_not_bend_the_map():
    network = build(Nature, bias=False)

    def with_training_tricks(frames):
        hidden = part(network, 0, 5)(frames)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: 0 * gradient)
        return part(network, 5, 8)(0.5 * hidden + 0.25 * hidden.detach() + (0.25 * hidden).detach_())

    close(explain(with_training_tricks, observations()).relevance, explain(network, observations()).relevance)


def test_pixels_are_those_that_were_padded_first():
    network, crop = build(Nature), build(lambda: nn.Conv2d(4, 6, 12, 4))
    once, twice = nn.ZeroPad2d(2), nn.Sequential(nn.ZeroPad2d(1), nn.ZeroPad2d(1))
    for method in ("epsilon_gamma_box", "epsilon_plus_flat", "epsilon"):
        maps = [
            explain(lambda x, pad=pad: part(network, 1, 8)(crop(pad(x))), observations(), method).relevance
            for pad in (once, twice)
        ]
        assert maps[0].shape == (3, 4, 20, 20)
        close(maps[1], maps[0])


@pytest.mark.parametrize("method", EVERY)
def test_planes_beside_the_pictures_are_no_pixels_and_absorb_their_part(method):
    rest, first = part(build(Nature), 1, 8), build(lambda: nn.Conv2d(6, 6, 8, 4))
    frames = observations()
    lines, columns = torch.meshgrid(*2 * [torch.linspace(-1, 1, 20, dtype=torch.float64)], indexing="ij")

    def beside(x):
        return torch.cat([lines.expand(len(x), 1, -1, -1), x, columns.expand(len(x), 1, -1, -1)], 1)

    found = explain(lambda x: rest(first(beside(x))), frames, method)
    box = {"low": beside(torch.zeros_like(frames[:1])), "high": beside(torch.ones_like(frames[:1]))}
    whole = explain(lambda x: rest(first(x)), beside(frames), method, **box)
    close(found.relevance, whole.relevance[:, 1:5])
    close(found.q_values, whole.q_values)


def test_what_differs_from_observation_to_observation_beside_the_pictures_is_among_the_pixels():
    rest, first = part(build(Nature), 1, 8), build(lambda: nn.Conv2d(5, 6, 8, 4))
    frames = observations()
    plane = torch.arange(len(frames), dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 20, 20)
    found = explain(lambda x: rest(first(torch.cat([x, plane], 1))), frames, "epsilon")
    assert found.relevance.shape == (3, 5, 20, 20)


@pytest.mark.parametrize("around", [nn.ZeroPad2d(2), lambda x: torch.cat([x, torch.ones_like(x)[:, :1]], 1)])
def test_pictures_that_are_scaled_in_place_before_something_is_put_around_them_are_explained_as_scaled(around):
    first, frames = build(lambda: nn.LazyConv2d(6, 8, 4)), observations() * 255

    def network(x):
        x /= 255
        return first(around(x)).relu().flatten(1)

    q_values = network(frames.clone()).detach()
    close(explain(network, frames, "epsilon").q_values, q_values)


@pytest.mark.parametrize("rule", [Flat(), WSquare()])
def test_what_a_layer_pads_itself_gets_no_relevance_whichever_way_the_padding_is_told(rule):
    kernel = torch.randn(6, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inner, head = build(lambda: nn.Conv2d(6, 8, 8, 4)), build(lambda: nn.Linear(128, ACTIONS))

    def ask(x, padded):
        return head(inner(padded(x).relu()).relu().flatten(1))

    same = explain(
        lambda x: ask(x, lambda x: functional.conv2d(x, kernel, padding="same")),
        observations(),
        Composite(Epsilon(0.0), Epsilon(0.0), rule),
    )
    wide = explain(
        lambda x: ask(x, lambda x: functional.conv2d(x, kernel, padding=2)[..., 1:, 1:]),
        observations(),
        Composite(Epsilon(0.0), Epsilon(0.0), rule),
    )
    close(same.q_values, wide.q_values)
    close(same.relevance, wide.relevance)


def test_batch_normalisation_of_another_axis_is_no_part_of_a_dense_layer():
    network, norm = build(Nature), build(lambda: nn.BatchNorm2d(6)).eval()
    norm.running_mean.zero_()
    rows, head = build(lambda: nn.Linear(4, 6)), build(lambda: nn.Linear(144, ACTIONS))

    def ask(x, parted):
        hidden = rows(part(network, 0, 2)(x))
        return head(norm(parted(hidden)).relu().flatten(1))

    behind = explain(lambda x: ask(x, lambda hidden: hidden), observations(), "epsilon").relevance
    assert behind.abs().max() > 0
    close(behind, explain(lambda x: ask(x, lambda hidden: hidden * 1), observations(), "epsilon").relevance)


@pytest.mark.parametrize("method", EVERY)
def test_sums_in_place_have_the_map_of_sums(method):
    in_place, copying = build(Residual), build(Residual, inplace=False)
    close(explain(in_place, observations(), method).relevance, explain(copying, observations(), method).relevance)


class ScaledGradient(torch.autograd.Function):
    """What goes in, with its gradient halved, as dueling trainings have it at the head's entrance."""

    @staticmethod
    def forward(ctx, values):  # noqa: ARG004
        return values

    @staticmethod
    def backward(ctx, gradient):  # noqa: ARG004
        return gradient / 2


@pytest.mark.parametrize("method", EVERY)
def test_a_function_that_scales_gradients_only_does_not_bend_the_map(method):
    network = build(Nature)
    features, head = part(network, 0, 6), part(network, 6, 8)

    def scaled(frames):
        hidden = ScaledGradient.apply(features(frames))
        return ScaledGradient.apply(head(ScaledGradient.apply(hidden)))

    close(explain(scaled, observations(), method).relevance, explain(network, observations(), method).relevance)


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
