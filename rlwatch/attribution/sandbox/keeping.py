"""What Python objects hold, kept so that it can be put back."""

from __future__ import annotations

import argparse
import functools
import logging
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from inspect import ismemberdescriptor
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from rlwatch.attribution.sandbox.putting import (
    MISSING,
    put_array,
    put_bits,
    put_cell,
    put_dict,
    put_names,
    put_old_state,
    put_sequence,
    put_set,
    put_slots,
    put_state,
)

VALUES = 20_000
"""Values that are looked into, nearest first; of the rest the container is kept, but not what lies in its values."""
ROOM = 1 << 24
"""Bytes of NumPy arrays that are kept, nearest first; an array beyond that is left to itself."""

HOOKS = vars(nn.Module()).keys() - {"_parameters", "_buffers", "_modules"}
"""What every module has; hooks, which are among it, are the business of `hooks`."""

FOREIGN = sys.stdlib_module_names | {"torch", "numpy", "builtins", "rlwatch"}
"""Libraries whose objects are no plain ones."""
PLAIN = (SimpleNamespace, argparse.Namespace)
"""Their objects that are."""
LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event)
"""Who holds one of these is shared with another thread, and left to it."""
FUNCTIONS = (FunctionType, MethodType, functools.partial)
_TOLD: set[str] = set()
log = logging.getLogger("rlwatch")


@dataclass(frozen=True)
class Names:
    """Names of a function's globals, and what they stand for."""

    globals: dict[str, Any]
    held: dict[str, Any]


@dataclass(frozen=True)
class Bounds:
    """How many values, and bytes of arrays, are looked into, and who is told the name and size of what is larger."""

    values: int
    room: int
    tell: Callable[[str, str], None]


Kept = tuple[Callable[[Any, Any], bool], Any, Any]
"""How a value is put back, which tells whether it had changed, the value, and what it held."""


def keep(
    roots: Iterable[Any],
    left_out: list[Any] | None = None,
    *,
    functions: list[Any] | None = None,
    bounds: Bounds | None = None,
) -> list[Kept]:
    """What the modules, plain objects, containers, arrays and generators among `roots` and within them hold now.

    Tensors, which are the business of `Sandbox`, and the objects of other libraries are left out. `left_out` gets what
    is too large to be kept, `functions` the functions that are met.
    """
    bounds = bounds or Bounds(VALUES, ROOM, _tell)
    waiting, seen, left, room = deque(roots), set[int](), bounds.values, bounds.room
    found: list[Kept] = []
    large = [] if left_out is None else left_out
    while waiting:
        value = waiting.popleft()
        if functions is not None and isinstance(value, FUNCTIONS):
            functions.append(value)
        keeper = _keeper(type(value))  # type: ignore[arg-type]
        if keeper is None or id(value) in seen:
            continue
        seen.add(id(value))
        if keeper is _array:
            if value.nbytes > room:
                bounds.tell(_whose(value, found), f"an array of {value.nbytes / 1e6:,.0f} MB")
                large.append(value)
                continue
            room -= value.nbytes
        held, within = keeper(value)
        found += held
        if len(within) <= left:
            left -= len(within)
            waiting.extend(within)
        else:
            large.append(value)
            if any(map(_keeper, set(map(type, within)))):
                bounds.tell(_whose(value, found), f"{type(value).__name__} of {len(within):,} values")
    return found


def _whose(value: Any, found: Iterable[Kept]) -> str:
    """The name under which something that is kept holds the value."""
    holders = (content for _, _, content in found if isinstance(content, dict))
    return next((str(name) for held in holders for name, one in held.items() if one is value), "an attribute")


def _tell(name: str, what: str) -> None:
    """Say, once for a name, what is left to itself."""
    if name in _TOLD:
        return
    _TOLD.add(name)
    log.warning(
        "rlwatch: %s of the network (%s) is too large to be put back after each checkpoint: if the network changes "
        "what is in it as it is asked, keep it outside of the network, or as a tensor (register_buffer)",
        name,
        what,
    )


