"""The one call: what comes back, and what it says to bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from rlwatch.attribution import COMPOSITES, METHODS, explain, explain_targets
from tests.fixtures.networks import ACTIONS, SIDE, STACK, Nature, build, close, observations


def test_targets_explain_the_best_action_its_lead_and_any_action():
    network = build(Nature)
    q_values = network(observations()).detach()
    found = explain_targets(network, observations(), ("greedy", "contrast", "action=1"))
    best = q_values.max(1).values
    close(found["greedy"].score, best)
    close(found["contrast"].score, best - (q_values.sum(1) - best) / (ACTIONS - 1))
    close(found["action=1"].score, q_values[:, 1])
    assert [each.target for each in found.values()] == ["greedy", "contrast", "action=1"]


@pytest.mark.parametrize("numbers", [torch.float16, torch.bfloat16])
def test_in_16_bits_contrast_is_that_of_the_q_values_nonetheless(numbers):
    network, pixels = build(Nature).to(numbers), observations().to(numbers)
    with torch.no_grad():
        network[-1].bias += 12.3
    found = explain(network, pixels, target="contrast")
    q_values = found.q_values.double()
    best = q_values.max(1).values
    assert found.score.dtype == numbers
    close(found.score.double(), best - (q_values.sum(1) - best) / (ACTIONS - 1), 0.01)


def test_contrast_is_the_map_of_the_best_action_minus_the_mean_of_the_other_maps():
    network = build(Nature)
    names = [f"action={index}" for index in range(ACTIONS)]
    for method in ("epsilon", "epsilon_gamma_box", "gradient_x_input"):
        found = explain_targets(network, observations(), ("contrast", *names), method)
        maps = torch.stack([found[name].relevance for name in names], 1)
        best = found["contrast"].q_values.argmax(1)
        own = maps[torch.arange(3), best]
        close(found["contrast"].relevance, own - (maps.sum(1) - own) / (ACTIONS - 1))


@pytest.mark.parametrize("method", METHODS)
def test_targets_from_one_pass_are_those_of_passes_of_their_own(method):
    network, few = build(Nature), {"meaningful_perturbation": {"steps": 3}, "lime": {"samples": 50}}.get(method, {})
    together = explain_targets(network, observations(), ("contrast", "greedy"), method, **few)
    for target, explanation in together.items():
        assert torch.equal(explanation.relevance, explain(network, observations(), method, target, **few).relevance)


def test_targets_share_one_forward_pass():
    network, passes = build(Nature), []
    explain_targets(
        lambda x: passes.append(1) or network(x), observations(), ("greedy", "contrast", "action=0"), "gradient_x_input"
    )
    assert len(passes) == 1


def test_two_actions_with_the_same_q_make_the_first_of_them_greedy():
    network = build(Nature)
    with torch.no_grad():
        network[7].weight[:] = network[7].weight[0]
        network[7].bias[:] = 0
    found = explain_targets(network, observations(), ("greedy", "action=0", "contrast"))
    assert torch.equal(found["greedy"].relevance, found["action=0"].relevance)
    assert found["contrast"].score.abs().max() <= 1e-12


def test_chunks_make_no_difference():
    network, pixels = build(Nature), observations(7)
    whole = explain(network, pixels)
    for batch_size in (1, 3, 7, 64):
        chunked = explain(network, pixels, batch_size=batch_size)
        close(chunked.relevance, whole.relevance, 1e-12)
        close(chunked.q_values, whole.q_values, 1e-12)


def test_arrays_are_taken_and_left_as_they_are():
    network = build(Nature)
    array = observations().numpy()
    array.flags.writeable = False
    assert torch.equal(explain(network, array).relevance, explain(network, observations()).relevance)
    backwards = np.ascontiguousarray(array[::-1])[::-1]
    assert torch.equal(explain(network, backwards).relevance, explain(network, observations()).relevance)


def test_float32_gives_float32_close_to_float64():
    network = build(Nature)
    exact = explain(network, observations()).relevance
    found = explain(network.float(), observations().float())
    assert found.relevance.dtype == found.q_values.dtype == torch.float32
    close(found.relevance.double(), exact, 1e-4)


def test_a_linear_network_is_explained_with_the_axes_of_its_observations():
    network = nn.Sequential(nn.Flatten(), nn.Linear(STACK * SIDE * SIDE, ACTIONS, bias=False)).double()
    explanation = explain(network, observations(), "gradient_x_input", "action=2")
    expected = observations() * network[1].weight[2].view(1, STACK, SIDE, SIDE)
    close(explanation.relevance, expected.detach())


def test_frames_that_pass_one_by_one_through_a_shared_convolution_keep_their_axes():
    encoder, head = nn.Conv2d(1, 2, 4, 4).double(), nn.Linear(STACK * 2 * 25, ACTIONS).double()

    def network(frames):
        return head(encoder(frames.view(-1, 1, SIDE, SIDE)).view(len(frames), -1))

    explanation = explain(network, observations(), "gradient_x_input")
    pixels = observations().requires_grad_()
    (gradient,) = torch.autograd.grad(network(pixels).max(1).values.sum(), pixels)
    close(explanation.relevance, (pixels * gradient).detach())


def test_a_first_layer_that_reads_the_axes_in_another_order_is_refused():
    head = nn.Linear(STACK * SIDE * SIDE, ACTIONS).double()
    with pytest.raises(ValueError, match=r"one picture per observation.*pixels of rlwatch\.unwrap"):
        explain(lambda frames: head(frames.permute(0, 2, 3, 1).flatten(1)), observations(), "gradient_x_input")


@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (-0.5, 1), (-1, 2)])
def test_the_box_is_what_the_first_layer_sees_of_black_and_of_white(shift, scale):
    network = build(Nature)

    def scaled(frames):
        return network(frames * scale + shift)

    own = explain(network, observations() * scale + shift, low=float(shift), high=float(scale + shift))
    close(explain(scaled, observations()).relevance, own.relevance)
    as_tensors = explain(
        network,
        observations() * scale + shift,
        low=torch.full((STACK, 1, 1), shift, dtype=torch.float64),
        high=torch.tensor(scale + shift),
    )
    close(as_tensors.relevance, own.relevance)


def test_a_composite_without_a_rule_for_a_layer_is_refused():
    with pytest.raises(TypeError, match=r"a rule for layer 0 \(convolution\), got None: return one"):
        explain(build(Nature), observations(), lambda layer: None)  # noqa: ARG005


REFUSALS = {
    "unknown method": ({"method": "epsilon_gama_box"}, "epsilon_plus_flat.*did you mean 'epsilon_gamma_box'"),
    "unknown target": ({"target": "gredy"}, "action=k, all, got 'gredy': did you mean 'greedy'"),
    "action out of range": (
        {"target": "action=3"},
        r"3 actions: expected target='action=0' to 'action=2', got 'action=3'",
    ),
    "negative action": ({"target": "action=-1"}, "got 'action=-1'"),
    "batch of nothing": ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    "outside the box": (
        {"high": 0.1},
        r"must lie in \[0, 0.1\], got \[.*, 0.99.*\]: divide by 255, or give other low=",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_bad_argument_is_refused_with_a_remedy(case):
    arguments, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        explain(build(Nature), observations(), **arguments)


def test_contrast_needs_two_actions():
    network = nn.Sequential(nn.Conv2d(STACK, 1, SIDE), nn.Flatten()).double()
    assert explain(network, observations()).score.shape == (3,)
    with pytest.raises(ValueError, match="at least 2, got 1: use target='greedy'"):
        explain(network, observations(), target="contrast")


def test_no_observations_are_refused():
    with pytest.raises(ValueError, match=r"at least one observation, got shape \(0, 4, 20, 20\)"):
        explain(build(Nature), observations(0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_observations_that_are_not_finite_are_refused(value):
    pixels = observations()
    pixels[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="observations must be finite"):
        explain(build(Nature), pixels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_q_values_that_are_not_finite_are_named(value):
    network = build(Nature)
    with torch.no_grad():
        network[7].bias[0] = value
    with pytest.raises(ValueError, match="the Q-values of 3 of 3 observations are not finite"):
        explain(network, observations())


def test_relevance_that_is_not_finite_is_named():
    network = nn.Sequential(nn.Conv2d(STACK, 1, SIDE, bias=False), nn.Flatten()).double()
    with torch.no_grad():
        network[0].weight.fill_(1e300)
    with pytest.raises(ValueError, match=r"the relevance of 3 of 3 .*not finite.*'sensitivity'.*'greedy'"):
        explain(network, observations(), "sensitivity")


def test_bytes_for_a_network_of_floats_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"expected torch.float32, got torch.uint8.*/ 255"):
        explain(build(Nature).float(), (observations() * 255).to(torch.uint8))


STANDARDISED = {
    "standardised": lambda x: (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True).clamp(min=1e-3),
    "with the differences of its frames": lambda x: torch.cat([x[:, :2], x[:, 2:] - x[:, :2]], 1),
}


@pytest.mark.parametrize("prepared", STANDARDISED)
def test_pixels_that_black_and_white_do_not_bound_are_refused_by_the_box_rule_only(prepared):
    network, prepare = build(Nature), STANDARDISED[prepared]
    with pytest.raises(ValueError, match=r"zB's box.*got \[-.*give low= and high="):
        explain(lambda x: network(prepare(x)), observations())
    explain(lambda x: network(prepare(x)), observations(), low=-20.0, high=20.0)
    explain(lambda x: network(prepare(x)), observations(), "epsilon_plus")


def test_the_box_of_an_inverted_picture_is_its_own():
    network = build(Nature)
    inverted = explain(lambda x: network(1 - x), observations())
    told = explain(network, 1 - observations(), low=0.0, high=1.0)
    torch.testing.assert_close(inverted.relevance, told.relevance)


def test_signed_observations_need_their_box_told_for_the_box_rule_only():
    signed = observations() * 2 - 1
    explain(build(Nature), signed, "epsilon")
    with pytest.raises(ValueError, match="expected low= and high=, got none"):
        explain(build(Nature), signed)


def test_a_network_that_reads_nothing_is_refused():
    with pytest.raises(ValueError, match="convolution or a linear layer reads the observations, saw none"):
        explain(lambda frames: frames.mean((2, 3)), observations())


def test_a_detour_through_numpy_is_refused():
    network = build(Nature)
    with pytest.raises(ValueError, match="without a detour through NumPy"):
        explain(lambda frames: network(torch.from_numpy(frames.numpy())), observations())


def test_a_scripted_network_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer versions of torch advise against jit
        scripted = torch.jit.trace(build(Nature), observations())
    with pytest.raises(ValueError, match=r"eager \(not scripted\)"):
        explain(scripted, observations())


@pytest.mark.parametrize(
    ("outputs_of", "got"),
    [
        (lambda q_values: q_values[:, :, None], r"shape \(3, 3, 1\)"),
        (lambda q_values: q_values[:2], r"shape \(2, 3\)"),
        (lambda _: None, "NoneType"),
    ],
)
def test_outputs_that_are_no_table_of_q_values_are_refused(outputs_of, got):
    network = build(Nature)
    with pytest.raises(ValueError, match=rf"expected Q-values of shape \(3, actions\), got {got}.*Read.*mean\(-1\)"):
        explain(lambda frames: outputs_of(network(frames)), observations())


def test_the_named_methods_are_the_composites_the_gradients_and_those_that_ask_often():
    gradients = "gradient_x_input", "sensitivity"
    perturbing = "occlusion", "greydanus", "sarfa", "lime", "shap", "meaningful_perturbation"
    sloping = "simple_taylor", "smoothgrad", "integrated_gradients"
    assert (*COMPOSITES, *gradients, *perturbing, *sloping, "deep_lift") == METHODS
