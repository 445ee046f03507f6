"""Meaningful perturbation: the mask that takes a score away, learnt by gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn import functional

from rlwatch.attribution.families.copies import Ask, Gradient, between, blurred


def meaningful_perturbation(
    ask: Ask,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    gradient: Gradient,
    steps: int = 300,
    rate: float = 0.1,
    area: float = 3e-3,
    roughness: float = 1e-3,
    power: float = 3.0,
    cell: int = 3,
    sigma: float = 3.75,
    jitter: int = 1,
    frame_by_frame: bool = False,
    generator: torch.Generator | None = None,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """How much of a pixel goes in the smallest smooth blur that takes the score away: 0 nothing, 1 all of it.

    A mask with a number for every `cell`-th pixel, interpolated between, is learnt by Adam (`steps`, `rate`); it pays
    `area` for what it blurs (Gaussian, `sigma`) and `roughness` for differences to the `power` between neighbours. Each
    step shifts the picture by up to `jitter` pixels, drawn from `generator` (None: an own one of seed 0). The map adds
    up to nothing and has no sign. They explain a probability; a score has no such scale, so it is divided by what the
    full blur changes. Their lengths are for 224 pixels (cell 8, σ 10, jitter 4), these are for 84; their penalties
    (1e-4, 1e-2) would blur a third of an Atari picture, on which things are small.

    Raises: TypeError for observations that are no floating numbers; ValueError for a power below 1.
    Source: Fong & Vedaldi 2017, arXiv 1704.03296.
    """
    if not observations.is_floating_point():
        raise TypeError(f"a mask fades pixels: expected floating observations, got {observations.dtype}: .float() them")
    if power < 1:
        raise ValueError(f"power must be at least 1, got {power}: below, equal neighbours have no slope between them")
    generator = generator or torch.Generator().manual_seed(0)
    shifts = torch.randint(-jitter, jitter + 1, (steps, 2), generator=generator, device=generator.device).tolist()
    sides = tuple(between(size, -(-size // cell), cell).to(observations) for size in observations.shape[2:])
    maps = []
    for chunk, weight in zip(torch.split(observations, batch_size), torch.split(weights, batch_size), strict=True):
        veil = blurred(chunk, sigma)
        scaled = _scaled(ask, chunk, veil, weight)
        picture, veil = (functional.pad(values, [jitter] * 4, mode="replicate") for values in (chunk, veil))
        fading = _Fading(gradient, picture, veil, scaled, sides, jitter, frame_by_frame)

        def slope_of(mask: Tensor, shift: list[int], fading: _Fading = fading) -> Tensor:
            return fading.slope(mask, shift) + _penalty_slope(mask, area, roughness, power)

        maps.append(fading.upsampled(1 - _adam(fading.untouched, slope_of, shifts, rate)).expand(chunk.shape))
    return torch.cat(maps)


def _scaled(ask: Ask, picture: Tensor, veil: Tensor, weights: Tensor) -> Tensor:
    """Weights under which the veil changes the score by 1; 0 where it does not change it."""
    with torch.no_grad():
        change = ((ask(picture) - ask(veil)) * weights).sum(1, keepdim=True).abs()
    return torch.where(change > 0, weights / change, 0)


@dataclass(frozen=True)
class _Fading:
    """A picture that a mask fades between itself (1) and a veil (0); both are padded by `jitter` pixels."""

    gradient: Gradient
    picture: Tensor
    veil: Tensor
    weights: Tensor
    sides: tuple[Tensor, ...]
    jitter: int
    frame_by_frame: bool

    @property
    def untouched(self) -> Tensor:
        """The mask that leaves everything as it is."""
        frames = self.picture.shape[1] if self.frame_by_frame else 1
        return self.picture.new_ones(len(self.picture), frames, *(side.shape[1] for side in self.sides))

    def upsampled(self, mask: Tensor) -> Tensor:
        """The mask at every pixel."""
        return torch.einsum("ya,pfab,xb->pfyx", self.sides[0], mask, self.sides[1])

    def slope(self, mask: Tensor, shift: list[int]) -> Tensor:
        """The gradient of the scaled score with respect to the mask, the picture shifted by (y, x) pixels."""
        top, left = (self.jitter + step for step in shift)
        window = (..., slice(top, top + len(self.sides[0])), slice(left, left + len(self.sides[1])))
        picture, veil = self.picture[window], self.veil[window]
        faded = torch.lerp(veil, picture, self.upsampled(mask).expand_as(picture))
        slopes = self.gradient(faded, self.weights) * (picture - veil)
        slopes = slopes if self.frame_by_frame else slopes.sum(1, keepdim=True)
        return torch.einsum("ya,pfyx,xb->pfab", self.sides[0], slopes, self.sides[1])


def _penalty_slope(mask: Tensor, area: float, roughness: float, power: float) -> Tensor:
    """The gradient of area · Σ (1 − mask) + roughness · Σ |difference of neighbours|^power."""
    slope = torch.full_like(mask, -area)
    for axis in (2, 3):
        steps = mask.diff(dim=axis)
        pull = roughness * power * steps.abs().pow(power - 1) * steps.sign()
        slope.narrow(axis, 1, steps.shape[axis]).add_(pull)
        slope.narrow(axis, 0, steps.shape[axis]).sub_(pull)
    return slope


def _adam(
    mask: Tensor, slope_of: Callable[[Tensor, list[int]], Tensor], shifts: list[list[int]], rate: float
) -> Tensor:
    """The mask after a step of Adam for every shift, kept in [0, 1].

    Torch's own optimiser runs the hooks that a training may have registered for all optimisers.
    Source: Kingma & Ba 2015, arXiv 1412.6980, algorithm 1 with its defaults.
    """
    mean, square = torch.zeros_like(mask), torch.zeros_like(mask)
    for step, shift in enumerate(shifts, start=1):
        slope = slope_of(mask, shift)
        mean, square = mean.lerp(slope, 0.1), square.lerp(slope.square(), 0.001)
        spread = (square / (1 - 0.999**step)).sqrt() + 1e-8
        mask = (mask - rate * mean / (1 - 0.9**step) / spread).clamp(0, 1)
    return mask
