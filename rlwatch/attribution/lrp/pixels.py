"""The pixels that are explained: the input of the first layer, and what stands in for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlwatch.attribution.lrp.signals import Mark, constant
from rlwatch.attribution.operations.refusal import BEGIN, Refusal


def unchanged(values: Tensor) -> Tensor:
    """`values`."""
    return values


@dataclass(frozen=True)
class StandIn:
    """What is read instead of an observed tensor behind which the pixels begin."""

    observed: Tensor
    ruled: Tensor
    direct: Tensor
    padding: Callable[[Tensor], Tensor]


@dataclass
class Pixels:
    """The pixels of one pass, once its first layer has read them: `read` by the network, `explained` in their place.

    `instead` is what the network gets in their place; `stop=True` ends the pass at them. Gradients gather in their two
    stand-ins: `ruled` (relevance itself) and `direct` (relevance in gradient form).
    """

    ruled: Tensor
    direct: Tensor
    instead: Tensor | None = None
    stop: bool = False
    read: Tensor | None = None
    explained: Tensor | None = None
    stand_ins: dict[int, StandIn] = field(default_factory=dict)

    def of(self, tensor: Tensor) -> StandIn | None:
        """What stands in for `tensor`; None if nothing does."""
        return self.stand_ins.get(id(tensor))

    def reach(self, inputs: Tensor, weight: Tensor, mark: Mark | None) -> list[Tensor]:
        """Makes `inputs`, or what they were padded from, the explained pixels; their stand-ins.

        Raises: TypeError when they are no floating numbers, or others than the weights; NotImplementedError when there
            are explained pixels already; PixelsReached when the pass is to stop here.
        """
        _check_type(inputs, weight)
        pixels: Tensor = inputs
        padding: Callable[[Tensor], Tensor] = unchanged
        if mark is not None and mark.unpadded is not None and mark.padding is not None:
            pixels, padding = mark.unpadded, mark.padding
        if self.read is None:
            self._begin(pixels)
        elif not _equal(pixels, self.read):
            raise Refusal("a second layer that reads the observations by another way than the first", BEGIN)
        self.stand_ins[id(pixels)] = StandIn(pixels, self.ruled, self.direct, unchanged)
        if pixels is inputs:
            return [self.ruled, self.direct]
        with torch.enable_grad():
            ruled, direct = padding(self.ruled), padding(self.direct)
        self.stand_ins[id(inputs)] = StandIn(inputs, ruled, direct, padding)
        return [self.ruled, self.direct, ruled, direct]

    def _begin(self, pixels: Tensor) -> None:
        self.read = pixels
        self.explained = constant(
            pixels if self.instead is None else self.instead.to(pixels.dtype).reshape(pixels.shape)
        )
        if self.stop:
            raise PixelsReached
        self.ruled, self.direct = (self.explained.detach().requires_grad_() for _ in range(2))


def _equal(one: Tensor, other: Tensor) -> bool:
    """True if two layers read the same pixels, each through a scaling of its own."""
    return (one.shape, one.dtype) == (other.shape, other.dtype) and torch.equal(one, other)


class PixelsReached(Exception):  # noqa: N818 - it ends a pass that has done its work; nothing is wrong
    """The pass has reached the pixels, and that was all that was asked."""


def _check_type(inputs: Tensor, weight: Tensor) -> None:
    """Raises: TypeError when a layer does not take inputs of this type."""
    if inputs.dtype != weight.dtype:
        raise TypeError(
            f"the network's first layer expected {weight.dtype}, got {inputs.dtype}: pass the observations as the "
            f"training does, such as observations.to({weight.dtype}) / 255"
        )
