"""The rules for the layer that sees the pixels: they give relevance to a black one, too.

Like the others (`rules`) they get g = R / outputs, but return R itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlwatch.attribution.lrp.rules import Propagation
from rlwatch.attribution.operations.layers import Dense, Layer


@dataclass(frozen=True)
class Flat:
    """flat: evenly over all inputs that an output reads, whatever they hold.

    Source: Lapuschkin et al. 2019, doi:10.1038/s41467-019-08987-4 (epsilon: zennit's default).
    """

    epsilon: float = 1e-6
    pixels: ClassVar[bool] = True
    gates: ClassVar[bool] = True

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to the relevance of the inputs."""
        if isinstance(layer.map, Dense) or layer.map.groups > 1:
            return _spread(layer, torch.ones_like(layer.weight), None, self.epsilon)
        one = torch.ones_like(layer.weight[:1, :1])
        count = layer.forward(layer.ones()[:, :1], one).mul_(layer.inputs.shape[1]).add_(self.epsilon)
        shape = (len(layer.inputs), 1, *layer.inputs.shape[2:])

        def propagate(g: Tensor) -> Tensor:
            shares = (g * layer.outputs).sum(1, keepdim=True).div_(count)
            return layer.map.transposed(shares, one, shape).expand(layer.inputs.shape)

        return propagate


@dataclass(frozen=True)
class WSquare:
    """w²: in proportion to the squared weights, whatever the inputs hold.

    Source: Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008; epsilon: zennit's default.
    """

    epsilon: float = 1e-6
    pixels: ClassVar[bool] = True
    gates: ClassVar[bool] = True

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to the relevance of the inputs."""
        bias = None if layer.bias is None else layer.bias.square()
        return _spread(layer, layer.weight.square(), bias, self.epsilon)


def _spread(layer: Layer, weight: Tensor, bias: Tensor | None, epsilon: float) -> Propagation:
    """Relevance shared out by `weight`, as if every input were 1."""
    total = layer.forward(layer.ones(), weight, bias)
    ratio = layer.outputs / total.add_(epsilon)
    return lambda g: layer.transposed(g * ratio, weight, layer.destination)


@dataclass(frozen=True)
class ZBox:
    """zB: for inputs in a box [low, high]; a black pixel gets relevance too. The bias cancels.

    The box is what the first layer sees of an all-black and of an all-white observation, unless `explain` is told.

    Source: Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008; epsilon: zennit's default.
    """

    epsilon: float = 1e-6
    pixels: ClassVar[bool] = True
    gates: ClassVar[bool] = True

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to the relevance of the inputs.

        Raises: ValueError when the layer has no box, or its inputs lie outside.
        """
        box = layer.box()
        if box is None:
            raise ValueError("zB needs the lowest and the highest input: expected low= and high=, got none")
        inputs, (low, high) = layer.inputs, box
        _check_inside(inputs, low, high, *layer.once("narrowest", lambda: _narrowest(low, high)))
        total = (layer.outputs - layer.once("corner", lambda: _corner(layer, low, high))).clamp_(min=0)
        ratio = torch.div(layer.outputs, total.add_(self.epsilon), out=total)
        above = inputs - low if layer.once("raised", lambda: bool(low.any())) else inputs
        below = layer.once("below", lambda: low - high)

        def propagate(g: Tensor) -> Tensor:
            whole, falling = layer.transposed_pair(g * ratio, layer.weight, layer.negative)
            return torch.mul(whole, above, out=layer.destination).addcmul_(falling, below)

        return propagate


def _corner(layer: Layer, low: Tensor, high: Tensor) -> Tensor:
    """The least that the outputs can be in the box."""
    bias = layer.bias
    lowest = layer.forward(low, layer.positive, None if bias is None else bias.clamp(min=0))
    return lowest + layer.forward(high, layer.negative, None if bias is None else bias.clamp(max=0))


def _narrowest(low: Tensor, high: Tensor) -> tuple[float, float, float]:
    """The highest of the lowest inputs, the lowest of the highest, and what rounding may add."""
    return low.amax().item(), high.amin().item(), 1e-4 * (high - low).amax().item()


def _check_inside(inputs: Tensor, low: Tensor, high: Tensor, floor: float, ceiling: float, slack: float) -> None:
    """Raises: ValueError when an input lies outside of the box by more than rounding."""
    least, most = inputs.aminmax()
    if least >= floor - slack and most <= ceiling + slack:
        return
    if ((inputs < low - slack) | (inputs > high + slack)).any():
        beyond = torch.maximum(low - inputs, inputs - high)
        part = (beyond > slack).float().mean().item()
        raise ValueError(
            f"{100 * part:.1f} % of the first layer's inputs lie outside of zB's box, by up "
            f"to {beyond.max().item():.2g}: expected each between what all-black and all-white observations become "
            f"there (from {low.amin().item():g} to {high.amax().item():g}), got [{least.item():g}, {most.item():g}]. A "
            "network that updates statistics of its inputs while it is asked, or takes differences of frames, has no "
            "such box: use method='epsilon_plus', or give low= and high= (to Watch: options={'low': ..., 'high': ...})"
        )
