"""Methods that change the picture and see what becomes of the Q-values.

They share one signature, `method(ask, observations, weights, *, …)`. `ask` gives the Q-values of observations.
`weights` says what is explained, see `action_weights`. Values lie in the unit of the observations; changed copies of
integer observations are rounded to it. Copies go to the network `batch_size` at a time.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor

from rlwatch.attribution.families.copies import (
    Ask,
    Baseline,
    ask_copies,
    ask_in_batches,
    between,
    blurred,
    floating,
    reference,
)


def occlusion(
    ask: Ask,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    patch: int = 8,
    stride: int = 4,
    baseline: Baseline = 0.0,
    frame_by_frame: bool = False,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """The mean loss of score over the patches that cover a pixel, in Q units; negative: the score rises without it.

    A patch is set to `baseline` (see `reference`) in all stacked frames at once, which then share the value;
    `frame_by_frame` covers one at a time. Maps add up to nothing. Patches at the lower and right border may be cut off.
    They slide grey squares; we take black ones, the ground of Atari, with the size and stride of Nature DQN's conv1.

    Raises: ValueError for a stride that leaves pixels uncovered.
    Source: Zeiler & Fergus 2014, doi 10.1007/978-3-319-10590-1_53.
    """
    if not 1 <= stride <= patch:
        raise ValueError(f"stride must lie between 1 and patch={patch} so that each pixel is covered, got {stride}")
    values = floating(observations)
    rows, columns = (_intervals(size, patch, stride).to(values) for size in values.shape[2:])
    masks = torch.einsum("ay,bx->abyx", rows, columns).flatten(0, 1)
    asked = _masked(ask, observations, reference(observations, baseline), masks, frame_by_frame, batch_size)
    losses = ((ask_in_batches(ask, observations, batch_size)[:, None, None] - asked) * weights[:, None, None]).sum(-1)
    return (torch.einsum("pfm,myx->pfyx", losses, masks) / masks.sum(0)).expand(values.shape)


def greydanus(
    ask: Ask,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    sigma: float = 3.0,
    spot: float = 5.0,
    stride: int = 5,
    all_actions: bool = True,
    frame_by_frame: bool = False,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """½‖ΔQ‖² where the picture is blurred around a pixel, never negative, in squared Q units; it adds up to nothing.

    The blur (Gaussian, `sigma`) fades in by a Gaussian `spot` on every `stride`-th pixel; between these the map is
    interpolated. All actions count alike, so this map is the same for every target: with `all_actions=False` it is half
    the squared change of the score. Frames are blurred together, see `occlusion`.

    Source: Greydanus et al. 2018, arXiv 1711.00138 (σ = 3, σ² = 25, every fifth pixel); on targets: Huber et al. 2022,
    arXiv 2101.07312.
    """
    asked = _blurred_spots(ask, observations, sigma, spot, stride, frame_by_frame, batch_size)
    changes = asked - ask_in_batches(ask, observations, batch_size)[:, None, None, None]
    if not all_actions:
        changes = (changes * weights[:, None, None, None]).sum(-1, keepdim=True)
    return _between_spots(changes.square().sum(-1) / 2, observations, stride)


def sarfa(
    ask: Ask,
    observations: Real[Tensor, "probe stack y x"],
    weights: Float[Tensor, "probe action"],
    *,
    sigma: float = 3.0,
    spot: float = 5.0,
    stride: int = 5,
    standardise: bool = True,
    frame_by_frame: bool = False,
    batch_size: int = 64,
) -> Float[Tensor, "probe stack y x"]:
    """How much, and how specifically, the action of the largest weight rests on a pixel: 0 not at all, near 1 wholly.

    The harmonic mean of ΔP, what the action's probability loses when the picture is blurred there (0 where it gains),
    and K = 1 / (1 + KL(others after ‖ before)). It adds up to nothing. They take softmax(Q), which sharpens as Q grows;
    `standardise` first divides by the spread of the unchanged Q over the actions, so checkpoints can be compared.

    Raises: ValueError when there is one action only.
    Source: Puri et al. 2020, arXiv 1912.12191; the blur as in `greydanus`.
    """
    if weights.shape[1] < 2:  # noqa: PLR2004 - a choice needs two
        raise ValueError("SARFA compares actions: expected at least 2, got 1: use method='greydanus'")
    before = ask_in_batches(ask, observations, batch_size)[:, None, None, None]
    after = _blurred_spots(ask, observations, sigma, spot, stride, frame_by_frame, batch_size)
    if standardise:
        spread = before.std(-1, keepdim=True).clamp(min=torch.finfo(before.dtype).tiny)
        before, after = before / spread, after / spread
    return _between_spots(sarfa_score(before, after, weights.argmax(1)[:, None, None, None]), observations, stride)


def sarfa_score(before: Tensor, after: Tensor, action: Tensor) -> Tensor:
    """SARFA of Q-values (last axis) before and after a perturbation; between 0 and 1."""
    before, after, action = (
        torch.broadcast_to(values, (*after.shape[:-1], values.shape[-1]))
        for values in (before, after, action[..., None])
    )
    others = torch.arange(after.shape[-1] - 1, device=action.device)
    others = others + (others >= action)
    loss = (before.softmax(-1) - after.softmax(-1)).gather(-1, action).squeeze(-1).clamp(min=0)
    log_before, log_after = (values.gather(-1, others).log_softmax(-1) for values in (before, after))
    kept = 1 / (1 + (log_after.exp() * (log_after - log_before)).sum(-1))
    return 2 * loss * kept / (loss + kept)


def _masked(
    ask: Ask, observations: Tensor, filling: Tensor, masks: Tensor, frame_by_frame: bool, batch_size: int
) -> Float[Tensor, "probe frame mask action"]:
    """Q-values with the filling faded in by each mask, in one stacked frame (`frame_by_frame`) or all of them."""
    values = floating(observations)
    frames = values.shape[1] if frame_by_frame else 1
    of_frame = torch.eye(frames, device=values.device, dtype=values.dtype)[:, :, None, None]

    def edit(probe: int, copies: Tensor) -> Tensor:
        amount = of_frame[copies // len(masks)] * masks[copies % len(masks)].unsqueeze(1)
        return torch.lerp(values[probe], filling[probe], amount)

    asked = ask_copies(ask, observations, edit, frames * len(masks), batch_size)
    return asked.view(len(asked), frames, len(masks), asked.shape[-1])


def _blurred_spots(
    ask: Ask, observations: Tensor, sigma: float, spot: float, stride: int, frame_by_frame: bool, batch_size: int
) -> Float[Tensor, "probe frame row column action"]:
    values = floating(observations)
    sides = [
        torch.exp(-(((torch.arange(0, size, stride)[:, None] - torch.arange(size)).double() / spot) ** 2) / 2).to(
            values
        )
        for size in values.shape[2:]
    ]
    masks = torch.einsum("ay,bx->abyx", *sides).flatten(0, 1)
    asked = _masked(ask, observations, blurred(values, sigma), masks, frame_by_frame, batch_size)
    return asked.view(*asked.shape[:2], len(sides[0]), len(sides[1]), asked.shape[-1])


def _between_spots(found: Tensor, observations: Tensor, stride: int) -> Tensor:
    """The figures of the spots (probe, frame, row, column), interpolated to the pixels."""
    rows, columns = (
        between(size, points, stride).to(found)
        for size, points in zip(observations.shape[2:], found.shape[2:], strict=True)
    )
    return torch.einsum("ya,pfab,xb->pfyx", rows, found, columns).expand(observations.shape)


def _intervals(size: int, length: int, stride: int) -> Tensor:
    """Which pixels of a side each patch covers, one row per patch; the last one reaches the border."""
    starts = torch.arange(0, max(size - length, 0) + stride, stride)[:, None]
    pixels = torch.arange(size)
    return (starts <= pixels) & (pixels < starts + length)
