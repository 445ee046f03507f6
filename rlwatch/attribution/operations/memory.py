"""Memory for large tensors, whose first use costs a CPU little."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LARGE = 1 << 22
"""Bytes from which NumPy asks for large pages."""
NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def empty(shape: Sequence[int], like: Tensor, *, last: bool = False) -> Tensor:
    """Memory for numbers such as those of `like`; `last`: with channels last.

    On a CPU it is NumPy's, which asks the system for pages of megabytes: where torch's memory is new to the process,
    most of the time of a first write goes into pages of 4096 bytes.
    """
    numbers, kind = math.prod(shape), NUMPY.get(like.dtype)
    if like.device.type != "cpu" or kind is None or numbers * like.element_size() < LARGE:
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)
    if not last:
        return torch.from_numpy(np.empty(shape, kind))
    _, channels, height, width = shape
    strides = channels * height * width, 1, channels * width, channels
    storage = torch.from_numpy(np.empty(numbers, kind)).untyped_storage()
    return like.new_empty(0).set_(storage, 0, shape, strides)  # a view could not be written to in place later


def empty_like(tensor: Tensor) -> Tensor:
    """Memory for as many numbers, in the same order."""
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)  # noqa: PLR2004  (a picture)
    return empty(tensor.shape, tensor, last=last)
