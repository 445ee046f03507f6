"""The box [low, high] in which the input of a network's first layer lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from rlwatch.attribution.lrp.interception import Interception
from rlwatch.attribution.lrp.pixels import PixelsReached
from rlwatch.attribution.operations.layers import Box

CHUNK = 256
"""Observations that are checked at a time."""

Bound = float | int | Tensor | None


def box_of(
    network: Callable[..., Any], observations: Tensor, extremes: Callable[[], Sequence[Tensor]], low: Bound, high: Bound
) -> Box | None:
    """The lowest and the highest input of the first layer; None where it cannot be known.

    `extremes` gives the lowest and the highest number of the observations. What is not told is what the layer sees of
    an all-black and of an all-white observation, which is exact for every scaling that treats each pixel alike. Black
    is 0; white is 255 for bytes and for numbers above 1, else 1.

    Raises: ValueError when observations lie outside of the box that was told, or it has another shape.
    """
    least, most = (extreme.item() for extreme in extremes())
    told = low is not None or high is not None
    if least < 0 and (low is None or high is None):
        return None
    white = 255 if observations.dtype == torch.uint8 or most > 1 else 1
    one = observations[:1]
    corners = _first_input(network, torch.cat([torch.zeros_like(one), torch.full_like(one, white)]))
    if corners is None or not corners.isfinite().all():
        return None
    black, white_input = torch.split(corners, len(corners) // 2)
    lowest, highest = torch.minimum(black, white_input), torch.maximum(black, white_input)
    box = _one(_corner(low, lowest)), _one(_corner(high, highest))
    if told:
        for part in torch.split(observations, CHUNK):
            _check(_first_input(network, part), box)
    return box


def _corner(bound: Bound, default: Tensor) -> Tensor:
    """Raises: ValueError for a bound of another shape."""
    if bound is None:
        return default
    told = torch.as_tensor(bound, dtype=default.dtype, device=default.device)
    try:
        return told.expand_as(default)
    except RuntimeError as error:
        raise ValueError(
            f"expected low= and high= as numbers, or tensors that broadcast to {tuple(default[:1].shape)}, got "
            f"{tuple(told.shape)}"
        ) from error


def _one(corner: Tensor) -> Tensor:
    """The corner of one row, where a layer reads several rows of one observation (frames one by one) and all agree.

    Raises: ValueError when they do not.
    """
    if (corner != corner[:1]).any():
        raise ValueError(
            "the first layer reads several rows of each observation and sees black or white differently in each, so "
            "zB has no box: give another composite, such as method='epsilon_plus'"
        )
    return corner[:1]


def _first_input(network: Callable[..., Any], observations: Tensor) -> Tensor | None:
    interception = Interception(observations.view(observations.shape), None, stop=True)
    with suppress(PixelsReached):
        interception.ask(network)
    return interception.pixels.explained


def _check(pixels: Tensor | None, box: Box) -> None:
    low, high = box
    if pixels is not None and ((pixels < low) | (pixels > high)).any():
        raise ValueError(
            f"observations must lie in [{low.min().item():g}, {high.max().item():g}], got [{pixels.min().item():g}, "
            f"{pixels.max().item():g}]: divide by 255, or give other low= and high= (to Watch in options=)"
        )
