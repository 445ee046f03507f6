"""How relevance passes a layer: by its rule, a few observations at a time, stopped where a ReLU behind it is 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlwatch.attribution.lrp.rules import Propagation, Rule
from rlwatch.attribution.operations.convolution import LAST
from rlwatch.attribution.operations.layers import Layer
from rlwatch.attribution.operations.memory import empty_like


@dataclass
class Progress:
    """How far a pass is: `last` while no further target will come, so that memory can go.

    `destination`: where the relevance of the pixels may be written.
    """

    last: bool = True
    destination: Tensor | None = None

    def takes(self, layer: Layer) -> Tensor:
        """Memory for what the inputs of `layer` get: the destination, for the first layer that asks for it."""
        found = self.destination
        if found is None or not layer.first or (found.shape, found.dtype) != (layer.inputs.shape, layer.inputs.dtype):
            return empty_like(layer.inputs)
        self.destination = None
        return found


class Propagate(torch.autograd.Function):
    """The outputs of a layer, with its rule in the place of the derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        carrier: Tensor,  # noqa: ARG004 - autograd follows it
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
        g = in_order_of(g, ctx.layer.outputs)
        if ctx.progress.last:
            ctx.layer = ctx.propagation = None
        return propagation(g), None, None, None, None


class Follow(torch.autograd.Function):
    """Numbers made of the observations, with a node that tells what code that torch does not show makes of them."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, values: list[Tensor], progress: Progress) -> Tensor:  # noqa: ARG004
        """The numbers; `anchor` has autograd follow them."""
        ctx.progress = progress
        return values.pop()


def followed(values: Any, progress: Progress) -> Any:
    """`values` with such a node, if they are numbers of their own and autograd does not follow them yet."""
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.requires_grad:
        return values
    if values._base is not None or values.is_inference() or not torch.is_grad_enabled():  # noqa: SLF001 - views are their bases' business
        return values
    return Follow.apply(torch.empty(0, requires_grad=True), [values], progress)  # type: ignore[no-untyped-call]


class Rectify(torch.autograd.Function):
    """A ReLU right behind a layer: where nothing else reads that layer's outputs, the layer itself stops relevance."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, layer: Layer) -> Tensor:
        """The positive part of the layer's outputs."""
        rectified = torch.clamp(values, min=0, out=empty_like(values))
        ctx.layer = layer
        ctx.save_for_backward(rectified)
        return rectified

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        """R / outputs of the layer."""
        return g if ctx.layer.rectified else gated(g, ctx.saved_tensors[0]), None


def in_order_of(g: Tensor, outputs: Tensor) -> Tensor:
    """`g` with its channels last in memory if those of `outputs` are, before any factor of that order is met."""
    last = outputs.ndim == 4 and outputs.is_contiguous(memory_format=LAST)  # noqa: PLR2004 - a picture
    return g.contiguous(memory_format=LAST) if last else g


def gated(g: Tensor, values: Tensor) -> Tensor:
    """What passes a ReLU backwards: g where values are positive, else 0; in a sixth of the time of g * (values > 0)."""
    stopped: Tensor = torch.ops.aten.threshold_backward(g, values, 0)
    return stopped


def _propagation(layer: Layer, rule: Rule, progress: Progress) -> Propagation:
    """What `rule` makes of g, a few observations at a time, so that what it computes on the way stays in the cache."""
    if layer.read != layer.versions[0]:
        raise RuntimeError(
            "what a layer has read was written into while the network was asked: if the network does so, let it write "
            "into a clone; if another thread trains it, call the monitor in that thread"
        )
    if layer.outputs._version != layer.versions[1]:  # noqa: SLF001 - how autograd knows it, too
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

    def propagate(g: Tensor) -> Tensor:
        found = propagation(gated(g, layer.outputs) if masks else g)
        return torch.mul(found, layer.inputs, out=layer.destination) if layer.valued else found

    return propagate


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
