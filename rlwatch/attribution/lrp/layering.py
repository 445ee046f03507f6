"""The layers of a pass: calls of convolutions and linear maps by their rules, and what becomes a part of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rlwatch.attribution.lrp.pixels import Pixels
from rlwatch.attribution.lrp.propagation import Progress, Propagate, Rectify
from rlwatch.attribution.lrp.rules import Rule, RuleOf, Zero, checked
from rlwatch.attribution.lrp.signals import (
    BoxOf,
    Call,
    Marks,
    Role,
    channel_bias,
    constant,
    full_precision,
    padded,
    padded_box,
    recorded,
)
from rlwatch.attribution.operations import known, recurrent
from rlwatch.attribution.operations.layers import Layer
from rlwatch.attribution.operations.refusal import Refusal
from rlwatch.attribution.operations.shapes import check_shape
from rlwatch.attribution.operations.treatment import Treatment, affine, batch_norm_factors, treatment


@dataclass
class Layers:
    """The layers of one pass, `count` of them so far; `rule_of`, `valued` and `treat` are those of the pass."""

    rule_of: RuleOf | None
    box: BoxOf | None
    valued: bool
    treat: Treatment
    marks: Marks
    pixels: Pixels
    progress: Progress
    count: int = 0

    @property
    def exact(self) -> bool:
        """True if layers take the true gradient."""
        return self.rule_of is None

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The outputs of a convolution or linear map.

        Raises: as `check_shape`, `checked` and `Pixels.reach` do.
        """
        linear_map, inputs, weight, bias, padding = known.linear_call(name, args, kwargs)
        check_shape(linear_map, inputs, weight, self.count)
        if self.marks.role(inputs) is not Role.CARRYING and self.pixels.of(inputs) is None:
            self.marks.put(self.pixels.reach(inputs, weight, self.marks.of(inputs)), Role.CARRYING)
        self.consume([inputs], name)
        stand_in = self.pixels.of(inputs)
        with full_precision(inputs.device.type), torch.no_grad():
            values = padded((inputs if stand_in is None else stand_in.direct).detach(), padding)
            weight, bias = constant(weight), None if bias is None else constant(bias)
            outputs = linear_map.forward(values, weight, bias)
        first = stand_in is not None
        layer = Layer(linear_map, values, weight, bias, outputs, self.count, first=first, padding=padding)
        self.count += 1
        if stand_in and self.box:
            layer.box = partial(padded_box, self.box, lambda corner: padded(stand_in.padding(corner), padding))
        rule = checked(Zero() if self.rule_of is None else self.rule_of(layer), layer)
        if stand_in:
            layer.valued = self.valued and not rule.pixels
            inputs = stand_in.ruled if rule.pixels or layer.valued else stand_in.direct
        with recorded():
            source = padded(inputs, padding)
        return self._outputs(layer, rule, source)

    def _outputs(self, layer: Layer, rule: Rule, source: Tensor) -> Tensor:
        handed = [layer.outputs]
        layer.versions = layer.read, 0
        layer.replace_outputs(layer.outputs.detach())
        with recorded():
            outputs: Tensor = Propagate.apply(source, handed, layer, rule, self.progress)  # type: ignore[no-untyped-call]
        self.marks.put(outputs, Role.CARRYING, call=Call(layer, rule, source))
        return outputs

    def joined(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], carriers: list[Tensor]) -> Any:
        """An operation that becomes part of a layer, or is made of layers; None if it is neither.

        Raises: NotImplementedError when a layer's weights depend on the observations, or it is no plain recurrent one.
        """
        if name == "batch_norm" and len(carriers) > 1:
            raise Refusal("batch_norm with weights that depend on the observations")
        if name == "batch_norm":
            return self._batch_norm(carriers[0], *args[1:], **kwargs)
        if name in known.CELLS and not self.exact and self.treat is treatment:
            self.consume(carriers, name)
            with recorded():
                outputs = recurrent.unfolded(name, self._inner_layer, *args, **kwargs)
            self.marks.put(outputs, Role.CARRYING)
            return outputs
        if name == "relu" and self.treat is treatment and (call := self.marks.call(carriers[0])) is not None:
            return self._rectified(carriers[0], call.layer)
        if name in known.ADDITIONS and len(carriers) == 1 and len(args) > 1 and not kwargs:
            return self._with_bias(carriers[0], args[1] if args[0] is carriers[0] else args[0])
        return None

    def _inner_layer(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A linear map within a recurrent layer."""
        weight, bias = constant(weight), None if bias is None else constant(bias)
        if not inputs.requires_grad:
            return functional.linear(inputs, weight, bias)
        self.marks.put(inputs, Role.CARRYING)
        return self.call("linear", (inputs, weight, bias), {})

    def _rectified(self, values: Tensor, layer: Layer) -> Tensor:
        """A ReLU right behind a layer, whose results stand for the layer's outputs while it alone reads them."""
        self.consume([values], "relu")
        with recorded():
            outputs: Tensor = Rectify.apply(values, layer)  # type: ignore[no-untyped-call]
        if layer.rectified:
            layer.replace_outputs(outputs.detach())
        self.marks.put(outputs, Role.CARRYING)
        return outputs

    def consume(self, carriers: list[Tensor], name: str) -> None:
        """Notes what reads the outputs of layers."""
        for tensor, call in ((tensor, self.marks.call(tensor)) for tensor in carriers):
            if call is None:
                continue
            relu = name.rstrip("_") == "relu" and self.treat is treatment
            if call.layer.rectified and not relu:
                call.layer.replace_outputs(tensor.detach())
            call.layer.consumers.add("relu" if relu else "other")
            if relu:  # in place too it leaves outputs as they are where relevance is not 0
                call.layer.versions = call.layer.versions[0], tensor._version  # noqa: SLF001 - autograd's

    def _batch_norm(self, values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Batch normalisation in evaluation; right behind a layer it becomes part of that layer's weights."""
        scale, shift = batch_norm_factors(values, *args, **kwargs)
        call = self.marks.call(values)
        if self.exact or call is None or values.ndim != call.layer.channels_first:
            with recorded():
                outputs = affine(values, scale, shift)
            self.marks.put(outputs, Role.CARRYING)
            return outputs
        weight, bias = call.layer.weight, call.layer.bias
        folded = weight * scale.view(-1, *[1] * (weight.ndim - 1))
        bias = shift if bias is None else bias * scale + shift
        return self._merged(call, folded, bias, affine(values.detach(), scale, shift))

    def _with_bias(self, values: Tensor, constant: Any) -> Tensor | None:
        """The sum of a layer's outputs and a bias, as one layer; None for any other sum."""
        call = self.marks.call(values)
        bias = None if call is None or not isinstance(constant, Tensor) else channel_bias(call.layer, constant)
        if call is None or bias is None:
            return None
        total = bias if call.layer.bias is None else call.layer.bias + bias
        return self._merged(call, call.layer.weight, total, values.detach() + constant)

    def _merged(self, call: Call, weight: Tensor, bias: Tensor, outputs: Tensor) -> Tensor:
        """The call with other weights, bias and outputs."""
        layer = replace(call.layer, weight=weight, bias=bias, outputs=outputs, consumers=set(), made={})
        return self._outputs(layer, call.rule, call.source)
