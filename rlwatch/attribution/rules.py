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
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from rlwatch.attribution.layers import Layer

Propagation = Callable[[Tensor], Tensor]
Weights = Callable[[], Tensor]


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
        """The function from g = R / outputs to R / inputs."""
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
        up, down = (lambda: layer.positive), (lambda: layer.negative)
        if not self.beta:
            return _share(layer, up, down, _positive(bias), self.epsilon)
        if layer.joinable() and layer.nonnegative():
            return self._joined(layer, bias)
        activating = _share(layer, up, down, _positive(bias), self.epsilon, self.alpha)
        inhibiting = _share(layer, down, up, _negative(bias), -self.epsilon, -self.beta)
        return lambda g: activating(g).add_(inhibiting(g))

    def _joined(self, layer: Layer, bias: Tensor | None) -> Propagation:
        """Both shares as one layer of twice the outputs, which saves a transpose."""
        offsets = _offset(layer, _positive(bias), self.epsilon), _offset(layer, _negative(bias), -self.epsilon)
        both = layer.once("both", lambda: torch.cat([layer.positive, layer.negative]))
        ratios = layer.forward(layer.inputs, both, torch.cat(offsets))
        halves = ratios.chunk(2, 1)
        for half in halves:
            torch.div(layer.outputs, half, out=half)
        weight = layer.once(self, lambda: torch.cat([self.alpha * layer.positive, -self.beta * layer.negative]))

        def propagate(g: Tensor) -> Tensor:
            shares = torch.empty_like(ratios)
            for half, share in zip(halves, shares.chunk(2, 1), strict=True):
                torch.mul(half, g, out=share)
            return layer.transposed(shares, weight)

        return propagate


def _share(
    layer: Layer, weight: Weights, mirrored: Weights, bias: Tensor | None, epsilon: float, factor: float = 1.0
) -> Propagation:
    """Relevance shared out by `weight` among positive inputs and by `mirrored` among negative ones, × `factor`.

    `epsilon` has the sign that the total has wherever relevance is not 0.
    """
    inputs, main = layer.inputs, weight()
    offset = _offset(layer, bias, epsilon)
    if layer.nonnegative():
        ratio = _ratio(layer, layer.forward(inputs, main, offset), factor)
        return lambda g: layer.transposed(g * ratio, main)
    other = mirrored()
    total = layer.forward(inputs.clamp(min=0), main, offset) + layer.forward(inputs.clamp(max=0), other)
    ratio = _ratio(layer, total, factor)

    def propagate(g: Tensor) -> Tensor:
        shares = g * ratio
        return torch.where(inputs >= 0, *layer.transposed_pair(shares, main, other))

    return propagate


def _offset(layer: Layer, bias: Tensor | None, epsilon: float) -> Tensor:
    """The bias that adds epsilon to the outputs too."""
    return layer.weight.new_full((len(layer.weight),), epsilon) if bias is None else bias + epsilon


def _ratio(layer: Layer, total: Tensor, factor: float = 1.0) -> Tensor:
    """Outputs / total × factor, 0 where the total is 0 (by chance, where a ReLU is silent); takes its memory."""
    ratio = torch.div(layer.outputs, total, out=total).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
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
        up = partial(layer.once, (self, "up"), partial(self._favoured, weight, min=0))
        down = partial(layer.once, (self, "down"), partial(self._favoured, weight, max=0))
        positive = _share(layer, up, down, bias if bias is None else self._favoured(bias, min=0), self.epsilon)
        if layer.rectified:
            return positive
        negative = _share(layer, down, up, bias if bias is None else self._favoured(bias, max=0), -self.epsilon)
        above, below = layer.outputs > 0, layer.outputs < 0
        return lambda g: positive(g * above).add_(negative(g * below))

    def _favoured(self, values: Tensor, **limit: int) -> Tensor:
        return values + self.gamma * values.clamp(**limit)


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
