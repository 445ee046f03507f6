"""The rules of layer-wise relevance propagation, as values; names and formulas are zennit's.

A rule is asked once per layer and pass, `rule(layer)`, and answers with the function that carries relevance from the
layer's outputs to its inputs. Relevance travels in gradient form: the function gets g = R / outputs and returns
R / inputs, so that sums, means, views and max-pooling between layers are right under plain differentiation. The rules
that give relevance to an input of 0 (`pixels = True`) return R itself and are for the first layer only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from rlwatch.attribution.layers import Dense, Layer

Propagation = Callable[[Tensor], Tensor]


@runtime_checkable
class Rule(Protocol):
    """What one layer does with relevance."""

    @property
    def pixels(self) -> bool:
        """True if it returns relevance itself, also where an input is 0."""
        ...

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs."""
        ...


def _positive(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.clamp(min=0)


def _negative(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.clamp(max=0)


@dataclass(frozen=True)
class Zero:
    """LRP-0: in proportion to input × weight; equals gradient × input in a ReLU network.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140.
    """

    pixels: ClassVar[bool] = False

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g to the gradient of the inputs."""
        return lambda g: layer.transposed(g, layer.weight)


@dataclass(frozen=True)
class Epsilon:
    """LRP-ε: LRP-0 with small outputs damped.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140; epsilon: zennit's default.
    """

    epsilon: float = 1e-6
    pixels: ClassVar[bool] = False

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs."""
        if not self.epsilon:
            return Zero()(layer)
        stabilized = layer.outputs.abs().add_(self.epsilon)
        return lambda g: layer.transposed(torch.addcdiv(g, g, stabilized, value=-self.epsilon), layer.weight)


@dataclass(frozen=True)
class ZPlus:
    """z+: only what pushes an output up gets relevance; `bias=False` leaves the positive bias out of the shares.

    Source: Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008; epsilon: zennit's default.
    """

    epsilon: float = 1e-6
    bias: bool = True
    pixels: ClassVar[bool] = False

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs."""
        return AlphaBeta(1.0, 0.0, self.epsilon, self.bias)(layer)


@dataclass(frozen=True)
class AlphaBeta:
    """α-β: what pushes up gets α of the relevance, what pushes down −β, α − β = 1.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140; α = 2, β = 1 and epsilon: zennit's defaults.
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 1e-6
    bias: bool = True
    pixels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises: ValueError: α and β do not differ by 1, or one is negative."""
        if self.alpha < 0 or self.beta < 0 or not math.isclose(self.alpha - self.beta, 1):
            raise ValueError(f"expected alpha - beta = 1, both at least 0, got alpha={self.alpha}, beta={self.beta}")

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs."""
        bias = layer.bias if self.bias else None
        up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        if not self.beta:
            return _share(layer, up, down, _positive(bias), self.epsilon)
        if layer.joinable() and layer.nonnegative():
            return self._joined(layer, torch.cat([up, down]), bias)
        activating = _share(layer, up, down, _positive(bias), self.epsilon, self.alpha)
        inhibiting = _share(layer, down, up, _negative(bias), -self.epsilon, -self.beta)
        return lambda g: activating(g).add_(inhibiting(g))

    def _joined(self, layer: Layer, weight: Tensor, bias: Tensor | None) -> Propagation:
        """Both shares as one layer of twice the outputs, which saves a transpose."""
        both = None if bias is None else torch.cat([bias.clamp(min=0), bias.clamp(max=0)])
        ratios = layer.forward(layer.inputs, weight, both)
        activating, inhibiting = ratios.chunk(2, 1)
        torch.div(layer.outputs, activating.add_(self.epsilon), out=activating).mul_(self.alpha)
        torch.div(layer.outputs, inhibiting.sub_(self.epsilon), out=inhibiting).mul_(-self.beta)
        return lambda g: layer.transposed(torch.cat([activating * g, inhibiting * g], 1), weight)


def _share(
    layer: Layer, weight: Tensor, mirrored: Tensor, bias: Tensor | None, epsilon: float, factor: float = 1.0
) -> Propagation:
    """Relevance shared out by `weight` among positive inputs and by `mirrored` among negative ones, × `factor`.

    `epsilon` has the sign that the total has wherever relevance is not 0.
    """
    inputs = layer.inputs
    if layer.nonnegative():
        ratio = _ratio(layer, layer.forward(inputs, weight, bias), epsilon, factor)
        return lambda g: layer.transposed(g * ratio, weight)
    total = layer.forward(inputs.clamp(min=0), weight, bias) + layer.forward(inputs.clamp(max=0), mirrored)
    ratio = _ratio(layer, total, epsilon, factor)

    def propagate(g: Tensor) -> Tensor:
        shares = g * ratio
        return torch.where(inputs >= 0, layer.transposed(shares, weight), layer.transposed(shares, mirrored))

    return propagate


def _ratio(layer: Layer, total: Tensor, epsilon: float, factor: float = 1.0) -> Tensor:
    """Outputs / total × factor; takes the memory of `total`."""
    ratio = torch.div(layer.outputs, total.add_(epsilon), out=total)
    return ratio if factor == 1 else ratio.mul_(factor)


@dataclass(frozen=True)
class Gamma:
    """γ: LRP-0 with positive parts favoured by 1 + γ, for outputs of either sign.

    Source: Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10, extended to negative outputs by zennit (whose
    defaults gamma and epsilon are).
    """

    gamma: float = 0.25
    epsilon: float = 1e-6
    pixels: ClassVar[bool] = False

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs."""
        weight, bias = layer.weight, layer.bias
        up, down = weight + self.gamma * weight.clamp(min=0), weight + self.gamma * weight.clamp(max=0)
        up_bias = None if bias is None else bias + self.gamma * bias.clamp(min=0)
        positive = _share(layer, up, down, up_bias, self.epsilon)
        if layer.rectified:
            return positive
        down_bias = None if bias is None else bias + self.gamma * bias.clamp(max=0)
        negative = _share(layer, down, up, down_bias, -self.epsilon)
        above, below = layer.outputs > 0, layer.outputs < 0
        return lambda g: positive(g * above).add_(negative(g * below))


@dataclass(frozen=True)
class Flat:
    """flat: evenly over all inputs that an output reads, whatever they hold.

    Source: Lapuschkin et al. 2019, doi:10.1038/s41467-019-08987-4 (epsilon: zennit's default).
    """

    epsilon: float = 1e-6
    pixels: ClassVar[bool] = True

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to the relevance of the inputs."""
        if isinstance(layer.map, Dense) or layer.map.groups > 1:
            return _spread(layer, torch.ones_like(layer.weight), None, self.epsilon)
        one = torch.ones_like(layer.weight[:1, :1])
        pixels = layer.inputs[:1, :1]
        count = layer.forward(torch.ones_like(pixels), one).mul_(layer.inputs.shape[1]).add_(self.epsilon)
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

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to the relevance of the inputs."""
        bias = None if layer.bias is None else layer.bias.square()
        return _spread(layer, layer.weight.square(), bias, self.epsilon)


def _spread(layer: Layer, weight: Tensor, bias: Tensor | None, epsilon: float) -> Propagation:
    """Relevance shared out by `weight`, as if every input were 1."""
    total = layer.forward(torch.ones_like(layer.inputs[:1]), weight, bias)
    ratio = layer.outputs / total.add_(epsilon)
    return lambda g: layer.transposed(g * ratio, weight)


@dataclass(frozen=True)
class ZBox:
    """zB: for inputs in a box [low, high]; a black pixel gets relevance too. The bias cancels.

    The box is what the first layer sees of an all-black and of an all-white observation, unless `explain` is told.

    Source: Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008; epsilon: zennit's default.
    """

    epsilon: float = 1e-6
    pixels: ClassVar[bool] = True

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to the relevance of the inputs.

        Raises: ValueError: the layer has no box.
        """
        box = layer.box()
        if box is None:
            raise ValueError("zB needs the lowest and the highest input: expected low= and high=, got none")
        inputs, (low, high) = layer.inputs, box
        up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        corner = layer.forward(low, up, _positive(layer.bias)) + layer.forward(high, down, _negative(layer.bias))
        ratio = _ratio(layer, (layer.outputs - corner).clamp_(min=0), self.epsilon)
        above = inputs - low if low.any() else inputs

        def propagate(g: Tensor) -> Tensor:
            shares = g * ratio
            relevance = layer.transposed(shares, layer.weight).mul_(above)
            return relevance.addcmul_(layer.transposed(shares, down), low - high)

        return propagate


@dataclass(frozen=True)
class Pass:
    """pass: relevance goes through unchanged; what every activation function does. For layers of equal shape.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140.
    """

    pixels: ClassVar[bool] = True

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to the relevance of the inputs.

        Raises: ValueError: inputs and outputs differ in shape.
        """
        if layer.inputs.shape != layer.outputs.shape:
            raise ValueError(
                f"pass needs a layer whose outputs have the shape of its inputs, got {tuple(layer.inputs.shape)} -> "
                f"{tuple(layer.outputs.shape)}: give this layer another rule"
            )
        return lambda g: g * layer.outputs
