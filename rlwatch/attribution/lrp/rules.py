"""The rules of layer-wise relevance propagation, as values; names and formulas are zennit's.

A rule is asked once per layer and pass, `rule(layer)`, and answers with the function that carries relevance from the
layer's outputs to its inputs. Relevance travels in gradient form: the function gets g = R / outputs and returns
R / inputs, so that sums, means, views and max-pooling between layers are right under plain differentiation. The rules
that give relevance to an input of 0 (`pixels = True`) return R itself and are for the first layer only. A rule that
multiplies by the outputs may say so (`gates = True`): behind it a ReLU needs no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from rlwatch.attribution.operations.layers import Layer

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


RuleOf = Callable[[Layer], Rule]
"""What a composite is."""


def checked(rule: object, layer: Layer) -> Rule:
    """The rule that a composite, which may be a user's, gives a layer.

    Raises: TypeError when it is none; ValueError when it is for the layer that sees the pixels, and this is another, or
        its epsilon or gamma is below 0.
    """
    if not isinstance(rule, Rule):
        raise TypeError(
            f"expected of the composite a rule for layer {layer.index} ({layer.kind}), got {rule!r}: return one for "
            "every layer, such as Epsilon()"
        )
    for name in ("epsilon", "gamma"):
        value = getattr(rule, name, 0.0)
        if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise ValueError(f"{name} of {rule!r} must be a number of at least 0, got {value!r}: it has a good default")
    if rule.pixels and not layer.first:
        raise ValueError(
            f"{type(rule).__name__} gives relevance to inputs of 0 and is for the layer that sees the pixels, got it "
            f"for layer {layer.index}: give this layer another rule"
        )
    return rule


@dataclass(frozen=True)
class Zero:
    """LRP-0: in proportion to input × weight; equals gradient × input in a ReLU network.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140.
    """

    pixels: ClassVar[bool] = False

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs."""
        return lambda g: layer.transposed(g, layer.weight, layer.destination)


