"""The tensors of a forward pass, and what the pass knows about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.nn import functional

from rlwatch.attribution.lrp.rules import Rule
from rlwatch.attribution.operations.known import replaced, tensors_in
from rlwatch.attribution.operations.layers import Box, Layer

BoxOf = Callable[[], Box | None]


class Role(Enum):
    """What a tensor of the pass has to do with the explanation."""

    PLAIN = "neither of the two"
    OBSERVED = "made from the observations, before the explained pixels"
    CARRYING = "between the explained pixels and Q"


@dataclass(frozen=True)
class Call:
    """A layer as it was called: its rule, and the signal that it reads."""

    layer: Layer
    rule: Rule
    source: Tensor


@dataclass(frozen=True)
class Mark:
    """What the pass knows about a tensor: role, node of the graph, the call it is the outputs of, what was padded.

    `source`: what it is a view of, all of it, and in which state.
    """

    token: object
    role: Role
    node: Any = None
    call: Call | None = None
    unpadded: Tensor | None = None
    padding: Callable[[Tensor], Tensor] | None = None
    source: tuple[Tensor, int] | None = None


class Marks:
    """The marks of one pass, each on its tensor; `keep`: each table that carries relevance stays in `computed`."""

    def __init__(self, *, keep: bool) -> None:
        self.computed: list[Tensor] = []
        self._keep, self._token = keep, object()

    def of(self, tensor: Tensor) -> Mark | None:
        """What this pass knows about `tensor`; None for one that is older."""
        mark = getattr(tensor, "_rlwatch", None)
        return mark if mark is not None and mark.token is self._token else None

    def role(self, tensor: Tensor) -> Role:
        """The role of `tensor`; what the pass has not made is plain."""
        mark = self.of(tensor)
        return Role.PLAIN if mark is None else mark.role

    def given(self, tensor: Tensor) -> Tensor:
        """What a torch.autograd.Function was given, where it has returned it as it was, else `tensor`.

        It computes nothing, and scales gradients only: torch makes a view of what goes in, and gives it another node.
        """
        mark, node = self.of(tensor), cast("object", tensor.grad_fn)
        if mark is None or mark.source is None or not isinstance(node, BackwardCFunction):
            return tensor
        source, version = mark.source
        return source if version == tensor._version else tensor  # noqa: SLF001 - how autograd knows it, too

    def call(self, tensor: Tensor) -> Call | None:
        """The call that `tensor` is the outputs of."""
        return getattr(self.of(tensor), "call", None)

    def before(self, tensor: Tensor, padding: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """The facts about what `padding` makes of `tensor`, which may be padded itself."""
        mark = self.of(tensor)
        if mark is None or mark.unpadded is None or mark.padding is None:
            return {"unpadded": tensor, "padding": padding}
        first = mark.padding
        return {"unpadded": mark.unpadded, "padding": lambda values: padding(first(values))}

    def put(self, results: Any, role: Role, **facts: Any) -> None:
        """Marks every tensor in `results`."""
        for tensor in tensors_in(results):
            mark = Mark(self._token, role, tensor.grad_fn, **facts)
            tensor._rlwatch = mark  # type: ignore[attr-defined]  # noqa: SLF001
            if self._keep and role is Role.CARRYING and tensor.ndim == 2:  # noqa: PLR2004 - probe, action
                self.computed.append(tensor)


def padded(values: Tensor, padding: list[int]) -> Tensor:
    """`values` with zeros around them, as functional.pad takes `padding`."""
    return functional.pad(values, padding) if padding else values


def constant(values: Tensor) -> Tensor:
    """`values` without their history; a copy where autograd could not read them otherwise."""
    return values.clone() if values.is_inference() else values.detach()


def framing(
    function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], inner: Tensor
) -> Callable[[Tensor], Tensor] | None:
    """What `function` puts around `inner`, as a function of other rows; None if it differs from row to row.

    It is constant, as planes of coordinates are: what it says of Q is absorbed.
    """
    around = [tensor for tensor in tensors_in((args, kwargs)) if tensor is not inner]
    if any(tensor.shape[:1] != inner.shape[:1] or bool((tensor != tensor[:1]).any()) for tensor in around):
        return None
    kept = {id(tensor): tensor[:1].detach().clone() for tensor in around}

    def framed(values: Tensor) -> Tensor:
        rows = {name: row.expand(len(values), *row.shape[1:]) for name, row in kept.items()} | {id(inner): values}
        there = partial(replaced, replacement=lambda tensor: rows[id(tensor)])
        result: Tensor = function(*there(args), **there(kwargs))
        return result

    return framed if len(framed(inner)) == len(inner) else None


def padded_box(box_of: BoxOf, padding: Callable[[Tensor], Tensor]) -> Box | None:
    """The box of padded pixels."""
    box = box_of()
    return box and (padding(box[0]), padding(box[1]))


def full_precision(device: str) -> AbstractContextManager[Any]:
    """Switches off an autocast that the network has switched on."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


@contextmanager
def recorded() -> Iterator[None]:
    """Autograd records, past hooks by which torch.utils.checkpoint would run a part of the network once more."""
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
        yield


def _pack(saved: Tensor) -> tuple[Tensor, int]:
    """A tensor without its history, which would hold itself in memory for ever, and its state."""
    return saved.detach(), saved._version  # noqa: SLF001 - how autograd knows it, too


def _unpack(packed: tuple[Tensor, int]) -> Tensor:
    saved, version = packed
    if saved._version != version:  # noqa: SLF001
        raise RuntimeError("the network writes in place into what it has computed with: let it write into a clone")
    return saved


def channel_bias(layer: Layer, values: Tensor) -> Tensor | None:
    """`values` as a bias of `layer`, if adding them to its outputs is the same."""
    channels = len(layer.weight)
    shape = (channels, 1, 1) if layer.kind == "convolution" else (channels,)
    return values.flatten() if values.shape in (shape, (1, *shape)) else None
