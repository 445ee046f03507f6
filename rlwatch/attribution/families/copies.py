"""Changed copies of observations, and what the network says to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from rlwatch.attribution.targets import Score

Ask = Callable[[Tensor], Tensor]
"""The Q-values (probe, action) of observations."""

Gradient = Callable[[Tensor, Tensor], Tensor]
"""The gradient of Σ weights · q with respect to the observations, for observations and weights (probe, action)."""

Edit = Callable[[int, Tensor], Tensor]
"""The changed copies of the observation of this number that have these numbers."""

Baseline = float | str | Tensor


def action_weights(score: Score, q_values: Float[Tensor, "probe action"]) -> Float[Tensor, "probe action"]:
    """How much each action counts in `score`: score(q) = Σ weights · q, with the greedy action as it is at `q_values`.

    Methods that change the picture take these, not the score: a change that makes another action the best one must not
    change what is explained.

    Raises: ValueError when the score is not linear in the Q-values once the greedy action is fixed.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = q_values.detach().clone().requires_grad_()
        scores = score(leaf)
        (weights,) = torch.autograd.grad(scores.sum(), leaf)
    if not torch.allclose((weights * leaf).sum(1), scores, rtol=1e-3, atol=1e-4 * float(leaf.detach().abs().max())):
        raise ValueError("expected a score that is a weighted sum of Q-values, got another: use a method of gradients")
    return weights


def reference(observations: Real[Tensor, "probe stack y x"], baseline: Baseline) -> Float[Tensor, "probe stack y x"]:
    """What stands where something was removed: a number (0: black), "mean" of each stacked frame, or a background.

    Raises: ValueError for another word, what is not finite, or a background of another shape than the observations;
        TypeError for what is no number.
    """
    values = floating(observations)
    if isinstance(baseline, str):
        if baseline != "mean":
            raise ValueError(f"expected as baseline a number, 'mean' or a tensor, got {baseline!r}")
        baseline = values.mean((2, 3), keepdim=True)
    if baseline is None:
        raise TypeError("expected as baseline a number, 'mean' or a tensor, got None: leave it out for black")
    filled = torch.as_tensor(baseline, dtype=values.dtype, device=values.device)
    if not filled.isfinite().all():
        raise ValueError("expected a finite baseline, got NaN or infinity: give a number, 'mean' or a background")
    try:
        return filled.expand_as(values)
    except RuntimeError as error:
        raise ValueError(
            f"expected a background that broadcasts to the observations' {tuple(values.shape)} (probe, stack, y, x), "
            f"got {tuple(filled.shape)}"
        ) from error


def ask_copies(
    ask: Ask, observations: Real[Tensor, "probe stack y x"], edit: Edit, copies: int, batch_size: int
) -> Float[Tensor, "probe copy action"]:
    """The Q-values of `copies` changed copies of each observation.

    The network gets copies of one observation at a time, at most `batch_size`, in the type of the observations.

    Raises: ValueError when `batch_size` is less than 1.
    """
    numbers = _in_batches(copies, batch_size, observations.device)
    with torch.no_grad():
        asked = [
            ask(_in_unit(edit(probe, some), observations)) for probe in range(len(observations)) for some in numbers
        ]
    q_values = torch.cat(asked)
    return q_values.view(len(observations), copies, q_values.shape[1])


def ask_in_batches(
    ask: Ask, observations: Real[Tensor, "probe stack y x"], batch_size: int
) -> Float[Tensor, "probe action"]:
    """The Q-values of the observations as they are.

    Raises: ValueError when `batch_size` is less than 1.
    """
    numbers = _in_batches(len(observations), batch_size, observations.device)
    with torch.no_grad():
        return torch.cat([ask(observations[some]) for some in numbers])


def _in_batches(count: int, batch_size: int, device: torch.device) -> tuple[Tensor, ...]:
    """The numbers up to `count`, as many at a time as the network gets."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    return torch.split(torch.arange(count, device=device), batch_size)


def blurred(values: Float[Tensor, "probe stack y x"], sigma: float) -> Float[Tensor, "probe stack y x"]:
    """Every frame under a Gaussian blur, mirrored at its borders."""
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415 - takes long to load, and only blurs need it

    rows, columns = (
        torch.as_tensor(gaussian_filter1d(np.eye(size), sigma, axis=0)).to(values) for size in values.shape[2:]
    )
    return torch.einsum("Yy,psyx,Xx->psYX", rows, values, columns)


def between(size: int, points: int, stride: int) -> Float[Tensor, "size points"]:
    """The matrix that interpolates from every `stride`-th of `size` pixels; behind the last its value stands."""
    distances = (torch.arange(size)[:, None] - stride * torch.arange(points)).abs().double()
    tents = (1 - distances / stride).clamp(min=0)
    return tents / tents.sum(1, keepdim=True)


def floating(observations: Tensor) -> Tensor:
    """The observations as floating numbers of the same unit."""
    return observations if observations.is_floating_point() else observations.float()


def _in_unit(copies: Tensor, observations: Tensor) -> Tensor:
    if observations.is_floating_point():
        return copies
    limits = torch.iinfo(observations.dtype)
    return copies.round().clamp(limits.min, limits.max).to(observations.dtype)
