"""Python objects are made to hold what they held; each function says whether its object had changed."""

from __future__ import annotations

import random
from operator import is_
from types import CellType
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING = object()


def put_dict(value: dict[Any, Any], content: dict[Any, Any]) -> bool:
    """In the order that it had."""
    if len(value) == len(content) and all(map(is_, value, content)) and all(map(is_, value.values(), content.values())):
        return False
    for name in [name for name in value if name not in content]:
        del value[name]
    in_order = all(map(is_, value, content)) and len(value) == len(content)
    for name, one in content.items():
        if not in_order:
            value.pop(name, None)
        value[name] = one
    return True


def put_slots(value: Any, content: dict[str, Any]) -> bool:
    """Attributes, of which MISSING ones were none."""
    changed = {name: one for name, one in content.items() if getattr(value, name, MISSING) is not one}
    for name, one in changed.items():
        if one is MISSING:
            object.__delattr__(value, name)
        else:
            object.__setattr__(value, name, one)
    return bool(changed)


def put_sequence(value: Any, content: tuple[Any, ...]) -> bool:
    """Of a list or a deque."""
    if len(value) == len(content) and all(map(is_, value, content)):
        return False
    value.clear()
    value.extend(content)
    return True


def put_set(value: set[Any], content: frozenset[Any]) -> bool:
    """Of a set."""
    if value == content:
        return False
    value.clear()
    value.update(content)
    return True


def put_array(value: npt.NDArray[np.generic], content: npt.NDArray[np.generic]) -> bool:
    """Of an array that may be written to."""
    same = all(map(is_, value.flat, content.flat)) if value.dtype.hasobject else np.array_equal(value, content)
    if not same:
        value[...] = content
    return not same


def put_bits(value: np.random.BitGenerator, state: Any) -> bool:
    """Of one of NumPy's generators."""
    changed = repr(value.state) != repr(state)
    value.state = state
    return changed


def put_old_state(value: np.random.RandomState, state: Any) -> bool:
    """Of one of NumPy's older generators."""
    changed = repr(value.get_state(legacy=False)) != repr(state)
    value.set_state(state)
    return changed


def put_state(value: random.Random, state: Any) -> bool:
    """Of one of Python's generators."""
    changed: bool = value.getstate() != state
    value.setstate(state)
    return changed


def put_cell(value: CellType, content: Any) -> bool:
    """Of a variable that a function closes over."""
    try:
        changed = value.cell_contents is not content
    except ValueError:  # it was emptied
        changed = True
    value.cell_contents = content
    return changed


def put_names(value: dict[str, Any], held: dict[str, Any]) -> bool:
    """Of some of a function's globals."""
    changed = {name: one for name, one in held.items() if value.get(name, MISSING) is not one}
    value.update(changed)
    return bool(changed)