@dataclass(frozen=True)
class Epsilon:
    """LRP-ε: LRP-0 with small outputs damped.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140; epsilon: zennit's default.
    """

    epsilon: float = 1e-6
    pixels: ClassVar[bool] = False

    @property
    def gates(self) -> bool:
        """True if outputs of 0 get nothing."""
        return self.epsilon > 0

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs."""
        if not self.epsilon:
            return Zero()(layer)
        size = layer.outputs if layer.rectified else layer.outputs.abs()
        total = size + self.epsilon
        ratio = torch.div(size, total, out=total)
        return lambda g: layer.transposed(g * ratio, layer.weight, layer.destination)


@dataclass(frozen=True)
class ZPlus:
    """z+: only what pushes an output up gets relevance; `bias=False` leaves the positive bias out of the shares.

    Source: Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008; epsilon: zennit's default.
    """

    epsilon: float = 1e-6
    bias: bool = True
    pixels: ClassVar[bool] = False
    gates: ClassVar[bool] = True

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
    gates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raises: ValueError when α and β do not differ by 1, or one is negative."""
        if self.alpha < 0 or self.beta < 0 or not math.isclose(self.alpha - self.beta, 1):
            raise ValueError(f"expected alpha - beta = 1, both at least 0, got alpha={self.alpha}, beta={self.beta}")

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs."""
        bias = layer.bias if self.bias else None
        raised = _raised(layer, bias, self.epsilon)
        lowered = _lowered(layer, raised, bias, self.epsilon) if self.beta else None
        up = _ratio(layer, raised, self.epsilon)
        if lowered is None:
            return lambda g: _to_raising(layer, g * up)
        down = _ratio(layer, lowered, self.epsilon)
        if not layer.nonnegative:
            return lambda g: (
                _to_raising(layer, g * up).mul_(self.alpha).sub_(_to_lowering(layer, g * down), alpha=self.beta)
            )
        favoured = layer.once((self, "up"), lambda: self.alpha * layer.positive)
        against = layer.once((self, "down"), lambda: -self.beta * layer.negative)
        return lambda g: layer.transposed_sum(g, (up, favoured), (down, against), layer.destination)


def _raised(layer: Layer, bias: Tensor | None, epsilon: float) -> Tensor:
    """What pushes each output up, added up, the bias where it does, and epsilon."""
    inputs = layer.inputs
    offset = layer.weight.new_full((len(layer.weight),), epsilon) if bias is None else bias.clamp(min=0) + epsilon
    if layer.nonnegative:
        return layer.forward(inputs, layer.positive, offset)
    total = layer.forward(inputs.clamp(min=0), layer.positive, offset)
    return total.add_(layer.forward(inputs.clamp(max=0), layer.negative))


def _lowered(layer: Layer, raised: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
    """What pushes each output down, added up, and -epsilon: the rest of the output, where relevance is not 0."""
    rest = layer.outputs - raised
    if bias is None and layer.bias is not None:
        rest.sub_(layer.per_output(layer.bias))
    return rest.clamp_(max=-epsilon)


def _to_raising(layer: Layer, shares: Tensor) -> Tensor:
    """R / inputs where `shares` go to what pushes the outputs up."""
    if layer.nonnegative:
        return layer.transposed(shares, layer.positive, layer.destination)
    return torch.where(layer.inputs >= 0, *layer.transposed_pair(shares, layer.positive, layer.negative))


def _to_lowering(layer: Layer, shares: Tensor) -> Tensor:
    """R / inputs where `shares` go to what pushes the outputs down, for inputs of either sign."""
    return torch.where(layer.inputs >= 0, *layer.transposed_pair(shares, layer.negative, layer.positive))


def _ratio(layer: Layer, total: Tensor, epsilon: float) -> Tensor:
    """Outputs / total, which takes its memory; 0 where the total is 0, as it can be without an epsilon."""
    ratio = torch.div(layer.outputs, total, out=total)
    return ratio if epsilon else ratio.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class Gamma:
    """γ: LRP-0 with positive parts favoured by 1 + γ, for outputs of either sign.

    Source: Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10, extended to negative outputs by zennit (whose
    defaults gamma and epsilon are).
    """

    gamma: float = 0.25
    epsilon: float = 1e-6
    pixels: ClassVar[bool] = False
    gates: ClassVar[bool] = True

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to R / inputs.

        With u and d what pushes an output z up and down, z = u + d, the total of z > 0 is z + γu, that of z < 0 is
        z + γd; and u, d = (z ± Σ|input × weight| ± |bias|) / 2. So one pass with |weight| serves both.
        """
        even, odd = 1 + self.gamma / 2, self.gamma / 2
        bias = None if layer.bias is None else layer.bias.abs()
        inputs = layer.inputs if layer.nonnegative else layer.inputs.abs()
        total = layer.forward(inputs, layer.magnitude, bias).mul_(odd)
        size = layer.outputs if layer.rectified else layer.outputs.abs()
        ratio = _ratio(layer, total.add_(size, alpha=even).add_(self.epsilon), self.epsilon)
        if layer.rectified and layer.nonnegative:
            up = layer.once(self, lambda: even * layer.weight + odd * layer.magnitude)
            return lambda g: layer.transposed(g * ratio, up, layer.destination)
        return partial(self._either_sign, layer, ratio, ratio.abs())

    def _either_sign(self, layer: Layer, ratio: Tensor, size: Tensor, g: Tensor) -> Tensor:
        plain = layer.once((self, "plain"), lambda: (1 + self.gamma / 2) * layer.weight)
        magnitude = layer.once((self, "magnitude"), lambda: self.gamma / 2 * layer.magnitude)
        if layer.nonnegative:
            return layer.transposed_sum(g, (size, plain), (ratio, magnitude), layer.destination)
        favoured = layer.transposed(g * ratio, magnitude)
        return layer.transposed(g * size, plain).add_(torch.where(layer.inputs >= 0, favoured, -favoured))


@dataclass(frozen=True)
class Pass:
    """pass: relevance goes through unchanged; what every activation function does. For layers of equal shape.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140.
    """

    pixels: ClassVar[bool] = True
    gates: ClassVar[bool] = True

    def __call__(self, layer: Layer) -> Propagation:
        """The function from g = R / outputs to the relevance of the inputs.

        Raises: ValueError when inputs and outputs differ in shape.
        """
        if layer.inputs.shape != layer.outputs.shape:
            raise ValueError(
                f"pass needs a layer whose outputs have the shape of its inputs, got {tuple(layer.inputs.shape)} -> "
                f"{tuple(layer.outputs.shape)}: give this layer another rule"
            )
        return lambda g: g * layer.outputs
