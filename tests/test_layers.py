"""Layers: the transposed maps against torch's own, and a pass in parts against the whole."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from rlwatch.attribution import (
    COMPOSITES,
    AlphaBeta,
    Composite,
    Epsilon,
    Gamma,
    WSquare,
    explain,
    explain_targets,
)
from rlwatch.attribution.operations import convolution, layers, memory
from rlwatch.attribution.operations.convolution import Convolution
from rlwatch.attribution.operations.layers import Dense
from tests.fixtures import zennit_maps

SHAPES = {  # side, kernel, stride, padding
    "blocks of four": (21, 8, 4, 0),
    "blocks of two": (20, 4, 2, 0),
    "blocks of three": (21, 6, 3, 0),
    "stride 1": (9, 3, 1, 1),
    "kernel no multiple of the stride": (30, 5, 3, 2),
    "rows left over": (22, 3, 2, 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_transposed_convolution_is_torchs(shape, channels, dtype):
    side, kernel, stride, padding = SHAPES[shape]
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(6, channels, kernel, kernel, generator=generator).to(dtype)
    inputs = torch.zeros(3, channels, side, side)
    outputs = torch.randn(functional.conv2d(inputs, weight.float(), None, stride, padding).shape, generator=generator)
    outputs = outputs.to(dtype)
    found = Convolution((stride, stride), (padding, padding)).transposed(outputs, weight, inputs.shape)
    expected = conv2d_input(list(inputs.shape), weight.double(), outputs.double(), stride, padding)
    assert found.dtype == dtype
    bound = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.02}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound * float(expected.abs().max()))


def last(values):
    return values.ndim == 4 and values.shape[1] > 1 and values.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("rule", [Epsilon(), AlphaBeta(), Gamma()])
def test_channels_of_bfloat16_are_never_put_last(monkeypatch, rule):
    network = nn.Sequential(nn.Conv2d(4, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU(), nn.Flatten())
    network.append(nn.LazyLinear(3))(torch.rand(1, 4, 15, 15))
    seen = {torch.float32: [], torch.bfloat16: []}

    def noted(function):
        def call(*args, **kwargs):
            tensors = [one for one in args if isinstance(one, torch.Tensor)]
            seen[tensors[0].dtype].append(any(map(last, tensors)))
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(convolution, "functional", SimpleNamespace(conv2d=noted(functional.conv2d), pad=functional.pad))
    monkeypatch.setattr(convolution, "conv2d_input", noted(conv2d_input))
    for numbers in seen:
        explain(network.to(numbers), torch.rand(2, 4, 15, 15).to(numbers), Composite(rule, Epsilon()), "all")
    assert any(seen[torch.float32])
    assert seen[torch.bfloat16]
    assert not any(seen[torch.bfloat16])


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("rows", [(5,), (2, 3)])
def test_a_large_dense_layer_is_torchs_both_ways(monkeypatch, rows, strided):
    monkeypatch.setattr(layers, "LARGE", 0)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(11, 4, generator=generator).t() if strided else torch.randn(4, 11, generator=generator)
    bias = torch.randn(4, generator=generator)
    inputs, outputs = (torch.randn(*rows, size, generator=generator) for size in (11, 4))
    found = Dense().forward(inputs, weight, bias), Dense().transposed(outputs, weight, inputs.shape)
    torch.testing.assert_close(found, (functional.linear(inputs, weight, bias), outputs @ weight))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_is_as_asked_for_whoever_gives_it(monkeypatch, dtype, last):
    monkeypatch.setattr(memory, "LARGE", 0)
    like = torch.zeros(1, dtype=dtype)
    layout = torch.channels_last if last else torch.contiguous_format
    found = memory.empty((2, 3, 4, 5), like, last=last)
    assert (found.shape, found.dtype) == ((2, 3, 4, 5), dtype)
    assert found.is_contiguous(memory_format=layout)
    assert memory.empty_like(found).stride() == found.stride()
    assert torch.equal(found.copy_(torch.arange(120).view(2, 3, 4, 5)).flatten().float(), torch.arange(120.0))


def test_memory_is_used_again_once_no_tensor_holds_it():
    def taken():
        return memory.empty((memory.LARGE // 4,), torch.zeros(1)).fill_(1)

    memory.BLOCKS.clear()
    first, view = taken(), taken()[5:]
    place = first.data_ptr()
    assert taken().data_ptr() not in (place, view.untyped_storage().data_ptr())
    del first
    with ThreadPoolExecutor() as other:
        assert other.submit(taken).result().data_ptr() != place
    assert taken().data_ptr() == place
    assert (view == 1).all()


def test_memory_is_kept_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(memory, "KEPT", 3 * memory.LARGE)
    memory.BLOCKS.clear()
    held = [memory.empty((memory.LARGE // 4,), torch.zeros(1)).fill_(number) for number in range(9)]
    del held[:3]  # these are no longer kept
    again = memory.empty((memory.LARGE // 4,), torch.zeros(1)).fill_(99)
    assert [tensor.unique().tolist() for tensor in [*held, again]] == [[3], [4], [5], [6], [7], [8], [99]]
    tracemalloc.start()
    del held, again
    memory.empty((memory.LARGE,), torch.zeros(1))  # of more bytes than are kept: gone at once
    assert tracemalloc.get_traced_memory()[0] < memory.LARGE
    tracemalloc.stop()


def test_large_layers_may_be_written_to_in_place(monkeypatch):
    monkeypatch.setattr(layers, "LARGE", 0)
    monkeypatch.setattr(memory, "LARGE", 0)
    monkeypatch.setattr(convolution, "CACHE", 1000)
    torch.manual_seed(3)
    steps = nn.Conv2d(4, 5, 3, 3), nn.ReLU(), nn.Flatten(2), nn.Linear(9, 7), nn.ReLU(), nn.Flatten(), nn.Linear(35, 2)
    network, pixels = nn.Sequential(*steps), torch.rand(3, 4, 9, 9)
    expected = explain(network, pixels, "epsilon").relevance
    for step in (steps[1], steps[4]):
        step.inplace = True
    torch.testing.assert_close(explain(network, pixels, "epsilon").relevance, expected)


@pytest.mark.parametrize(
    "composite",
    [
        *COMPOSITES,
        Composite(AlphaBeta(2.0, 1.0), Epsilon(), first=WSquare()),
        Composite(Gamma(1.0), Gamma(1.0)),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_a_layer_that_is_taken_in_parts_gives_the_same_relevance(monkeypatch, composite, signed):
    network = zennit_maps.small()
    observations = zennit_maps.signed_frames() if signed else zennit_maps.signed_frames().abs()
    box = {"low": zennit_maps.LOW, "high": zennit_maps.HIGH}
    whole = explain_targets(network, observations, method=composite, **box)
    assert len(observations) > 1
    monkeypatch.setattr(convolution, "CACHE", 1)
    parts = explain_targets(network, observations, method=composite, **box)
    for target, explanation in whole.items():
        torch.testing.assert_close(parts[target].relevance, explanation.relevance, rtol=1e-12, atol=1e-14)
