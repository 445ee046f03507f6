"""How a network travels to another process: its structure once, afterwards its tensors alone.

Tensors are left out of the pickle and go through memory that both processes see. Whatever the network is (a module, a
function around one), what it holds is found anew each time, and what has changed besides tensors is noticed.
"""

import io
import mmap
import os
import pickle
import tempfile
from dataclasses import dataclass
from typing import Any

import cloudpickle
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

LARGEST = 1 << 28
"""Bytes of a structure: a network whose structure is larger holds a replay memory, or a game."""

ALIGNED = 64


class _Structure(io.BytesIO):
    """What a pickle writes into, up to `LARGEST` bytes: a replay memory is not copied first to be found too large."""

    def write(self, data: Any) -> int:
        """Raises: _TooLargeError when it is more than may travel."""
        size = self.tell() + memoryview(data).nbytes
        if size > LARGEST:
            raise _TooLargeError(
                f"the network must be sent to another process, but holds at least {size >> 20} MB besides its weights: "
                "pass the module itself instead of a function that holds more, or use where='inline'"
            )
        return super().write(data)


class _TooLargeError(ValueError):
    pass


class _Packer(cloudpickle.Pickler):  # type: ignore[name-defined, unused-ignore]
    """Pickles all but tensors, which gather in `tensors`."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, value: object) -> int | None:
        if not isinstance(value, Tensor):
            return None
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self._numbers[id(value)]

    def reducer_override(self, value: Any) -> Any:
        """Takes apart what nobody is to keep in a file: parametrised modules (spectral norm, weight norm), others."""
        if (isinstance(value, nn.Module) and is_parametrized(value)) or _refuses(value):
            return _bare, (type(value),), vars(value)
        return super().reducer_override(value)


def _bare(kind: type[object]) -> Any:
    """A module or another object without anything in it yet."""
    return kind.__new__(kind)


def _refuses(value: Any) -> bool:
    """Whether something that is called says that it is not to be pickled, as accelerate's mixed precision does."""
    if not callable(value) or isinstance(value, (type, nn.Module)) or not hasattr(value, "__dict__"):
        return False
    try:
        getattr(value, "__getstate__", dict)()
    except pickle.PicklingError:
        return True
    except Exception:  # noqa: BLE001 - told when it is pickled
        return False
    return False


class _Unpacker(pickle.Unpickler):
    def __init__(self, structure: bytes, tensors: list[Tensor]) -> None:
        super().__init__(io.BytesIO(structure))
        self._tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        return self._tensors[number]


@dataclass(frozen=True)
class Form:
    """What a tensor must have to take the place of another."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parameter: bool
    trained: bool

    @property
    def size(self) -> int:
        """Bytes, up to the next multiple of 64."""
        count = torch.Size(self.shape).numel() * self.dtype.itemsize
        return -(-count // ALIGNED) * ALIGNED


def pack(value: Any) -> tuple[bytes, list[Tensor]]:
    """The structure of `value`, and the tensors in it.

    Raises: TypeError when something in it cannot be pickled; ValueError when it is too large.
    """
    file = _Structure()
    packer = _Packer(file)
    try:
        packer.dump(value)
    except _TooLargeError:
        raise
    except Exception as error:
        raise TypeError(
            f"the network cannot be sent to another process ({type(error).__name__}: {error}): pass the module itself "
            "instead of a function that holds more, or use where='inline'"
        ) from error
    return file.getvalue(), packer.tensors


def unpack(structure: bytes, tensors: list[Tensor]) -> Any:
    """What was packed, with these tensors in it."""
    return _Unpacker(structure, tensors).load()


def form(tensor: Tensor) -> Form:
    """What must agree for one tensor to take the place of another.

    Raises: TypeError when it is no plain dense tensor.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise TypeError(f"expected dense weights, got {tensor.layout} on {tensor.device}: use where='inline'")
    trained = tensor.requires_grad and tensor.is_leaf
    return Form(tensor.dtype, tuple(tensor.shape), isinstance(tensor, nn.Parameter), trained)


def shared_file(size: int, content: bytes = b"") -> int:
    """A file in memory (on disk where the system knows no such thing) that is gone with its last user."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rlwatch")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, max(size, 1))
    with open(os.dup(descriptor), "wb") as file:  # noqa: PTH123 - it has no path
        file.write(content)
    return descriptor


def read_file(descriptor: int) -> bytes:
    """All that a file holds, which is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


class Hold:
    """Tensors of the given forms in a shared file, side by side."""

    def __init__(self, descriptor: int, forms: list[Form]) -> None:
        self._memory = mmap.mmap(descriptor, max(sum(one.size for one in forms), 1))
        self.forms = forms
        self._slots: list[Tensor] = []
        start = 0
        with torch.inference_mode(mode=False):
            for one in forms:
                self._slots.append(self._slot(one, start))
                start += one.size

    def load(self, tensors: list[Tensor]) -> None:
        """Put these tensors in."""
        with torch.no_grad():
            for slot, tensor in zip(self._slots, tensors, strict=True):
                slot.copy_(tensor)

    def fetch(self, tensors: list[Tensor]) -> None:
        """Put what lies here into these tensors."""
        with torch.no_grad():
            for slot, tensor in zip(self._slots, tensors, strict=True):
                tensor.copy_(slot)

    def empty(self) -> list[Tensor]:
        """Tensors of these forms, to be fetched into."""
        made = [torch.zeros(one.shape, dtype=one.dtype) for one in self.forms]
        return [
            nn.Parameter(tensor, requires_grad=one.trained) if one.parameter else tensor.requires_grad_(one.trained)
            for tensor, one in zip(made, self.forms, strict=True)
        ]

    def _slot(self, one: Form, start: int) -> Tensor:
        count = torch.Size(one.shape).numel()
        if not count:
            return torch.empty(one.shape, dtype=one.dtype)
        return torch.frombuffer(self._memory, dtype=one.dtype, count=count, offset=start).view(one.shape)
