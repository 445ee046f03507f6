"""The features that LIME and SHAP speak about: cells of a grid, or objects and the rest.

For each pixel there is the index of the one feature that it belongs to.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


def grid(
    observations: Shaped[Tensor, "probe stack y x"], *, cell: int = 7, frame_by_frame: bool = False
) -> Int[Tensor, "probe stack y x"]:
    """Square cells of `cell` pixels (7 cuts 84×84 into 144), row by row; at the right and lower border less.

    A cell reaches through the whole stack, so that a thing that moves within it is one feature; `frame_by_frame` gives
    each stacked frame cells of its own, oldest frame first.

    Raises: ValueError when `cell` is less than 1.
    """
    if cell < 1:
        raise ValueError(f"cell must be at least 1 pixel, got {cell}")
    _, stack, height, width = observations.shape
    rows, columns = (torch.arange(size, device=observations.device) // cell for size in (height, width))
    cells = rows[:, None] * (columns[-1] + 1) + columns
    frames = torch.arange(stack, device=observations.device)[:, None, None] * (cells[-1, -1] + 1) * frame_by_frame
    return (frames + cells).expand(observations.shape)


def objects(masks: Bool[Tensor, "feature probe stack y x"]) -> Int[Tensor, "probe stack y x"]:
    """The objects as features 0, 1, …, and as the last feature the rest of the picture.

    A pixel of several objects belongs to the first of them, so name what lies in front first.

    Raises: ValueError when there are no masks.
    """
    if not len(masks):
        raise ValueError("expected the mask of at least one object, got none: use grid(observations) instead")
    rest = ~masks.any(0, keepdim=True)
    return torch.cat([masks, rest]).to(torch.uint8).argmax(0)


def checked(features: Any, observations: Shaped[Tensor, "probe stack y x"]) -> Int[Tensor, "probe stack y x"]:
    """The features, in numbers that can be an index, where the observations lie.

    Raises: ValueError when they are no whole numbers from 0 on, or not one for each pixel.
    """
    if isinstance(features, Tensor):
        got = f"{features.dtype} of {tuple(features.shape)} from {features.amin()} on"
        whole = not features.is_floating_point() and features.dtype != torch.bool
    else:
        got, whole = type(features).__name__, False
    if not whole or features.shape != observations.shape or features.amin() < 0:
        raise ValueError(
            f"expected as features a whole number from 0 on for each pixel, of shape {tuple(observations.shape)}, got "
            f"{got}: use grid(observations), or objects(masks), of rlwatch.attribution.families.superpixels"
        )
    index: Tensor = features.to(observations.device).long()
    return index


def spread(
    values: Float[Tensor, "probe feature"], features: Int[Tensor, "probe stack y x"]
) -> Float[Tensor, "probe stack y x"]:
    """Each feature's value in equal parts on its pixels; that of a feature without pixels is on none."""
    labels = features.flatten(1)
    sizes = torch.zeros_like(values).scatter_add_(1, labels, torch.ones_like(labels, dtype=values.dtype))
    return (values / sizes).gather(1, labels).view_as(features)
