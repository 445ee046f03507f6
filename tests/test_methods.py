"""Every method by its name: on the pixels that the first layer sees, whatever lies before it."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import torch
from torch import nn

from rlwatch.attribution import METHODS, explain, explain_targets
from rlwatch.attribution.families.superpixels import grid
from rlwatch.attribution.methods import CONSERVING, PERTURBING, QUERYING, SLOPING, settings
from tests.fixtures.networks import ACTIONS, STACK, Nature, SamePadding, build, observations

QUICK = {
    "meaningful_perturbation": {"steps": 3},
    "lime": {"samples": 40},
    "shap": {"features": grid(observations(), cell=10)},
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"steps": 4},
}


def explained(network, pixels, method, target="contrast", **settings):
    return explain(network, pixels, method, target, **(QUICK.get(method, {}) | settings))


def weights_of(q_values, target):
    best = torch.nn.functional.one_hot(q_values.argmax(1), ACTIONS).double()
    return best if target == "greedy" else best - (1 - best) / (ACTIONS - 1)


def directly(network, pixels, method, target):
    """The method itself, asked with plain autograd."""

    def gradient(pictures, weights):
        leaf = pictures.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad((network(leaf) * weights).sum(), leaf)[0]

    def ask(pictures):
        return network(pictures).detach()

    function = QUERYING[method]
    if "gradient" in inspect.signature(function).parameters and method in PERTURBING:
        function = partial(function, gradient=gradient)
    asked = ask if method in PERTURBING else gradient
    return function(asked, pixels, weights_of(ask(pixels), target), **QUICK.get(method, {}))


@pytest.mark.parametrize("target", ["greedy", "contrast"])
@pytest.mark.parametrize("method", PERTURBING | SLOPING)
def test_a_method_by_name_is_the_method_itself(method, target):
    network = build(Nature)
    found = explained(network, observations(), method, target)
    torch.testing.assert_close(
        found.relevance, directly(network, observations(), method, target), rtol=1e-9, atol=1e-12
    )
    assert found.relevance.is_contiguous()
    assert found.relevance.abs().max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_each_pixel_of_a_map_has_memory_of_its_own(method):
    relevance = explained(build(Nature), observations(), method).relevance
    kept = relevance.clone()
    relevance[:, 0] = 7
    assert torch.equal(relevance[:, 1:], kept[:, 1:])


@pytest.mark.parametrize("method", QUERYING)
def test_bytes_a_division_inside_and_channels_last_make_no_difference(method):
    network = build(Nature)
    frames = (observations() * 255).to(torch.uint8)

    def divides(x):
        return network(x.permute(0, 3, 1, 2).double() / 255)

    expected = explained(network, frames / 255.0, method).relevance if frames.is_floating_point() else None
    expected = explained(network, frames.double() / 255, method).relevance
    found = explained(divides, frames.permute(0, 2, 3, 1).contiguous(), method).relevance
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", QUERYING)
def test_pixels_are_changed_before_the_zero_padding_of_the_first_layer(method):
    network = build(SamePadding)
    found = explained(network, observations(channels_last=True), method)
    plain = explained(
        lambda x: network(x.permute(0, 2, 3, 1)), observations(channels_last=True).permute(0, 3, 1, 2), method
    )
    assert found.relevance.shape == (3, STACK, 20, 20)
    torch.testing.assert_close(found.relevance, plain.relevance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", QUERYING)
def test_what_is_absorbed_is_score_minus_sum_where_maps_add_up_and_nan_elsewhere(method):
    found = explained(build(Nature), observations(), method)
    if method in CONSERVING:
        torch.testing.assert_close(found.absorbed, found.score - found.relevance.sum((1, 2, 3)))
    else:
        assert found.absorbed.isnan().all()


def test_integrated_gradients_and_shap_absorb_the_score_of_their_baseline():
    network = build(Nature)
    black = network(torch.zeros_like(observations())).detach()
    for method, bound in (("integrated_gradients", 1e-2), ("shap", 1e-9)):
        found = explained(network, observations(), method, "action=1", **({"steps": 300} if bound == 1e-2 else {}))
        torch.testing.assert_close(found.absorbed, black[:, 1], rtol=bound, atol=0)


@pytest.mark.parametrize("method", QUERYING)
def test_the_parts_of_a_batch_make_no_difference(method):
    network = build(Nature)
    whole = explained(network, observations(), method).relevance
    parts = explained(network, observations(), method, batch_size=2).relevance
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)


def test_a_generator_that_is_passed_in_moves_on_once_and_is_the_same_for_all_targets_and_parts():
    network, generator = build(Nature), torch.Generator().manual_seed(3)
    call = partial(explain_targets, network, observations(), method="smoothgrad", samples=3, generator=generator)
    first = call(("greedy", "action=0"), batch_size=2)
    second = call(("greedy",))["greedy"].relevance
    assert not torch.equal(first["greedy"].relevance, second)
    generator.manual_seed(3)
    torch.testing.assert_close(call(("greedy",))["greedy"].relevance, first["greedy"].relevance)
    generator.manual_seed(3)
    torch.testing.assert_close(call(("action=0",))["action=0"].relevance, first["action=0"].relevance)


def test_a_background_and_features_per_probe_follow_their_probes():
    network, behind = build(Nature), observations(seed=7)
    for method in ("occlusion", "integrated_gradients"):
        whole = explained(network, observations(), method, baseline=behind).relevance
        one = explained(network, observations()[2:], method, baseline=behind[2:]).relevance
        torch.testing.assert_close(
            explained(network, observations(), method, baseline=behind, batch_size=1).relevance, whole
        )
        torch.testing.assert_close(whole[2:], one)


@pytest.mark.parametrize("method", QUERYING)
def test_explaining_by_queries_leaves_the_network_and_the_global_generator_alone(method):
    network = build(Nature).train()
    before = [parameter.clone() for parameter in network.parameters()], torch.get_rng_state()
    explained(network, observations(), method)
    assert network.training
    assert all(torch.equal(old, new) for old, new in zip(before[0], network.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_keyword_is_refused_with_those_that_the_method_has(method):
    expected = ", ".join(settings(method)) if method in QUERYING else "no keywords of its own, got 'pach'"
    with pytest.raises(TypeError, match=expected):
        explain(build(Nature), observations(), method, pach=8)


def test_an_unknown_keyword_that_is_nearly_one_is_named():
    with pytest.raises(
        TypeError, match="one of patch, stride, baseline, frame_by_frame, got 'pach': did you mean 'patch'"
    ):
        explain(build(Nature), observations(), "occlusion", pach=8)


def test_keywords_reach_their_method():
    network = build(Nature)
    small, large = (explain(network, observations(), "occlusion", patch=patch, stride=2).relevance for patch in (2, 8))
    assert not torch.allclose(small, large)


def test_a_pixel_that_nothing_depends_on_has_no_slope():
    network = nn.Sequential(nn.Conv2d(STACK, ACTIONS, 20), nn.Flatten()).double()
    with torch.no_grad():
        network[0].weight[:, 1] = 0
    for method in ("integrated_gradients", "smoothgrad", "simple_taylor", "occlusion"):
        relevance = (
            explained(network, observations(), method, frame_by_frame=True)
            if method == "occlusion"
            else explained(network, observations(), method)
        )
        assert relevance.relevance[:, 1].abs().max() <= 1e-12
        assert relevance.relevance[:, 0].abs().max() > 0
