"""One call of a convolution or a linear map: how it runs forward and transposed, with other inputs and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

Pair = tuple[int, int]
Box = tuple[Tensor, Tensor]
"""The lowest and the highest inputs that a layer can have."""


@dataclass(frozen=True)
class Dense:
    """The map of `functional.linear`."""

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The map itself."""
        return functional.linear(inputs, weight, bias)

    def transposed(self, outputs: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """The adjoint map, from outputs back to inputs of `shape`."""
        return (outputs @ weight).view(shape)


@dataclass(frozen=True)
class Convolution:
    """The map of `functional.conv2d`."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The map itself."""
        return functional.conv2d(inputs, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transposed(self, outputs: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """The adjoint map, from outputs back to inputs of `shape`.

        A kernel that is m strides wide is an m × m convolution of stride 1 followed by a pixel shuffle, which takes a
        quarter of the time of the library's own transpose (Nature DQN's first layer, on a CPU).
        """
        if self.groups == 1 and self.dilation == (1, 1) and self.stride[0] == self.stride[1]:
            return _shuffled(outputs, weight, shape, self.stride[0], self.padding)
        settings = self.stride, self.padding, self.dilation, self.groups
        inputs: Tensor = conv2d_input(list(shape), weight, outputs, *settings)  # type: ignore[no-untyped-call]
        return inputs


def _shuffled(outputs: Tensor, weight: Tensor, shape: Sequence[int], stride: int, padding: Pair) -> Tensor:
    high, wide = -weight.shape[2] % stride, -weight.shape[3] % stride
    if high or wide:
        weight = functional.pad(weight, (0, wide, 0, high))
    out_channels, channels, rows, columns = weight.shape
    rows, columns = rows // stride, columns // stride
    kernel = weight.reshape(out_channels, channels, rows, stride, columns, stride).permute(3, 5, 1, 0, 2, 4)
    kernel = kernel.reshape(channels * stride * stride, out_channels, rows, columns).flip(2, 3)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    outputs = outputs.contiguous(memory_format=torch.channels_last)
    full = functional.conv2d(outputs, kernel, padding=(rows - 1, columns - 1))
    return _window(full if stride == 1 else _interleaved(full, stride), shape, padding)


def _interleaved(blocks: Tensor, size: int) -> Tensor:
    """A pixel shuffle of channels in the order y, x, channel, in a third of the time where these lie last in memory."""
    count, channels, height, width = blocks.shape
    rows = blocks.permute(0, 2, 3, 1).reshape(count, height, width, size, size, channels // size**2).transpose(2, 3)
    return rows.reshape(count, height * size, width * size, -1).permute(0, 3, 1, 2)


def _window(full: Tensor, shape: Sequence[int], padding: Pair) -> Tensor:
    """The part of `full` that lies on an input of `shape`: padding cut off, untouched border rows filled with 0."""
    (top, left), (height, width) = padding, shape[-2:]
    below, right = top + height - full.shape[-2], left + width - full.shape[-1]
    if not (top or left or below or right):
        return full
    return functional.pad(full, (-left, right, -top, below))


@dataclass
class Layer:
    """One call of a map in a forward pass, as a rule sees it."""

    map: Dense | Convolution
    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    outputs: Tensor
    index: int = 0
    first: bool = False
    box: Callable[[], Box | None] = lambda: None
    consumers: set[str] = field(default_factory=set)
    versions: tuple[int, int] = (0, 0)

    @property
    def kind(self) -> Literal["convolution", "dense"]:
        """Which of the two maps it is."""
        return "convolution" if isinstance(self.map, Convolution) else "dense"

    @property
    def rectified(self) -> bool:
        """True if nothing but ReLUs reads the outputs: relevance is 0 wherever an output is negative."""
        return self.consumers == {"relu"}

    def joinable(self) -> bool:
        """True if two sets of weights make one layer whose outputs stand behind one another along axis 1."""
        return self.map.groups == 1 if isinstance(self.map, Convolution) else self.outputs.ndim == 2  # noqa: PLR2004

    def nonnegative(self) -> bool:
        """True if no input is below 0."""
        return bool(self.inputs.amin() >= 0)

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's map with other inputs and weights."""
        return self.map.forward(inputs, weight, bias)

    def transposed(self, outputs: Tensor, weight: Tensor) -> Tensor:
        """The adjoint of the layer's map with other weights."""
        return self.map.transposed(outputs, weight, self.inputs.shape)
