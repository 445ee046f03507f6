"""A network is asked, and what its Python code has changed meanwhile is put back."""

from __future__ import annotations

import functools
import random
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from rlwatch.attribution.sandbox.around import around
from rlwatch.attribution.sandbox.hooks import aside, looks, tables
from rlwatch.attribution.sandbox.keeping import HOOKS, Names, is_foreign, keep, put_back

DEPTH = 4
"""How many callables may lie within one another around a module."""
MANY = 1000
"""Values of a container in which modules are looked for."""


@contextmanager
def untouched(network: Callable[..., Any]) -> Iterator[None]:
    """What the network holds, and Python's and NumPy's generators, end as they begin; no hook looks on.

    See `keep`, and `around` for what does not lie in its modules. What is in the tensors is the business of `Sandbox`,
    as torch's own generators are.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the training's own, kept as it is
    reached = list(parts_of(network))
    modules = [part for part in reached if isinstance(part, nn.Module)]
    check_made(modules)
    hooked = [table for _, table in tables(modules)]
    parts = [part for table in hooked for hook in table.values() if not looks(hook) for part in parts_of(hook)]
    functions: list[Any] = []
    kept = keep([*hooked, *modules, *parts], functions=functions)
    try:
        with around([*reached, *functions], parts_of), aside(modules), _eager(), uncached():
            yield
    finally:
        put_back(kept)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - the same


def _eager() -> AbstractContextManager[Any]:
    """What `torch.compile` was given runs as it stands, so that its operations can be seen and none is compiled anew.

    torch has this switch from 2.6 on, for all threads at once: while a network is asked, the others run eagerly, too.
    """
    compiling = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")
    return torch.compiler.set_stance("force_eager") if compiling else nullcontext()


@contextmanager
def uncached() -> Iterator[None]:
    """Weights that `torch.nn.utils.parametrize` computes are computed anew.

    Its `cached()` takes what a copy computes for the training's own, and the training's for the copy's.
    """
    enabled = parametrize._cache_enabled  # noqa: SLF001 - torch has no public name for it
    parametrize._cache_enabled = 0  # noqa: SLF001
    try:
        yield
    finally:
        parametrize._cache_enabled = enabled  # noqa: SLF001


def check_made(modules: Iterable[nn.Module]) -> None:
    """Raises: ValueError when a lazy module has no weights yet, and a pass would make them."""
    for module in modules:
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
            raise ValueError(
                f"the network's {type(module).__name__} has no weights yet: call the network once on observations "
                "first, as the training does before it makes its optimiser"
            )


def parts_of(network: Any) -> Iterator[Any]:
    """The network or hook and, nearest first, what it is bound to, closes over, holds, or names among its globals.

    Modules are among them, and, of a hook, the objects, containers and names that its Python code may change.
    """
    seen: set[int] = set()
    waiting = deque([(network, 0)])
    while waiting:
        value, depth = waiting.popleft()
        if id(value) in seen or depth > DEPTH:
            continue
        seen.add(id(value))
        yield value
        waiting += [(inner, depth if isinstance(inner, nn.Module) else depth + 1) for inner in _within(value)]


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, nn.Module):
        own = [inner for name, inner in vars(value).items() if name not in HOOKS and callable(inner)]
        return [*value.children(), *own]
    if isinstance(value, functools.partial):
        return value.func, *value.args, *value.keywords.values()
    if isinstance(value, MethodType):
        return value.__func__, value.__self__, *_attributes(value.__self__)
    if isinstance(value, FunctionType):
        return _named(value)
    return _held(value)


def _held(value: Any) -> Collection[Any]:
    if isinstance(value, (list, tuple, dict)):
        held = value.values() if isinstance(value, dict) else value
        return held if len(held) <= MANY else ()
    return _attributes(value) if callable(value) else ()


def _attributes(value: Any) -> Collection[Any]:
    return () if isinstance(value, (type, nn.Module)) else getattr(value, "__dict__", {}).values()


def _named(function: FunctionType) -> list[Any]:
    """What a function closes over or takes by default and, if it is no library's, the globals that it names."""
    cells = list(function.__closure__ or ())
    held = [*cells, *_contents(cells), *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if is_foreign(function):
        return held
    names = Names(function.__globals__, dict(_globals(function.__code__, function.__globals__)))
    return [*held, names, *names.held.values()]


def _contents(cells: list[CellType]) -> Iterator[Any]:
    for cell in cells:
        with suppress(ValueError):  # nothing has been put into it
            yield cell.cell_contents


def _globals(code: CodeType, known: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, known[name]) for name in code.co_names if name in known)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals(inner, known)
