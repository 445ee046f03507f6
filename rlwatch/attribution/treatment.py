"""How an operation on a signal is run so that relevance passes it rightly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlwatch.attribution import operations
from rlwatch.attribution.operations import in_place, name_of, tensors_in
from rlwatch.attribution.signals import Refusal

Treatment = Callable[..., Callable[..., Any]]
"""From an operation and its arguments to what is run for it."""


def treatment(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], carriers: list[Tensor], *, true_gradient: bool
) -> Callable[..., Any]:
    """What is run for `func`, called `name`, when `carriers` among its arguments carry relevance.

    Raises: NotImplementedError: nothing is known about it.
    """
    if name in operations.LEAVING and not (true_gradient and name in operations.SINGLE):
        raise Refusal(f"Tensor.{name}, which takes numbers out of the network")
    if name in operations.PIECEWISE_LINEAR | operations.LINEARISED | operations.QUESTIONS:
        return operations.VIEWS.get(name, func)
    if true_gradient:
        return partial(without_drawing, func)
    if name.endswith("__get__"):
        return partial(without_signal, func)
    alone = len(carriers) == 1 and bool(args) and carriers[0] is args[0]
    sums = name in operations.LINEAR_MAPS | operations.WEIGHTED_SUMS
    if len(carriers) == 1 and (sums or (name in operations.SCALINGS and (alone or "div" not in name))):
        return func
    if alone and name in operations.ACTIVATIONS:
        return partial(pass_through, func)
    if alone and name in NORMALISATIONS:
        return NORMALISATIONS[name]
    raise Refusal("a product of two signals" if name in operations.SCALINGS else name)


def through_layer_norm(
    input: Tensor,  # noqa: A002  (torch's name)
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalisation whose standard deviation is a constant.

    Source: Ali et al. 2022, arXiv 2202.07304.
    """
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    scaled = centred * (centred.detach().square().mean(axes, keepdim=True) + eps).rsqrt()
    return _affine(scaled, weight, bias)


def through_group_norm(
    input: Tensor,  # noqa: A002  (torch's name)
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Group normalisation whose standard deviation is a constant."""
    groups = input.reshape(len(input), num_groups, -1)
    scaled = through_layer_norm(groups, (groups.shape[-1],), eps=eps).reshape(input.shape)
    shape = (1, -1, *[1] * (input.ndim - 2))
    return _affine(scaled, *(None if each is None else each.view(shape) for each in (weight, bias)))


def through_rms_norm(
    input: Tensor,  # noqa: A002  (torch's name)
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Root-mean-square normalisation whose root is a constant."""
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(input * (input.detach().square().mean(axes, keepdim=True) + eps).rsqrt(), weight, None)


def _affine(values: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    values = values if weight is None else values * weight
    return values if bias is None else values + bias


NORMALISATIONS: dict[str, Callable[..., Tensor]] = {
    "layer_norm": through_layer_norm,
    "group_norm": through_group_norm,
    "rms_norm": through_rms_norm,
}


def batch_norm_factors(
    input: Tensor,  # noqa: A002  (torch's name)
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,  # noqa: ARG001  (explained as in evaluation)
    momentum: float = 0.1,  # noqa: ARG001  (nothing is updated)
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel of batch normalisation in evaluation; of this batch if no statistics are kept."""
    axes = [axis for axis in range(input.ndim) if axis != 1]
    values = input.detach()
    mean = values.mean(axes) if running_mean is None else running_mean.detach()
    variance = values.var(axes, unbiased=False) if running_var is None else running_var.detach()
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias.detach()


def affine(values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`values` scaled and shifted per channel."""
    shape = (1, -1, *[1] * (values.ndim - 2))
    return values * scale.view(shape) + shift.view(shape)


def pass_through(function: Callable[..., Tensor], values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An activation function as a constant factor, output / input; 0 where the input is 0."""
    inputs = values.detach()
    outputs = function(inputs.clone(), *args, **kwargs)
    factor = torch.where(inputs == 0, 0, outputs / inputs)
    return values.mul_(factor) if in_place(name_of(function), kwargs) else values * factor


def without_drawing(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a function that may draw random numbers; the global generators end where they began."""
    devices = {tensor.device.index or 0 for tensor in tensors_in((args, kwargs)) if tensor.device.type == "cuda"}
    with torch.random.fork_rng(devices=devices):
        return function(*args, **kwargs)


def without_signal(function: Callable[..., Any], *args: Any) -> Any:
    """The value of a property that is no signal.

    Raises: NotImplementedError: it is one.
    """
    result = function(*args)
    if any(tensor.is_floating_point() for tensor in tensors_in(result)):
        raise Refusal(f"Tensor.{name_of(function).removesuffix('__get__')}")
    return result
