"""Methods that look up the gradient at other pictures than the observed one.

They share one signature, `method(gradient, observations, weights, *, …)`. `gradient(observations, weights)` is that of
Σ weights · q; `weights` are those of `action_weights`, so the explained action stays the same along the way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from rlwatch.attribution.families.copies import Baseline, Gradient, reference

Place = Callable[[slice, Tensor], Float[Tensor, "probe number stack y x"]]
"""The pictures of these numbers for some of the probes."""


def simple_taylor(
    gradient: Gradient,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    root: float = 1e-3,
    baseline: Baseline = 0.0,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """Gradient at the root point × (observation − root point), in Q units; what the score is not linear in is absorbed.

    The root point is `baseline + root · (observation − baseline)`. Towards 0 it is the published limit ε · x, a
    true root of the score only in a network without biases; there the map is (1 − root) · gradient × input.
    With biases, the slope close to black knows little of what is on the screen: give a background as `baseline`.

    Raises: ValueError for a root outside (0, 1); TypeError for observations that are no floating numbers.
    Source: Montavon et al. 2018, doi 10.1016/j.dsp.2017.10.011.
    """
    if not 0 < root < 1:
        raise ValueError(f"root must lie in (0, 1), got {root}: at 0 itself a ReLU without bias has no slope")
    start, way = way_from(observations, baseline)
    at_root = _mean_gradient(
        gradient, start, weights, lambda some, _: (start[some] + root * way[some])[:, None], torch.ones(1), batch_size
    )
    return (1 - root) * way * at_root


def smoothgrad(
    gradient: Gradient,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    samples: int = 50,
    sigma: float = 0.15,
    times_input: bool = True,
    generator: torch.Generator | None = None,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """Mean gradient over `samples` noisy copies × input, in Q units; it adds up to nothing in particular.

    The noise is Gaussian, `sigma` times the range of the observation's pixels, drawn from `generator` (None: an own one
    of seed 0) once for all observations, so that no map depends on its neighbours. They show the mean gradient itself
    (`times_input=False`); we multiply by the input, as black pixels hold nothing that speaks for an action.

    Raises: TypeError for observations that are no floating numbers; ValueError for no samples.
    Source: Smilkov et al. 2017, arXiv 1706.03825 (10 to 20 % noise, 50 samples).
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    _refuse_integers(observations)
    generator = generator or torch.Generator().manual_seed(0)
    noise = torch.empty(samples, *observations.shape[1:], dtype=observations.dtype, device=generator.device)
    for sample in noise:
        sample.normal_(generator=generator)
    noise = noise.to(observations.device)
    spread = sigma * (observations.amax((1, 2, 3), keepdim=True) - observations.amin((1, 2, 3), keepdim=True))
    slopes = _mean_gradient(
        gradient,
        observations,
        weights,
        lambda some, samples: torch.addcmul(observations[some, None], spread[some, None], noise[samples]),
        torch.full((samples,), 1 / samples, dtype=torch.float64),
        batch_size,
    )
    return slopes * observations if times_input else slopes


def integrated_gradients(
    gradient: Gradient,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    steps: int = 50,
    baseline: Baseline = 0.0,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """Mean gradient on the straight way from `baseline` × the way, in Q units; sums to score − score(baseline).

    They take sums of 20 to 300 equal steps; we take the Gauss–Legendre points, which come closer with as many: 50 leave
    about a thousandth of Σ |relevance| in a ReLU network, nothing in a smooth one.

    Raises: TypeError for observations that are no floating numbers; ValueError for no steps.
    Source: Sundararajan et al. 2017, arXiv 1703.01365, equation 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    start, way = way_from(observations, baseline)
    places, shares = (torch.from_numpy(each / 2) for each in np.polynomial.legendre.leggauss(steps))
    along = (places + 0.5).to(way)[:, None, None, None]
    return way * _mean_gradient(
        gradient,
        start,
        weights,
        lambda some, numbers: torch.addcmul(start[some, None], along[numbers], way[some, None]),
        shares,
        batch_size,
    )


def _mean_gradient(
    gradient: Gradient,
    observations: Float[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    place: Place,
    shares: Tensor,
    batch_size: int,
) -> Float[Tensor, "probe stack y x"]:
    """The mean by `shares` of the gradients at the pictures of `place`, `batch_size` of them at a time."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    total = torch.zeros_like(observations, memory_format=torch.contiguous_format)
    shares = shares.to(total)
    together = max(1, batch_size // len(shares))
    for first in range(0, len(total), together):
        some = slice(first, first + together)
        for numbers in torch.split(torch.arange(len(shares), device=total.device), batch_size):
            pictures = place(some, numbers)
            slopes = gradient(pictures.flatten(0, 1), weights[some].repeat_interleave(len(numbers), 0))
            means = shares[numbers] @ slopes.reshape(*pictures.shape[:2], -1)
            total[some] += means.view_as(total[some])
    return total


def way_from(observations: Tensor, baseline: Baseline) -> tuple[Tensor, Tensor]:
    """The baseline and the way from it to the observations.

    Raises: TypeError for observations that are no floating numbers.
    """
    _refuse_integers(observations)
    start = reference(observations, baseline)
    return start, observations - start


def _refuse_integers(observations: Tensor) -> None:
    if not observations.is_floating_point():
        raise TypeError(
            f"expected floating observations, between whose levels lie others, got {observations.dtype}: take the "
            "input of the first layer, or observations.float()"
        )
