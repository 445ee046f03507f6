"""The tensors of a forward pass, and what the pass knows about them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rlwatch.attribution.layers import Layer
from rlwatch.attribution.rules import Propagation, Rule

REMEDY = "explain a function that ends before it, or use method='gradient_x_input'"


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
    """What the pass knows about a tensor: its role, the call it is the outputs of, what it was before padding."""

    token: object
    role: Role
    call: Call | None = None
    unpadded: Tensor | None = None
    padding: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class StandIn:
    """What is read instead of an observed tensor behind which the pixels begin."""

    observed: Tensor
    ruled: Tensor
    direct: Tensor
    padding: Callable[[Tensor], Tensor]


def unchanged(values: Tensor) -> Tensor:
    """`values`."""
    return values


def padded(values: Tensor, padding: list[int]) -> Tensor:
    """`values` with zeros around them, as functional.pad takes `padding`."""
    return functional.pad(values, padding) if padding else values


def constant(values: Tensor) -> Tensor:
    """`values` without their history; a copy where autograd could not read them otherwise."""
    return values.clone() if values.is_inference() else values.detach()


def full_precision(device: str) -> AbstractContextManager[Any]:
    """Switches off an autocast that the network has switched on."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def channel_bias(layer: Layer, values: Tensor) -> Tensor | None:
    """`values` as a bias of `layer`, if adding them to its outputs is the same."""
    channels = len(layer.weight)
    shape = (channels, 1, 1) if layer.kind == "convolution" else (channels,)
    return values.flatten() if values.shape in (shape, (1, *shape)) else None


class Propagate(torch.autograd.Function):
    """The outputs of a layer, with its rule in the place of the derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        carrier: Tensor,  # noqa: ARG004  (autograd follows it)
        outputs: list[Tensor],
        layer: Layer,
        rule: Rule,
    ) -> Tensor:
        """The outputs that the layer had."""
        ctx.layer, ctx.rule, ctx.propagation = layer, rule, None
        return outputs.pop()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        """What the rule makes of g = R / outputs."""
        if ctx.propagation is None:
            ctx.propagation = _propagation(ctx.layer, ctx.rule)
        return ctx.propagation(g), None, None, None


def _propagation(layer: Layer, rule: Rule) -> Propagation:
    if layer.inputs._version != layer.versions[0]:  # noqa: SLF001  (how autograd knows it, too)
        raise RuntimeError("the network writes in place into what a layer has read: let it write into a clone")
    if layer.outputs._version != layer.versions[1]:  # noqa: SLF001
        layer.outputs = layer.forward(layer.inputs, layer.weight, layer.bias)
    return rule(layer)


def refusal(what: str) -> NotImplementedError:
    """The error that names what no rule is known for."""
    return NotImplementedError(f"LRP has no rule for {what}, which lies between the pixels and Q: {REMEDY}")
