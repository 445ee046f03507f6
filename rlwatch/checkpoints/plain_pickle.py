"""Pickles of NumPy arrays and plain containers, read without running anything that they name."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = "fiub"
"""Of numbers that an array may hold: floating, signed, unsigned, truth."""
NODES = 100_000
"""Values that containers may hold; what refers to one value from many places counts it at each."""


def loads(data: bytes) -> Any:
    """What the pickle holds: dicts, lists, tuples, texts, numbers, bytes and NumPy arrays.

    The few names that such pickles call stand for functions of this module, so no code but this runs, and no array is
    made that has not all its numbers in the file.

    Raises: ValueError when it names anything else, or is no whole pickle.
    """
    try:
        loaded = _Reader(io.BytesIO(data)).load()
        _check_plain(leaves(loaded))
        return filled(loaded)
    except ValueError:
        raise
    except Exception as error:  # a broken pickle raises whatever the operation on its stack raises
        raise ValueError(f"it is no whole pickle ({type(error).__name__}: {error})") from error


def _check_plain(values: list[Any]) -> None:
    """Raises: ValueError when one of the values is neither text nor a number nor an array."""
    for one in values:
        if not (one is None or isinstance(one, (_Array, str, bytes, bool, int, float))):
            raise ValueError(f"it holds a {type(one).__name__}")


def leaves(value: Any) -> list[Any]:
    """What nested dicts, lists and tuples hold.

    Raises: ValueError when it is more than NODES.
    """
    found: list[Any] = []
    waiting = [value]
    for _ in range(NODES):
        if not waiting:
            return found
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple)):
            waiting += one
        else:
            found.append(one)
    raise ValueError(f"it holds more than {NODES:,} values")


def filled(value: Any) -> Any:
    """Nested dicts, lists and tuples with NumPy's arrays and numbers in place of what stands for them.

    Raises: ValueError when an array is not what it says.
    """
    if isinstance(value, _Array):
        return value.array()
    if isinstance(value, dict):
        return {filled(key): filled(one) for key, one in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(filled(one) for one in value)
    return value


@dataclass
class _Kind:
    """Stands for numpy.dtype."""

    code: Any
    align: bool = False
    copy: bool = True

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in {"<", ">", "|", "="} or any(part is not None for part in state[2:5]):
            raise ValueError("it holds arrays of structures")
        self.code = order + self.code

    def dtype(self) -> np.dtype[Any]:
        made = np.dtype(self.code) if isinstance(self.code, str) else np.dtype("O")
        if made.kind not in KINDS:
            raise ValueError(f"it holds an array of {made}, not of numbers")
        return made


class _Array:
    """Stands for numpy.ndarray."""

    def __init__(self, state: tuple[Any, ...] | None = None) -> None:
        self.state = state

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        self.state = raw, kind, shape, "F" if fortran else "C"

    def array(self) -> Any:
        """The array; of a single number that number, as Python has it."""
        if self.state is None:
            raise ValueError("it holds an array without numbers")
        raw, kind, shape, order = self.state
        if not isinstance(raw, (bytes, bytearray)):
            raise ValueError(f"it holds an array made of a {type(raw).__name__}")  # noqa: TRY004 - the file is wrong
        made = np.frombuffer(raw, kind.dtype()).reshape(shape, order=order)
        return made if made.ndim else made.item()


def _empty(*_: Any) -> _Array:
    return _Array()


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Array:
    return _Array((raw, kind, shape, order))


def _scalar(kind: Any, raw: Any) -> _Array:
    return _Array((raw, kind, (), "C"))


def _encoded(text: str, encoding: str) -> bytes:
    """How protocols before 3 write bytes."""
    if encoding != "latin1":
        raise ValueError(f"it encodes text in {encoding}")
    return text.encode("latin1")


def _frozen(content: Any = None) -> dict[Any, Any]:
    return dict(content or {})


NUMPY: dict[str, Any] = {
    "numpy.dtype": _Kind,
    "numpy.ndarray": _Array,
    **{
        f"numpy.{core}.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in (
            ("multiarray._reconstruct", _empty),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}
"""What pickles of arrays name, and what stands for it."""
_NAMES: dict[str, Any] = {
    **NUMPY,
    "collections.OrderedDict": _frozen,
    "_codecs.encode": _encoded,
    "flax.core.frozen_dict.FrozenDict": _frozen,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _NAMES:
            raise ValueError(
                f"it names {module}.{name}, expected only NumPy arrays and plain containers: save it anew with the "
                "arrays turned to NumPy, such as jax.device_get(params)"
            )
        return _NAMES[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError(f"it refers to {pid!r} outside of itself")
