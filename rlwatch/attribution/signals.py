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

from rlwatch.attribution.layers import Box, Layer
from rlwatch.attribution.rules import Propagation, Rule

BoxOf = Callable[[], Box | None]

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
    """What the pass knows about a tensor: role, node of the graph, the call it is the outputs of, what was padded."""

    token: object
    role: Role
    node: Any = None
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


def padded_box(box_of: BoxOf, padding: Callable[[Tensor], Tensor]) -> Box | None:
    """The box of padded pixels."""
    box = box_of()
    return box and (padding(box[0]), padding(box[1]))


def full_precision(device: str) -> AbstractContextManager[Any]:
    """Switches off an autocast that the network has switched on."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def channel_bias(layer: Layer, values: Tensor) -> Tensor | None:
    """`values` as a bias of `layer`, if adding them to its outputs is the same."""
    channels = len(layer.weight)
    shape = (channels, 1, 1) if layer.kind == "convolution" else (channels,)
    return values.flatten() if values.shape in (shape, (1, *shape)) else None


@dataclass
class Progress:
    """How far a pass is: `last` while no further target will come, so that memory can go.

    `destination`: where the relevance of the pixels may be written.
    """

    last: bool = True
    destination: Tensor | None = None

    def takes(self, layer: Layer) -> Tensor:
        """Memory for what the inputs of `layer` get."""
        found = self.destination if layer.first else None
        fits = found is not None and (found.shape, found.dtype) == (layer.inputs.shape, layer.inputs.dtype)
        return found if found is not None and fits else torch.empty_like(layer.inputs)


class Propagate(torch.autograd.Function):
    """The outputs of a layer, with its rule in the place of the derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        carrier: Tensor,  # noqa: ARG004  (autograd follows it)
        outputs: list[Tensor],
        layer: Layer,
        rule: Rule,
        progress: Progress,
    ) -> Tensor:
        """The outputs that the layer had."""
        ctx.layer, ctx.rule, ctx.propagation, ctx.progress = layer, rule, None, progress
        return outputs.pop()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None]:
        """What the rule makes of g = R / outputs."""
        propagation = ctx.propagation or _propagation(ctx.layer, ctx.rule, ctx.progress)
        ctx.propagation = propagation
        if ctx.progress.last:
            ctx.layer = ctx.propagation = None
        return propagation(g), None, None, None, None


def descends(tensor: Tensor, progress: Progress) -> bool:
    """True if a layer of the pass whose progress this is has gone into `tensor`."""
    nodes: list[Any] = [tensor.grad_fn]
    seen: set[Any] = {None}
    while nodes:
        node = nodes.pop()
        if getattr(node, "progress", None) is progress:
            return True
        if node not in seen:
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
    return False


class Rectify(torch.autograd.Function):
    """A ReLU right behind a layer: where nothing else reads that layer's outputs, the layer itself stops relevance."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, layer: Layer) -> Tensor:
        """The positive part of the layer's outputs."""
        rectified = values.clamp(min=0)
        ctx.layer = layer
        ctx.save_for_backward(rectified)
        return rectified

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        """R / outputs of the layer."""
        return g if ctx.layer.rectified else g * (ctx.saved_tensors[0] > 0), None


def _propagation(layer: Layer, rule: Rule, progress: Progress) -> Propagation:
    """What `rule` makes of g, a few observations at a time, so that what it computes on the way stays in the cache."""
    if layer.inputs._version != layer.versions[0]:  # noqa: SLF001  (how autograd knows it, too)
        raise RuntimeError("the network writes in place into what a layer has read: let it write into a clone")
    if layer.outputs._version != layer.versions[1]:  # noqa: SLF001
        layer.outputs = layer.forward(layer.inputs, layer.weight, layer.bias)
    parts = layer.parts()
    if len(parts) == 1:
        return _gated(layer, rule)
    kept: dict[int, tuple[Layer, Propagation]] = {}

    def propagate(g: Tensor) -> Tensor:
        inputs = progress.takes(layer)
        for rows in parts:
            part, propagation = kept.get(rows.start) or _of_part(layer.part(rows), rule)
            part.destination = inputs[rows]
            found = propagation(g[rows])
            if found is not part.destination:
                part.destination.copy_(found)
            if not progress.last:
                kept[rows.start] = part, propagation
        return inputs

    return propagate


def _of_part(part: Layer, rule: Rule) -> tuple[Layer, Propagation]:
    return part, _gated(part, rule)


def _gated(layer: Layer, rule: Rule) -> Propagation:
    """What `rule` makes of g, which is 0 where a ReLU behind the layer is; times the inputs if the layer is valued."""
    propagation = rule(layer)
    masks = layer.rectified and not getattr(rule, "gates", False)
    alive = layer.outputs > 0 if masks else None

    def propagate(g: Tensor) -> Tensor:
        found = propagation(g if alive is None else g * alive)
        return torch.mul(found, layer.inputs, out=layer.destination) if layer.valued else found

    return propagate


class PixelsReached(Exception):  # noqa: N818  (it ends a pass that has done its work; nothing is wrong)
    """The pass has reached the pixels, and that was all that was asked."""


def check_type(inputs: Tensor, weight: Tensor) -> None:
    """Raises: TypeError: a layer does not take inputs of this type."""
    if inputs.dtype != weight.dtype:
        raise TypeError(
            f"the network's first layer expected {weight.dtype}, got {inputs.dtype}: pass the observations as the "
            f"training does, such as observations.to({weight.dtype}) / 255"
        )


def refusal(what: str) -> NotImplementedError:
    """The error that names what no rule is known for."""
    return NotImplementedError(f"LRP has no rule for {what}, which lies between the pixels and Q: {REMEDY}")
