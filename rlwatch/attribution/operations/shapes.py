"""Whether a layer can read what it is given."""

from __future__ import annotations

from torch import Tensor

from rlwatch.attribution.operations.convolution import Convolution
from rlwatch.attribution.operations.layers import Dense

PICTURES = 4
"""Axes of what a convolution reads: probe, channel, y, x."""


def check_shape(linear_map: Convolution | Dense, inputs: Tensor, weight: Tensor, index: int) -> None:
    """Raises: ValueError when the layer of this number expects another shape."""
    got = tuple(inputs.shape)
    if isinstance(linear_map, Dense):
        if inputs.shape[-1] != weight.shape[1]:
            raise ValueError(
                f"layer {index} (linear) expected {weight.shape[1]} inputs a row, got shape {got}: pass observations "
                "of the size that the network was made for"
            )
        return
    channels = weight.shape[1] * linear_map.groups
    if inputs.ndim != PICTURES or inputs.shape[1] != channels:
        raise ValueError(
            f"layer {index} (convolution) expected inputs of shape (probe, {channels}, y, x), got {got}: "
            f"{_remedy(inputs, channels)}"
        )


def _remedy(inputs: Tensor, channels: int) -> str:
    if inputs.ndim == PICTURES - 1:
        return "pass a batch, such as observations[None]"
    if inputs.ndim == PICTURES and inputs.shape[-1] == channels:
        return "pass observations.permute(0, 3, 1, 2)"
    return f"pass stacks of {channels} pictures (channels) as the training does"