def put_back(kept: Iterable[Kept]) -> bool:
    """Has everything hold what it held; whether anything had changed."""
    changed = [put(value, content) for put, value, content in kept]
    return any(changed)


Keeper = Callable[[Any], tuple[list[Kept], Collection[Any]]]


@functools.lru_cache(maxsize=4096)
def _keeper(kind: type) -> Keeper | None:
    """How values of a type are kept; None where nothing of them is."""
    for base, keeper in KEEPERS.items():
        if issubclass(kind, base):
            return keeper
    left = (is_foreign(kind) and not issubclass(kind, PLAIN)) or issubclass(kind, (type, Tensor, BaseException))
    return None if left else _object


def is_plain(kind: type) -> bool:
    """Whether a type is one of a plain object's."""
    return _keeper(kind) is _object


def is_foreign(value: Any) -> bool:
    """Whether a type or function is one of Python's, NumPy's or torch's."""
    return (value.__module__ or "").partition(".")[0] in FOREIGN


def _module(value: nn.Module) -> tuple[list[Kept], Collection[Any]]:
    attributes = vars(value)
    held: list[Kept] = [(put_dict, attributes, attributes.copy())]
    return held, [one for name, one in attributes.items() if name not in HOOKS]


def _object(value: Any) -> tuple[list[Kept], Collection[Any]]:
    attributes: dict[str, Any] = getattr(value, "__dict__", {})
    slots = {name: getattr(value, name, MISSING) for name in _slots(type(value))}  # type: ignore[arg-type]
    within = [*attributes.values(), *slots.values()]
    if any(isinstance(one, LOCKS) for one in within):
        return [], ()
    return [(put_dict, attributes, attributes.copy()), (put_slots, value, slots)], within


@functools.lru_cache(maxsize=4096)
def _slots(kind: type) -> tuple[str, ...]:
    members = (name for one in kind.__mro__ for name, member in vars(one).items() if ismemberdescriptor(member))
    return tuple(dict.fromkeys(members))


def _dict(value: dict[Any, Any]) -> tuple[list[Kept], Collection[Any]]:
    return [(put_dict, value, dict(value))], value.values()


def _sequence(value: Any) -> tuple[list[Kept], Collection[Any]]:
    return [(put_sequence, value, tuple(value))], value


def _set(value: set[Any]) -> tuple[list[Kept], Collection[Any]]:
    return [(put_set, value, frozenset(value))], value


def _tuple(value: tuple[Any, ...]) -> tuple[list[Kept], Collection[Any]]:
    return [], value


def _array(value: npt.NDArray[np.generic]) -> tuple[list[Kept], Collection[Any]]:
    content = value.copy()
    within = list(content.flat) if value.dtype.hasobject else ()
    return [(put_array, value, content)] if value.flags.writeable else [], within


def _generator(value: np.random.Generator) -> tuple[list[Kept], Collection[Any]]:
    return [(put_bits, value.bit_generator, value.bit_generator.state)], ()


def _old_generator(value: np.random.RandomState) -> tuple[list[Kept], Collection[Any]]:
    return [(put_old_state, value, value.get_state(legacy=False))], ()


def _python_generator(value: random.Random) -> tuple[list[Kept], Collection[Any]]:
    return [(put_state, value, value.getstate())], vars(value).values()


def _cell(value: CellType) -> tuple[list[Kept], Collection[Any]]:
    try:
        content = value.cell_contents
    except ValueError:  # nothing has been put into it
        return [], ()
    return [(put_cell, value, content)], (content,)


def _names(value: Names) -> tuple[list[Kept], Collection[Any]]:
    return [(put_names, value.globals, value.held)], ()


KEEPERS: dict[type, Keeper] = {
    nn.Module: _module,
    dict: _dict,
    list: _sequence,
    deque: _sequence,
    set: _set,
    tuple: _tuple,
    np.ndarray: _array,
    np.random.Generator: _generator,
    np.random.RandomState: _old_generator,
    random.SystemRandom: lambda _: ([], ()),
    random.Random: _python_generator,
    CellType: _cell,
    Names: _names,
}
