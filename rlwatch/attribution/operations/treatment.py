"""How an operation on a signal is run so that relevance passes it rightly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rlwatch.attribution.operations import known
from rlwatch.attribution.operations.activations import (
    as_probability,
    by_a_vector,
    pass_through,
    through_gate,
    through_rrelu,
)
from rlwatch.attribution.operations.known import name_of, tensors_in
from rlwatch.attribution.operations.refusal import Refusal

Treatment = Callable[..., Callable[..., Any]]
"""From an operation and its arguments to what is run for it."""


def treatment(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], carriers: list[Tensor], *, true_gradient: bool
) -> Callable[..., Any]:
    """What is run for `func`, called `name`, when `carriers` among its arguments carry relevance.

    Raises: NotImplementedError when nothing is known about it.
    """
    if name in known.LEAVING and not (true_gradient and name in known.SINGLE):
        raise Refusal(f"Tensor.{name}, which takes numbers out of the network")
    if name in known.BY_MEMORY:
        raise Refusal(f"Tensor.{name}, which goes by memory", "let the network use unfold, reshape or permute instead")
    if name in EVALUATED:
        return partial(EVALUATED[name], func, true_gradient=true_gradient)
    if name in known.PIECEWISE_LINEAR | known.LINEARISED | known.QUESTIONS:
        return known.VIEWS.get(name, func)
    if true_gradient:
        return partial(differentiated, func) if "::" in name else func
    found = _scaling(func, name, args, carriers) or _alone(func, name, args, carriers)
    if found is None:
        raise Refusal("a product of two signals" if name in known.SCALINGS else name)
    return found


def _scaling(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], carriers: list[Tensor]
) -> Callable[..., Any] | None:
    """What is linear while but one of its arguments carries relevance."""
    if name.endswith("__get__"):
        return partial(without_signal, func)
    if len(carriers) != 1:
        return None
    linear = name in known.LINEAR_MAPS | known.WEIGHTED_SUMS
    linear |= name in known.SCALINGS and ("div" not in name or (bool(args) and carriers[0] is args[0]))
    linear |= name in known.PRODUCTS and by_a_vector(args, carriers[0])
    if not linear:
        return None
    return partial(without_rounding, func) if "div" in name else func


def _alone(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], carriers: list[Tensor]
) -> Callable[..., Any] | None:
    """What acts on one signal, its first argument."""
    if len(carriers) != 1 or not args or carriers[0] is not args[0]:
        return None
    if name in known.ACTIVATIONS:
        return partial(pass_through, func)
    return partial(as_probability, func) if name in known.EXPONENTIALS else TREATED.get(name)


def through_layer_norm(
    input: Tensor,  # noqa: A002 - torch's name
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
    input: Tensor,  # noqa: A002 - torch's name
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
    input: Tensor,  # noqa: A002 - torch's name
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
    input: Tensor,  # noqa: A002 - torch's name
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,  # noqa: ARG001 - explained as in evaluation
    momentum: float = 0.1,  # noqa: ARG001 - nothing is updated
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


def through_instance_norm(
    function: Callable[..., Tensor],  # noqa: ARG001 - every one of EVALUATED gets it
    values: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,  # noqa: ARG001 - explained as in evaluation
    momentum: float = 0.1,  # noqa: ARG001 - nothing is updated
    eps: float = 1e-5,
    *,
    true_gradient: bool,
) -> Tensor:
    """Instance normalisation by its running statistics where it keeps them, else by a deviation that is a constant.

    The derivative is that of a group normalisation: torch's own is wrong for one observation whose channels lie last.
    """
    if running_mean is not None:
        return affine(values, *batch_norm_factors(values, running_mean, running_var, weight, bias, eps=eps))
    if true_gradient:
        return functional.group_norm(values, values.shape[1], weight, bias, eps)
    return through_group_norm(values, values.shape[1], weight, bias, eps)


def without_dropout(function: Callable[..., Any], *args: Any, true_gradient: bool, **kwargs: Any) -> Any:
    """What a function that drops numbers within itself in training returns in evaluation.

    Of what it is given in order, the part that is dropped is the only fraction.

    Raises: NotImplementedError when it is to be more than differentiated.
    """
    if not true_gradient:
        raise Refusal(name_of(function))
    args = tuple(0.0 if isinstance(one, float) else one for one in args)
    return function(*args, **kwargs | ({"dropout_p": 0.0} if "dropout_p" in kwargs else {}))


EVALUATED: dict[str, Callable[..., Any]] = {
    "rrelu": through_rrelu,
    "rrelu_": through_rrelu,
    "instance_norm": through_instance_norm,
    **dict.fromkeys(("multi_head_attention_forward", "scaled_dot_product_attention"), without_dropout),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), without_dropout),
}
"""What acts otherwise in training."""

TREATED = NORMALISATIONS | {"glu": through_gate}


def differentiated(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What an operator of another library returns.

    Raises: NotImplementedError when autograd has no derivative of it, and would take it for constant.
    """
    result = function(*args, **kwargs)
    if any("NotImplemented" in one.grad_fn.name() for one in tensors_in(result) if one.grad_fn is not None):
        raise Refusal(name_of(function))
    return result


def without_rounding(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """The quotient.

    Raises: NotImplementedError when it is rounded.
    """
    if kwargs.get("rounding_mode") is not None:
        raise Refusal(f"{name_of(function)} that rounds")
    return function(*args, **kwargs)


def without_signal(function: Callable[..., Any], *args: Any) -> Any:
    """The value of a property that is no signal.

    Raises: NotImplementedError when it is one.
    """
    result = function(*args)
    if any(tensor.is_floating_point() for tensor in tensors_in(result)):
        raise Refusal(f"Tensor.{name_of(function).removesuffix('__get__')}")
    return result
