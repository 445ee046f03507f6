"""What explaining leaves as it was: the network, the generators, the modes, the memory."""

import copy
import gc
import weakref

import pytest
import torch

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
