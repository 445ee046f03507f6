"""What stands around the modules of a network: agents, other objects and classes, which it may change when asked."""

from __future__ import annotations

import functools
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_stack
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakSet

import numpy as np
from torch import nn

from rlwatch.attribution.sandbox.keeping import Bounds, Kept, is_foreign, is_plain, keep, put_back
from rlwatch.attribution.sandbox.putting import MISSING

STEADY: WeakSet[Any] = WeakSet()
"""Those that have been seen to change nothing, with all that they hold."""
STATEFUL = (np.ndarray, np.random.Generator, np.random.RandomState, random.Random)
BOUNDS = Bounds(values=1000, room=1 << 20, tell=lambda *_: None)
"""Less than of modules, and nothing is told: what is larger is an agent's replay memory."""
Within = Callable[[Any], Iterable[Any]]


@contextmanager
def around(parts: Iterable[Any], within: Within) -> Iterator[None]:
    """What agents and other objects behind functions, and the classes of modules, hold ends as it begins.

    `within` finds it. Variables of a function's own, and lists and dicts that these are, stay as a pass leaves them,
    for who wrote it to look on. Whether a pass changes the rest is found out in the first ones: later it is left to
    itself, for an agent that acts in another thread may change it, and may hold a replay memory. One that acts in
    another thread now is left to it.
    """
    owners = [owner for owner in _owners(parts) if not _is_steady(owner)]
    busy = _in_other_threads() if owners else set()
    held = [one for owner in owners for one in within(owner) if is_plain(type(one)) or isinstance(one, STATEFUL)]
    held = [one for one in held if id(one) not in busy]
    classes: list[Kept] = [(_put_attributes, one, _attributes(one)) for one in owners if isinstance(one, type)]
    kept = [*classes, *keep([*held, *(content for _, _, content in classes)], bounds=BOUNDS)]
    try:
        yield
    except BaseException:
        put_back(kept)
        raise
    if not put_back(kept):
        for owner in owners:
            _note(owner)


def _in_other_threads() -> set[int]:
    """The identities of what other threads are at work with: the variables of their functions."""
    newest = sys._current_frames()  # noqa: SLF001 - public in spite of its name
    frames = [frame for thread, frame in newest.items() if thread != threading.get_ident()]
    return {id(one) for top in frames for frame, _ in walk_stack(top) for one in list(frame.f_locals.values())}


def _owners(parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        for one in (part.__func__, part.__self__) if isinstance(part, MethodType) else (part,):
            if isinstance(one, nn.Module):
                yield from _classes(type(one))  # type: ignore[arg-type]
            elif isinstance(one, FunctionType):
                yield from () if is_foreign(one) else (one,)
            elif isinstance(one, functools.partial) or is_plain(type(one)):
                yield one


@functools.lru_cache(maxsize=4096)
def _classes(kind: type) -> tuple[type, ...]:
    return tuple(one for one in kind.__mro__ if not is_foreign(one))


def _attributes(kind: type) -> dict[str, Any]:
    return {name: one for name, one in vars(kind).items() if not (name.startswith("__") or hasattr(one, "__get__"))}


def _put_attributes(kind: type, content: dict[str, Any]) -> bool:
    now = _attributes(kind)
    for name in now.keys() - content.keys():
        delattr(kind, name)
    changed = {name: one for name, one in content.items() if now.get(name, MISSING) is not one}
    for name, one in changed.items():
        setattr(kind, name, one)
    return bool(changed) or len(now) > len(content)


def _is_steady(owner: Any) -> bool:
    try:
        return owner in STEADY
    except TypeError:  # it can be no member
        return False


def _note(owner: Any) -> None:
    try:
        STEADY.add(owner)
    except TypeError:  # nothing can refer to it weakly: it is looked at again
        return
