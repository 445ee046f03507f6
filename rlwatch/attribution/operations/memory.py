"""Memory for large tensors: kept when they are gone, and used again.

On a CPU most of the time of a first write goes into the system's pages where the memory is new to the process.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LARGE = 1 << 20
"""Bytes from which memory is kept."""
KEPT = 1 << 26
"""Bytes that a thread keeps at most."""
NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def _uses(blocks: list[npt.NDArray[np.uint8]], number: int) -> int:
    return sys.getrefcount(blocks[number])


IDLE = _uses([np.empty(0, np.uint8)], 0)


class Blocks(threading.local):
    """The blocks of a thread. Python counts who uses one, tensors included."""

    def __init__(self) -> None:
        self._kept: list[npt.NDArray[np.uint8]] = []

    def take(self, size: int) -> npt.NDArray[np.uint8]:
        """`size` bytes that nothing else uses."""
        for number in range(len(self._kept)):
            if self._kept[number].nbytes == size and _uses(self._kept, number) == IDLE:
                return self._kept[number]
        self._kept.append(np.empty(size, np.uint8))
        block = self._kept[-1]
        while sum(kept.nbytes for kept in self._kept) > KEPT:
            del self._kept[0]
        return block

    def clear(self) -> None:
        """Keeps nothing."""
        self._kept.clear()


BLOCKS = Blocks()


def empty(shape: Sequence[int], like: Tensor, *, last: bool = False) -> Tensor:
    """Memory for numbers such as those of `like`; `last`: with channels last."""
    numbers, kind = math.prod(shape), NUMPY.get(like.dtype)
    size = numbers * like.element_size()
    if like.device.type != "cpu" or kind is None or size < LARGE:
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)
    block = BLOCKS.take(size).view(kind)
    if not last:
        return torch.from_numpy(block.reshape(shape))
    _, channels, height, width = shape
    strides = channels * height * width, 1, channels * width, channels
    storage = torch.from_numpy(block).untyped_storage()
    return like.new_empty(0).set_(storage, 0, shape, strides)  # a view could not be written to in place later


def empty_like(tensor: Tensor) -> Tensor:
    """Memory for as many numbers, in the same order."""
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)  # noqa: PLR2004 - a picture
    return empty(tensor.shape, tensor, last=last)
