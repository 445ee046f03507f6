"""Methods that hide features in many combinations and share the score out among them.

They share the signature of `perturbation`, with `features` from `superpixels`: `grid` (by default) or `objects`. A
hidden feature shows the `baseline`. A feature's value lies in equal parts on its pixels: it is their sum.
"""

from __future__ import annotations

from math import comb

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from rlwatch.attribution.families.copies import Ask, Baseline, ask_copies, floating, reference
from rlwatch.attribution.families.superpixels import checked, grid, spread


def lime(
    ask: Ask,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    features: Int[Tensor, "probe stack y x"] | None = None,
    baseline: Baseline = 0.0,
    samples: int = 1000,
    kernel_width: float = 0.25,
    ridge: float = 1.0,
    generator: torch.Generator | None = None,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """What each feature adds to the score in the linear model that fits best near the picture, in Q units.

    Each feature is hidden in about half of the `samples`; these weigh exp(−d² / (2 · kernel_width²)), d being the
    cosine distance to nothing hidden; `ridge` shrinks the values, whose sum is nothing in particular. They hide by a
    superpixel's mean colour, we by the baseline. Combinations come from `generator` (None: an own one of seed 0) and
    are the same for all observations.

    Raises: ValueError for no samples, or features that are not as of `superpixels`.
    Source: Ribeiro et al. 2016, doi 10.1145/2939672.2939778; numbers as in the authors' package `lime`, for images.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    features = grid(observations) if features is None else checked(features, observations)
    generator = generator or torch.Generator().manual_seed(0)
    shown = torch.randint(2, (samples, _count(features)), generator=generator, device=generator.device).bool()
    shown[0] = True
    scores = _scores(ask, observations, weights, features, shown, baseline, batch_size)
    return spread(_linear_model(shown.to(scores), scores, kernel_width, ridge).T.to(weights), features)


def shap(
    ask: Ask,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    features: Int[Tensor, "probe stack y x"] | None = None,
    baseline: Baseline = 0.0,
    samples: int = 2048,
    generator: torch.Generator | None = None,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """The Shapley value of each feature, in Q units; they sum to score − score(everything hidden).

    Exact where all combinations are no more than `samples` (2048: up to 11 features). Else KernelSHAP: combinations
    come from `generator` (None: an own one of seed 0), each with its complement, the same for all observations; the
    values are the least squares that keep the sum. A feature without pixels has the value 0, when sampled about 0.

    Raises: ValueError for fewer samples than twice the features and two, or features that are not as of `superpixels`.
    Source: Lundberg & Lee 2017, arXiv 1705.07874, theorem 2 (the package `shap` takes 2048 + 2 · features samples);
    complements and the closed form: Covert & Lee 2021, arXiv 2012.01536.
    """
    features = grid(observations) if features is None else checked(features, observations)
    count = _count(features)
    exact = 2**count <= samples
    shown = _all_combinations(count) if exact else _paired_combinations(count, samples, generator)
    scores = _scores(ask, observations, weights, features, shown, baseline, batch_size)
    values = (_shapley_matrix(count).to(scores) @ scores) if exact else _kernel_shap(shown.to(scores), scores)
    return spread(values.T.to(weights), features)


def _scores(
    ask: Ask,
    observations: Tensor,
    weights: Tensor,
    features: Tensor,
    shown: Bool[Tensor, "combination feature"],
    baseline: Baseline,
    batch_size: int,
) -> Float[Tensor, "combination probe"]:
    """The score with nothing but the `shown` features, for the fits on the CPU and in double precision."""
    values, filling = floating(observations), reference(observations, baseline)
    amounts = shown.to(values)

    def edit(probe: int, copies: Tensor) -> Tensor:
        visible = amounts[copies].index_select(1, features[probe].flatten()).view(-1, *features.shape[1:])
        return torch.lerp(filling[probe], values[probe], visible)

    q_values = ask_copies(ask, observations, edit, len(amounts), batch_size).cpu().double()
    return torch.einsum("pca,pa->cp", q_values, weights.cpu().double())


def _linear_model(shown: Tensor, scores: Tensor, kernel_width: float, ridge: float) -> Float[Tensor, "feature probe"]:
    """Ridge regression with a free intercept, weighted by nearness."""
    distance = 1 - shown.mean(1).sqrt()
    nearness = torch.exp(-distance.square() / (2 * kernel_width**2))[:, None]
    inputs, outputs = (each - (nearness * each).sum(0) / nearness.sum() for each in (shown, scores))
    penalty = ridge * torch.eye(shown.shape[1]).to(shown)
    solution: Tensor = torch.linalg.solve(inputs.T @ (nearness * inputs) + penalty, inputs.T @ (nearness * outputs))
    return solution


def _all_combinations(count: int) -> Bool[Tensor, "combination feature"]:
    return ((torch.arange(2**count)[:, None] >> torch.arange(count)) & 1).bool()


def _shapley_matrix(count: int) -> Float[Tensor, "feature combination"]:
    """The matrix that makes Shapley values of the scores of `_all_combinations`."""
    shown = _all_combinations(count)
    others = shown.sum(1, keepdim=True) - shown.long()
    share = torch.tensor([1 / (count * comb(count - 1, size)) for size in range(count)], dtype=torch.float64)
    return torch.where(shown, share[others], -share[others]).T


def _paired_combinations(
    count: int, samples: int, generator: torch.Generator | None
) -> Bool[Tensor, "combination feature"]:
    """Nothing, everything, then combinations as likely as the Shapley kernel weighs them, and their complements."""
    if samples < 2 * count + 2:
        raise ValueError(
            f"{count} features need at least {2 * count + 2} samples, got {samples}: take more, or larger superpixels"
        )
    generator = generator or torch.Generator().manual_seed(0)
    sizes = torch.arange(1, count, device=generator.device)
    pairs = samples // 2 - 1
    drawn = 1 + torch.multinomial(1 / (sizes * (count - sizes)), pairs, replacement=True, generator=generator)
    order = torch.rand(pairs, count, generator=generator, device=generator.device).argsort(1).argsort(1)
    chosen = order < drawn[:, None]
    ends = torch.tensor([[False], [True]], device=chosen.device).expand(2, count)
    return torch.cat([ends, chosen, ~chosen])


def _kernel_shap(shown: Tensor, scores: Tensor) -> Float[Tensor, "feature probe"]:
    """Least squares over the drawn combinations, under the condition that the values sum to everything − nothing."""
    nothing, everything, gains = scores[0], scores[1], scores[2:] - scores[0]
    drawn = shown[2:]
    inverse = torch.linalg.pinv(drawn.T @ drawn / len(drawn), hermitian=True)
    free = inverse @ (drawn.T @ gains / len(drawn))
    correction = inverse.sum(1, keepdim=True)
    values: Tensor = free - correction * (free.sum(0) - (everything - nothing)) / correction.sum()
    return values


def _count(features: Tensor) -> int:
    return int(features.max()) + 1
