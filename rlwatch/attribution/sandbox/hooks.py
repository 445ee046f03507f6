"""The training's hooks do not see that its network is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.modules import module as everywhere

from rlwatch.attribution.operations.known import replaced, tensors_in

AFTER = "_forward_hooks"
BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
SET_ASIDE = (AFTER, *BACKWARD)
OTHERS = (
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
"""Tables that stand as they are: what runs before a module may compute its weights, as weight_norm does."""

Table = dict[int, Any]
LOOKING: WeakSet[Any] = WeakSet()
"""Forward hooks that have been seen to change nothing of what the network computes."""


def tables(modules: Iterable[nn.Module], names: Iterable[str] = (*SET_ASIDE, *OTHERS)) -> Iterator[tuple[str, Table]]:
    """The hooks of the modules and of all modules, by kind, where there are some."""
    for name in names:
        table = getattr(everywhere, f"_global{name}", None)
        if table:
            yield name, table
    for module in modules:
        attributes = vars(module)
        for name in names:
            if attributes.get(name):
                yield name, attributes[name]


@contextmanager
def aside(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Backward hooks, and forward hooks that merely look, are set aside.

    Whether one looks is found out in the first pass that meets it, with copies of the outputs: one that returns
    something else, or writes into them, is a part of the network and runs. torch's own run always.
    """
    kept = [(name, table, table.copy()) for name, table in tables(modules, SET_ASIDE)]
    trials: dict[int, _Trial] = {}
    try:
        for name, table, hooks in kept:
            table.clear()
            if name == AFTER:
                table.update({key: _tried(hook, trials) for key, hook in hooks.items() if not looks(hook)})
        yield
    finally:
        for _, table, hooks in kept:
            table.clear()
            table.update(hooks)
        for trial in trials.values():
            trial.conclude()


def looks(hook: Any) -> bool:
    """Whether a forward hook has been seen to change nothing."""
    try:
        return hook in LOOKING
    except TypeError:  # it can be no member
        return False


def _tried(hook: Any, trials: dict[int, _Trial]) -> Callable[..., Any]:
    owner = getattr(hook, "__module__", None) or ""
    if owner.partition(".")[0] == "torch":
        return hook  # type: ignore[no-any-return]
    return trials.setdefault(id(hook), _Trial(hook))


class _Trial:
    """A forward hook that gets copies first, and what it has read only if it acts upon them."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self.hook = hook
        self.met = self.acts = False

    def __call__(self, *given: Any) -> Any:
        """What the hook returns."""
        self.met = True
        copies, before = _copied(given), tensors_in(_copied(given[-1]))
        result = self.hook(*copies)
        after = tensors_in(copies[-1])
        if result is None and all(map(torch.equal, before, after)):
            return None
        self.acts = True
        return self.hook(*given)

    def conclude(self) -> None:
        """Notes what has been found out."""
        if self.met and not self.acts:
            try:
                LOOKING.add(self.hook)
            except TypeError:  # nothing can refer to it weakly: it is tried again
                return


def _copied(values: Any) -> Any:
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - copies are no part of the pass
        return replaced(values, _copy)


def _copy(values: Tensor) -> Tensor:
    return values.detach().clone()
