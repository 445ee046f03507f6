"""Functions of each number by itself, and products with a vector, run so that relevance passes them rightly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rlwatch.attribution.operations.known import in_place, name_of, tensors_in
from rlwatch.attribution.operations.refusal import Refusal

WIDE = {"mps": torch.float32}
"""Numbers in which f(x) − f(0) is taken, else double ones: a small x divides what rounding leaves of it."""


def pass_through(function: Callable[..., Tensor], values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An activation function as a factor and a bias, which are constants: f(x) = x · (f(x) − f(0)) / x + f(0).

    The bias absorbs its part, as that of a layer does; of most functions it is 0. The factor is 0 where x is 0.
    zennit hands R on as it is, also where f(0) is not 0; a layer below then divides it by an x close to 0.
    """
    inputs = values.detach()
    nothing = inputs.new_zeros(inputs.shape if tensors_in((args, kwargs)) else ())
    origin = function(nothing.clone(), *args, **kwargs)
    if origin.any():
        bias, wide = origin, inputs.to(WIDE.get(inputs.device.type, torch.float64))
        rise = function(wide.clone(), *args, **kwargs) - function(nothing.to(wide.dtype), *args, **kwargs)
        factor = torch.where(inputs == 0, 0, rise / wide).to(inputs.dtype)
    else:
        bias, factor = None, torch.where(inputs == 0, 0, function(inputs.clone(), *args, **kwargs) / inputs)
    writes = in_place(name_of(function), kwargs)
    result = values.mul_(factor) if writes else values * factor
    if bias is None:
        return result
    return result.add_(bias) if writes else result + bias


def as_probability(function: Callable[..., Tensor], values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The exponential of logarithms of probabilities, which is treated as the softmax that it is.

    Raises: NotImplementedError when it is another one.
    """
    whole = function(values.detach(), *args, **kwargs)
    totals = [whole.sum(axis) for axis in range(whole.ndim) if whole.shape[axis] > 1]
    if not any(torch.allclose(total, torch.ones_like(total)) for total in totals):
        raise Refusal(name_of(function))
    return function(values, *args, **kwargs)


def through_gate(input: Tensor, dim: int = -1) -> Tensor:  # noqa: A002 - torch's name
    """A gated linear unit, whose gate is a constant.

    Source: Arras et al. 2017, doi:10.18653/v1/W17-5221.
    """
    signal, gate = input.chunk(2, dim)
    return signal * gate.detach().sigmoid()


def through_rrelu(
    function: Callable[..., Tensor],
    values: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,  # noqa: ARG001 - explained as in evaluation
    *,
    true_gradient: bool,  # noqa: ARG001 - the same
    **inplace: bool,
) -> Tensor:
    """The randomised ReLU of the mean slope."""
    writes = in_place(name_of(function), inplace)
    return (functional.leaky_relu_ if writes else functional.leaky_relu)(values, (lower + upper) / 2)


def by_a_vector(args: tuple[Any, ...], carrier: Tensor) -> bool:
    """Whether what a signal is multiplied by has one axis, but for those along which it is repeated."""
    factors = [one for one in tensors_in(args) if one is not carrier]
    axes = [
        sum(size > 1 and stride != 0 for size, stride in zip(one.shape, one.stride(), strict=True)) for one in factors
    ]
    return bool(axes) and max(axes) <= 1
