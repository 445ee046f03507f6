"""A network is asked, and what its Python code has changed meanwhile is put back."""

from __future__ import annotations

import functools
import inspect
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import is_
from types import FunctionType, MethodType
from typing import Any

import numpy as np
from torch import nn

DEPTH = 4
"""How many callables may lie within one another around a module."""

CONTAINERS = (dict, list, set, deque)

HOOKS = vars(nn.Module()).keys() - {"_parameters", "_buffers", "_modules"}
"""What every module has, and a forward pass leaves alone."""


@contextmanager
def untouched(network: Callable[..., Any]) -> Iterator[None]:
    """The attributes and buffers of the network's modules, and Python's and NumPy's generators, end as they begin.

    What is in the tensors is the business of `Sandbox`, as torch's own generators are.
    """
    kept = [(container, container.copy()) for module in modules_of(network) for container in _containers(module)]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the training's own, kept as it is)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002  (the same)
        for container, content in kept:
            _put_back(container, content)


def modules_of(network: Any) -> Iterator[nn.Module]:
    """Each module that the network is, is bound to, closes over, holds, or names among its globals."""
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(network, 0)]
    while waiting:
        value, depth = waiting.pop()
        if id(value) in seen or depth > DEPTH:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield value
        waiting += [(inner, depth if isinstance(inner, nn.Module) else depth + 1) for inner in _within(value)]


def _within(value: Any) -> Iterator[Any]:
    if isinstance(value, nn.Module):
        yield from value.children()
        yield from (inner for inner in vars(value).values() if callable(inner))
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        yield value.__func__
        yield from [value.__self__] if isinstance(value.__self__, nn.Module) else _attributes(value.__self__)
    elif isinstance(value, FunctionType):
        names = inspect.getclosurevars(value)
        yield from (*names.nonlocals.values(), *names.globals.values())
    elif isinstance(value, (list, tuple, dict)):
        yield from value.values() if isinstance(value, dict) else value
    elif callable(value):
        yield from _attributes(value)


def _attributes(value: Any) -> Iterator[Any]:
    return iter(() if isinstance(value, type) else getattr(value, "__dict__", {}).values())


def _containers(module: nn.Module) -> Iterator[Any]:
    """The module's attributes, and the plain containers among them: buffers are in one."""
    yield vars(module)
    yield from (value for name, value in vars(module).items() if type(value) in CONTAINERS and name not in HOOKS)


def _put_back(container: Any, content: Any) -> None:
    """Makes the container hold what it held; nothing is done to one that still does."""
    if isinstance(container, dict):
        if container.keys() == content.keys() and all(map(is_, container.values(), content.values())):
            return
        for name in container.keys() - content.keys():
            del container[name]
        container.update(content)
    elif len(container) != len(content) or not all(map(is_, container, content)):
        container.clear()
        (container.update if isinstance(container, set) else container.extend)(content)
