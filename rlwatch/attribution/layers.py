"""One call of a convolution or a linear map: how it runs forward and transposed, with other inputs and weights."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

CACHE = 1 << 20
"""Bytes of a tensor that is worked on at a time."""

WIDE = {8: torch.float64, 16: torch.complex128}
"""Numbers by their bytes."""

Made = TypeVar("Made")
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
        if self.shuffles:
            return self.shuffled(outputs, self.blocks(weight), shape)
        settings = self.stride, self.padding, self.dilation, self.groups
        inputs: Tensor = conv2d_input(list(shape), weight, outputs, *settings)  # type: ignore[no-untyped-call]
        return inputs

    @property
    def shuffles(self) -> bool:
        """True if the transpose can be a convolution and a pixel shuffle."""
        return self.groups == 1 and self.dilation == (1, 1) and self.stride[0] == self.stride[1]

    def blocks(self, weight: Tensor) -> Tensor:
        """The kernel whose outputs are the blocks of stride × stride inputs, channels in the order channel, y, x."""
        stride = self.stride[0]
        high, wide = -weight.shape[2] % stride, -weight.shape[3] % stride
        if high or wide:
            weight = functional.pad(weight, (0, wide, 0, high))
        out_channels, channels, rows, columns = weight.shape
        rows, columns = rows // stride, columns // stride
        kernel = weight.reshape(out_channels, channels, rows, stride, columns, stride).permute(1, 3, 5, 0, 2, 4)
        kernel = kernel.reshape(channels * stride * stride, out_channels, rows, columns).flip(2, 3)
        return kernel.contiguous(memory_format=torch.channels_last)

    def shuffled(self, outputs: Tensor, blocks: Tensor, shape: Sequence[int]) -> Tensor:
        """The adjoint map, from the kernel that `blocks` has made of the weights."""
        outputs = outputs.contiguous(memory_format=torch.channels_last)
        full = functional.conv2d(outputs, blocks, padding=(blocks.shape[2] - 1, blocks.shape[3] - 1))
        full = full if self.stride[0] == 1 else _interleaved(full, self.stride[0])
        return _window(full, shape, self.padding)


def _interleaved(blocks: Tensor, size: int) -> Tensor:
    """The pixel shuffle, of blocks whose channels lie last in memory, in a quarter of the time of torch's own.

    A row of a block moves as one number where numbers are as wide as that.
    """
    count, channels, height, width = blocks.shape
    planes = channels // size**2
    rows = blocks.permute(0, 2, 3, 1).contiguous().view(count, height, width, planes, size, size)
    wide = WIDE.get(size * blocks.element_size())
    rows = rows if wide is None else rows.view(torch.float64).view(wide)
    moved = rows.permute(0, 3, 1, 4, 2, 5).contiguous().view(blocks.dtype)
    return moved.view(count, planes, height * size, width * size)


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
    made: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["convolution", "dense"]:
        """Which of the two maps it is."""
        return "convolution" if isinstance(self.map, Convolution) else "dense"

    @property
    def rectified(self) -> bool:
        """True if nothing but ReLUs reads the outputs: relevance is 0 wherever an output is negative."""
        return self.consumers == {"relu"}

    def parts(self) -> list[slice]:
        """Rows of the call that fit the cache together; one part where the rows cannot be taken apart."""
        rows = len(self.inputs)
        if isinstance(self.map, Dense) or self.inputs.device.type != "cpu" or rows != len(self.outputs):
            return [slice(0, rows)]
        largest = max(self.inputs.numel(), self.outputs.numel()) * self.inputs.element_size()
        size = max(1, CACHE * rows // largest)
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]

    def part(self, rows: slice) -> Layer:
        """The same call for some of its rows."""
        return replace(self, inputs=self.inputs[rows], outputs=self.outputs[rows])

    @property
    def positive(self) -> Tensor:
        """The positive weights, 0 for the others."""
        return self.once("positive", lambda: self.weight.clamp(min=0))

    @property
    def negative(self) -> Tensor:
        """The negative weights, 0 for the others."""
        return self.once("negative", lambda: self.weight.clamp(max=0))

    def joinable(self) -> bool:
        """True if two sets of weights make one layer whose outputs stand behind one another along axis 1."""
        return self.map.groups == 1 if isinstance(self.map, Convolution) else self.outputs.ndim == 2  # noqa: PLR2004

    def nonnegative(self) -> bool:
        """True if no input is below 0."""
        return bool(self.inputs.amin() >= 0)

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's map with other inputs and weights."""
        return self.map.forward(inputs, weight, bias)

    def once(self, name: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` makes, made for the first part of the call that asks for it by this name."""
        if name not in self.made:
            self.made[name] = make()
        made: Made = self.made[name]
        return made

    def transposed_pair(self, outputs: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """The adjoint with each of two sets of weights, which takes less time at once."""
        if not isinstance(self.map, Convolution) or self.map.groups > 1:
            return self.transposed(outputs, first), self.transposed(outputs, second)
        count, channels, *picture = self.inputs.shape
        both = self.once(("pair", id(first), id(second)), lambda: torch.cat([first, second], 1))
        found = self._adjoint(outputs, both, (count, 2 * channels, *picture))
        return found[:, :channels], found[:, channels:]

    def transposed(self, outputs: Tensor, weight: Tensor) -> Tensor:
        """The adjoint of the layer's map with other weights."""
        return self._adjoint(outputs, weight, self.inputs.shape)

    def _adjoint(self, outputs: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        convolution = self.map
        if isinstance(convolution, Convolution) and convolution.shuffles:
            _, blocks = self.once(("blocks", id(weight)), lambda: (weight, convolution.blocks(weight)))
            return convolution.shuffled(outputs, blocks, shape)
        return self.map.transposed(outputs, weight, shape)
