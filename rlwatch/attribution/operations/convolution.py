"""Convolutions: forward and transposed, in the forms that take the least time on a CPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from rlwatch.attribution.operations.memory import empty

CACHE = 1 << 20
"""Bytes of a tensor that is worked on at a time."""

LAST = torch.channels_last

WIDE = {8: torch.float64, 16: torch.complex128}
"""Numbers by their bytes."""

Pair = tuple[int, int]


def in_cache(rows: int, *tensors: Tensor) -> list[slice]:
    """Slices of `rows` rows, about equal, that fit the cache by the largest of `tensors`; all at once but on a CPU."""
    largest = max(tensor.numel() * tensor.element_size() for tensor in tensors)
    parts = 1 if tensors[0].device.type != "cpu" else max(1, min(rows, round(largest / CACHE)))
    bounds = [rows * part // parts for part in range(parts + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def may_lie_last(values: Tensor) -> bool:
    """Whether channels may be put last in memory; oneDNN ends the process over small pictures of bfloat16 that way."""
    return values.device.type == "cpu" and values.dtype != torch.bfloat16


@dataclass(frozen=True)
class Convolution:
    """The map of `functional.conv2d`."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The map itself; on a CPU channels lie last in its outputs' memory, which saves time in all that follows."""
        if not may_lie_last(inputs) or inputs.is_contiguous(memory_format=LAST):
            return self._forward(inputs, weight, bias)
        if len(weight) > inputs.shape[1] * self.stride[0] * self.stride[1]:  # there are more outputs to move
            return self._forward(inputs.contiguous(memory_format=LAST), weight, bias)
        parts = in_cache(len(inputs), inputs)
        first = self._forward(inputs[parts[0]], weight, bias)
        if len(parts) == 1:
            return first.contiguous(memory_format=LAST)
        shape = len(inputs), *first.shape[1:]
        outputs = empty(shape, first, last=True)
        outputs[parts[0]] = first
        for rows in parts[1:]:
            outputs[rows] = self._forward(inputs[rows], weight, bias)
        return outputs

    def _forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(inputs, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transposed(self, outputs: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """The adjoint map, from outputs back to inputs of `shape`.

        A kernel that is m strides wide is an m × m convolution of stride 1 followed by a pixel shuffle, which takes a
        quarter of the time of the library's own transpose (Nature DQN's first layer, on a CPU).
        """
        if self.shuffles and outputs.dtype != torch.bfloat16:
            return self.shuffled(outputs, self.blocks(weight), shape)
        settings = self.stride, self.padding, self.dilation, self.groups
        inputs: Tensor = conv2d_input(list(shape), weight, outputs, *settings)  # type: ignore[no-untyped-call]
        return inputs

    @property
    def shuffles(self) -> bool:
        """True if the transpose can be a convolution and a pixel shuffle."""
        return self.groups == 1 and self.dilation == (1, 1) and self.stride[0] == self.stride[1]

    def blocks(self, weight: Tensor, *, last: bool = False) -> Tensor:
        """The kernel whose outputs are the blocks of stride × stride inputs.

        Their channels come in the order channel, y, x, or y, x, channel where channels are to lie last in memory.
        """
        stride = self.stride[0]
        high, wide = -weight.shape[2] % stride, -weight.shape[3] % stride
        if high or wide:
            weight = functional.pad(weight, (0, wide, 0, high))
        out_channels, channels, rows, columns = weight.shape
        rows, columns = rows // stride, columns // stride
        kernel = weight.reshape(out_channels, -1).t().contiguous()  # what lies together then moves together
        kernel = kernel.view(channels, rows, stride, columns, stride, out_channels).flip(1, 3)
        kernel = kernel.permute(2, 4, 0, 1, 3, 5) if last else kernel.permute(0, 2, 4, 1, 3, 5)
        return kernel.reshape(channels * stride * stride, rows, columns, out_channels).permute(0, 3, 1, 2)

    def shuffled(
        self, outputs: Tensor, blocks: Tensor, shape: Sequence[int], into: Tensor | None = None, *, last: bool = False
    ) -> Tensor:
        """The adjoint map, from the kernel that `blocks` has made of the weights; in the memory of `into` if it can."""
        outputs = outputs.contiguous(memory_format=LAST)
        high, wide = blocks.shape[2] - 1, blocks.shape[3] - 1
        (top, left), stride = self.padding, self.stride[0]
        if stride > 1:
            full = functional.conv2d(outputs, blocks, padding=(high, wide))
            return _window((_interleaved_last if last else _interleaved)(full, stride, into), shape, self.padding)
        cut = min(top, high), min(left, wide)  # what lies on the padding is not computed
        full = functional.conv2d(outputs, blocks, padding=(high - cut[0], wide - cut[1]))
        return _window(full, shape, (top - cut[0], left - cut[1]))


def _interleaved_last(blocks: Tensor, size: int, into: Tensor | None) -> Tensor:
    """The pixel shuffle of channels in the order y, x, channel, which stay last in memory."""
    count, channels, height, width = blocks.shape
    shape = count, channels // size**2, height * size, width * size
    if into is None or into.shape != shape or not into.is_contiguous(memory_format=LAST):
        into = empty(shape, blocks, last=True)
    rows = blocks.permute(0, 2, 3, 1).contiguous().view(count, height, width, size, -1)
    into.permute(0, 2, 3, 1).view(count, height, size, width, -1).copy_(rows.transpose(2, 3))
    return into


def _interleaved(blocks: Tensor, size: int, into: Tensor | None) -> Tensor:
    """The pixel shuffle of channels in the order channel, y, x, in a quarter of the time of torch's own.

    On a CPU a row of a block moves as one number where numbers are as wide as that; not all devices have these.
    """
    count, channels, height, width = blocks.shape
    shape = count, channels // size**2, height * size, width * size
    if into is None or into.shape != shape or not into.is_contiguous():
        into = empty(shape, blocks)
    rows = blocks.permute(0, 2, 3, 1).contiguous().view(count, height, width, -1, size, size)
    places = into.view(count, -1, height, size, width, size)
    wide = WIDE.get(size * blocks.element_size())
    if wide is not None and blocks.device.type == "cpu":
        rows, places = (values.view(torch.float64).view(wide) for values in (rows, places))
    places.copy_(rows.permute(0, 3, 1, 4, 2, 5))
    return into


def _window(full: Tensor, shape: Sequence[int], padding: Pair) -> Tensor:
    """The part of `full` that lies on an input of `shape`: padding cut off, untouched border rows filled with 0."""
    (top, left), (height, width) = padding, shape[-2:]
    below, right = top + height - full.shape[-2], left + width - full.shape[-1]
    if not (top or left or below or right):
        return full
    return functional.pad(full, (-left, right, -top, below))
