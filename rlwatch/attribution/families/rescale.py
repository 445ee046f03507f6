"""DeepLIFT's rescale rule: how far a score lies from that of a baseline, carried back through every activation.

A pass takes the pictures and behind them their baselines, as many; linear maps propagate by their weights, activation
functions by the ratio of what differs behind them to what differs before them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn import functional

from rlwatch.attribution.families.copies import Baseline
from rlwatch.attribution.families.paths import way_from
from rlwatch.attribution.operations import known
from rlwatch.attribution.operations.known import in_place, name_of
from rlwatch.attribution.operations.treatment import NORMALISATIONS, treatment

Multipliers = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What a difference of pictures from their baselines is multiplied with, for pictures, baselines and weights."""

NEAR = 1e-10
"""Differences below which the derivative stands in for the ratio, as in captum."""

ELEMENTWISE = known.ACTIVATIONS | {"relu", "relu_", "leaky_relu", "leaky_relu_", "abs"}
REFUSED = (known.LINEARISED | known.CELLS | NORMALISATIONS.keys()) | {
    *("prelu", "max_pool1d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
    *("max", "min", "amax", "amin", "maximum", "minimum"),
    *("sort", "msort", "topk", "kthvalue", "median", "quantile"),
    *("exp", "glu", "rrelu", "rrelu_", "instance_norm"),
}


def deep_lift(
    multipliers: Multipliers,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    baseline: Baseline = 0.0,
    batch_size: int = 64,  # noqa: ARG001 - every method of queries gets it; two passes' worth is one here
) -> Float[Tensor, "probe stack y x"]:
    """Multiplier × (observation − baseline), in Q units; sums to score − score(baseline).

    Negative contributions pass as well as positive ones, so the map depends on the Q-head where positive-only rules of
    LRP hardly do. They give biases no part either: what they raise the baseline's score by is absorbed.

    Raises: TypeError for observations that are no floating numbers; NotImplementedError when the network holds an
        operation for which there is no rescale rule, or mixes observations.
    Source: Shrikumar et al. 2017, arXiv 1704.02685, section 3.5.1.
    """
    start, way = way_from(observations, baseline)
    return way * multipliers(observations, start, weights)


def rescaling(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], carriers: list[Tensor], *, true_gradient: bool
) -> Callable[..., Any]:
    """What is run for `func`, called `name`; as `treatment` where it is linear.

    Raises: NotImplementedError when there is no rescale rule for it.
    """
    alone = len(carriers) == 1 and bool(args) and carriers[0] is args[0]
    if alone and name in ELEMENTWISE:
        return partial(_elementwise, func)
    if alone and name == "max_pool2d":
        return _max_pool2d
    if name in REFUSED:
        raise _refusal(name)
    return treatment(func, name, args, carriers, true_gradient=true_gradient)


def _refusal(what: str) -> NotImplementedError:
    return NotImplementedError(
        f"deep_lift has no rule for {what}, which lies between the pixels and Q: use method='integrated_gradients'"
    )


def check_sums(relevance: Float[Tensor, "probe stack y x"], seen: Tensor, base: Tensor) -> None:
    """Raises: NotImplementedError when maps do not sum to score − score(baseline) by more than rounding explains."""
    size = relevance.abs().sum((1, 2, 3)) + torch.maximum(seen.abs(), base.abs())
    missing = (relevance.sum((1, 2, 3)) - (seen - base)).abs()
    if (missing > torch.finfo(seen.dtype).eps ** 0.5 * size).any():
        raise _refusal("what chooses by the numbers (where, masks, places of maxima) or mixes observations")


def _elementwise(function: Callable[..., Tensor], values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The function's values, with ΔOutput / ΔInput in the place of the derivative."""
    leaf = values.detach().clone().requires_grad_()
    computed = function(leaf.clone(), *args, **kwargs)
    (derivative,) = torch.autograd.grad(computed.sum(), leaf)
    inputs, outputs = leaf.detach(), computed.detach()
    before, behind = _difference(inputs), _difference(outputs)
    near = before.abs() < max(NEAR, torch.finfo(before.dtype).tiny)
    factor = torch.where(near, derivative[: len(before)], behind / before).repeat(2, *[1] * (inputs.ndim - 1))
    result = outputs + (values - inputs) * factor
    return values.copy_(result) if in_place(name_of(function), kwargs) else result


def _difference(values: Tensor) -> Tensor:
    pictures, baselines = values.chunk(2)
    return pictures - baselines


def _max_pool2d(
    input: Tensor,  # noqa: A002 - torch's name
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Max-pooling; what the picture's maximum lies above both goes to its place, the rest to that of the baseline's.

    Raises: NotImplementedError when the network asks for the places of the maxima too.
    Source: captum's DeepLift, with sums where windows overlap.
    """
    if return_indices:
        raise _refusal("max_pool2d that returns indices")
    settings = kernel_size, stride, padding, dilation, ceil_mode
    outputs, places = functional.max_pool2d(input.detach(), *settings, return_indices=True)
    (seen, base), (won, lost) = outputs.chunk(2), places.chunk(2)
    pixels = input.chunk(2)[0].flatten(2)
    before = _difference(input.detach()).flatten(2)
    top = torch.maximum(seen, base)

    def routed(place: Tensor, part: Tensor) -> Tensor:
        at = place.flatten(2)
        step = before.gather(2, at)
        factor = torch.where(step == 0, 0, part.flatten(2) / step)
        return ((pixels - pixels.detach()).gather(2, at) * factor).view_as(part)

    return torch.cat([seen + routed(won, top - base) + routed(lost, seen - top), base])
