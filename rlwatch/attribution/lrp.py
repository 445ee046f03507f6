"""One forward pass of the network that is training, ready to carry relevance from Q back to the pixels.

Every operation of the pass goes through `Interception`: convolutions and linear maps propagate by the rule that the
composite gives them, the other operations as `operations` says, and what is not known there is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from rlwatch.attribution import operations
from rlwatch.attribution.layers import Layer
from rlwatch.attribution.operations import in_place, name_of, replaced, tensors_in
from rlwatch.attribution.rules import Rule, Zero
from rlwatch.attribution.sandbox import Sandbox
from rlwatch.attribution.signals import (
    Call,
    Mark,
    Propagate,
    Role,
    StandIn,
    channel_bias,
    constant,
    full_precision,
    padded,
    refusal,
    unchanged,
)

RuleOf = Callable[[Layer], Rule]
Box = tuple[Tensor, Tensor]


class PixelsReached(Exception):  # noqa: N818  (it ends a pass that has done its work; nothing is wrong)
    """The pass has reached the pixels, and that was all that was asked."""


class Interception(TorchFunctionMode):
    """The torch calls of one forward pass.

    `rule_of=None` takes the true gradient everywhere; `stop=True` ends the pass at the pixels, with PixelsReached.
    After the pass `pixels` is the explained tensor, and gradients gather in its two stand-ins: `ruled` (where a rule
    returns relevance itself) and `direct` (where relevance is in gradient form).
    """

    def __init__(
        self, observations: Tensor, rule_of: RuleOf | None, box: Box | None = None, *, stop: bool = False
    ) -> None:
        super().__init__()
        self.pixels: Tensor | None = None
        self.observations = self.ruled = self.direct = observations
        self._rule_of, self._box, self._stop = rule_of, box, stop
        self._sandbox = Sandbox(observations)
        self._token = object()
        self._layers = 0
        self._stand_ins: dict[int, StandIn] = {}
        self._mark([observations], Role.OBSERVED)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The result of `func`, as the explanation needs it, whatever gradient mode the network has chosen."""
        del types
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(mode=False), torch.no_grad():
                return self._dispatch(func, args, kwargs or {})
        return self._dispatch(func, args, kwargs or {})

    def _dispatch(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = name_of(func)
        given = list(tensors_in((args, kwargs)))
        self._sandbox.meet(tensor for tensor in given if self.mark(tensor) is None)
        roles = {self.role(tensor) for tensor in given}
        if name in operations.LINEAR_MAPS and roles != {Role.PLAIN} and self._takes_rule(args, kwargs):
            return self._linear_map(name, args, kwargs)
        if name in operations.FRESH:
            return self._aside(func, name, args, kwargs, Role.PLAIN)
        if Role.CARRYING in roles or not self._stand_ins.keys().isdisjoint(map(id, given)):
            return self._carry(func, name, args, kwargs)
        return self._aside(func, name, args, kwargs, Role.OBSERVED if Role.OBSERVED in roles else Role.PLAIN)

    def mark(self, tensor: Tensor) -> Mark | None:
        """What this pass knows about `tensor`; None for one that is older."""
        mark = getattr(tensor, "_rlwatch", None)
        return mark if mark is not None and mark.token is self._token else None

    def role(self, tensor: Tensor) -> Role:
        """The role of `tensor`; what the pass has not made is plain."""
        mark = self.mark(self._sandbox.current(tensor))
        return Role.PLAIN if mark is None else mark.role

    def finish(self, q_values: Tensor) -> None:
        """Notes that the network has returned `q_values`.

        Raises: ValueError: they do not follow from the pixels.
        """
        mark = self.mark(q_values)
        if mark is None or mark.role is not Role.CARRYING:
            raise ValueError(
                "the Q-values do not follow from the observations by operations that could be seen: pass the callable "
                "that the training calls, eager (not scripted) and without a detour through NumPy"
            )
        if mark.call is not None:
            mark.call.layer.consumers.add("returned")

    def _mark(self, results: Any, role: Role, **facts: Any) -> None:
        for tensor in tensors_in(results):
            tensor._rlwatch = Mark(self._token, role, **facts)  # type: ignore[attr-defined]  # noqa: SLF001

    def _aside(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], role: Role
    ) -> Any:
        """An operation that carries no relevance."""
        if role is Role.OBSERVED and name in operations.UNKNOWN_LAYERS:
            raise refusal(f"{name}, which is the first layer: rlwatch explains the input of a conv2d or linear layer")
        if name.endswith("__set__") and self.mark(args[0]) is None:
            return self._sandbox.assign(name)
        if in_place(name, kwargs):
            target: Tensor = kwargs.get("out", args[0] if args else next(iter(kwargs.values())))
            born = self.mark(target) is not None
            self._mark(self._sandbox.write(func, target, args, kwargs, born=born), role)
            return target
        result = self._sandbox.run(func, name, args, kwargs)
        given = {id(tensor) for tensor in tensors_in((args, kwargs))}
        facts: dict[str, Any] = {}
        if name == "pad" and role is Role.OBSERVED:
            facts = {"unpadded": args[0], "padding": lambda values: func(values, *args[1:], **kwargs)}
        self._mark([tensor for tensor in tensors_in(result) if id(tensor) not in given], role, **facts)
        return result

    def _takes_rule(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """False for a product of two signals under the true gradient, which needs no rule."""
        signals = [tensor for tensor in tensors_in((args, kwargs)) if self.role(tensor) is not Role.PLAIN]
        return len(signals) == 1 or (bool(signals) and self._rule_of is not None)

    def _linear_map(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        args, kwargs = replaced(args, self._sandbox.current), replaced(kwargs, self._sandbox.current)
        if sum(self.role(tensor) is not Role.PLAIN for tensor in tensors_in((args, kwargs))) > 1:
            raise refusal(f"{name} with weights that depend on the observations")
        linear_map, inputs, weight, bias, padding = operations.linear_call(name, args, kwargs)
        if self.role(inputs) is not Role.CARRYING and id(inputs) not in self._stand_ins:
            self._reach(inputs, weight)
        stand_in = self._stand_ins.get(id(inputs))
        with full_precision(inputs.device.type):
            values = padded((inputs if stand_in is None else stand_in.direct).detach(), padding)
            weight, bias = constant(weight), None if bias is None else constant(bias)
            outputs = linear_map.forward(values, weight, bias)
        layer = Layer(linear_map, values, weight, bias, outputs, self._layers, first=stand_in is not None)
        self._layers += 1
        if stand_in and self._box:
            layer.low, layer.high = (padded(stand_in.padding(corner), padding) for corner in self._box)
        rule = self._rule(layer)
        if stand_in:
            inputs = stand_in.ruled if rule.pixels else stand_in.direct
        with torch.enable_grad():
            source = padded(inputs, padding)
        return self._outputs(layer, rule, source)

    def _rule(self, layer: Layer) -> Rule:
        rule: Rule = Zero() if self._rule_of is None else self._rule_of(layer)
        if rule.pixels and not layer.first:
            raise ValueError(
                f"{type(rule).__name__} gives relevance to inputs of 0 and is for the layer that sees the pixels, "
                f"got it for layer {layer.index}: give this layer another rule"
            )
        return rule

    def _outputs(self, layer: Layer, rule: Rule, source: Tensor) -> Tensor:
        handed = [layer.outputs]
        layer.outputs = layer.outputs.detach()
        layer.versions = layer.inputs._version, layer.outputs._version  # noqa: SLF001
        with torch.enable_grad():
            outputs: Tensor = Propagate.apply(source, handed, layer, rule)  # type: ignore[no-untyped-call]
        self._mark(outputs, Role.CARRYING, call=Call(layer, rule, source))
        return outputs

    def _reach(self, inputs: Tensor, weight: Tensor) -> None:
        """Makes `inputs` the explained pixels.

        Raises: TypeError: they are no floating numbers, or others than the weights. NotImplementedError: there are
            explained pixels already.
        """
        if self.pixels is not None:
            raise refusal("a second layer that reads the observations by another way than the first")
        if inputs.dtype != weight.dtype:
            raise TypeError(
                f"the network's first layer expected {weight.dtype}, got {inputs.dtype}: pass the observations as "
                f"the training does, such as observations.to({weight.dtype}) / 255"
            )
        mark = self.mark(inputs)
        pixels: Tensor = inputs
        padding: Callable[[Tensor], Tensor] = unchanged
        if mark is not None and mark.unpadded is not None and mark.padding is not None:
            pixels, padding = mark.unpadded, mark.padding
        self.pixels = constant(pixels)
        if self.pixels.ndim == 4:  # noqa: PLR2004  (convolutions run fastest with the channels last, and keep that)
            self.pixels = self.pixels.contiguous(memory_format=torch.channels_last)
        if self._stop:
            raise PixelsReached
        self.ruled, self.direct = (self.pixels.detach().requires_grad_() for _ in range(2))
        self._mark([self.ruled, self.direct], Role.CARRYING)
        self._stand_ins[id(pixels)] = StandIn(pixels, self.ruled, self.direct, unchanged)
        if pixels is not inputs:
            with torch.enable_grad():
                ruled, direct = padding(self.ruled), padding(self.direct)
            self._mark([ruled, direct], Role.CARRYING)
            self._stand_ins[id(inputs)] = StandIn(inputs, ruled, direct, padding)

    def _current(self, tensor: Tensor) -> Tensor:
        """What stands in for `tensor` in an operation that carries relevance."""
        tensor = self._sandbox.current(tensor)
        if id(tensor) in self._stand_ins:
            return self._stand_ins[id(tensor)].direct
        role = self.role(tensor)
        if role is Role.OBSERVED and tensor.is_floating_point():
            raise refusal("an operation that reads the observations by another way than the first layer")
        return tensor if role is Role.CARRYING else constant(tensor)

    def _carry(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation on something that carries relevance."""
        if name in operations.GRADIENT_SWITCHES:
            return RemovableHandle(OrderedDict()) if name == "register_hook" else args[0]
        args, kwargs = replaced(args, self._current), replaced(kwargs, self._current)
        carriers = [tensor for tensor in tensors_in((args, kwargs)) if self.role(tensor) is Role.CARRYING]
        if name in operations.DROPOUTS | operations.IDENTITIES:
            return carriers[0]
        if name == "batch_norm":
            return self._batch_norm(carriers[0], *args[1:], **kwargs)
        writes = in_place(name, kwargs)
        if name in operations.ADDITIONS and len(carriers) == 1 and len(args) > 1 and not kwargs and not writes:
            summed = self._with_bias(carriers[0], args[1] if args[0] is carriers[0] else args[0])
            if summed is not None:
                return summed
        function = self._function(func, name, args, carriers)
        with torch.enable_grad():
            result = function(*args, **kwargs)
        if result is carriers[0] and not writes:
            return result
        for layer in filter(None, map(self._layer, carriers)):
            layer.consumers.add(name.rstrip("_"))
            if writes and name.startswith("relu"):  # it leaves the outputs as they are wherever relevance is not 0
                layer.versions = layer.versions[0], carriers[0]._version  # noqa: SLF001
        for tensor in tensors_in(result):
            self._mark(tensor, Role.CARRYING if tensor.requires_grad else Role.PLAIN)
        return result

    def _layer(self, tensor: Tensor) -> Layer | None:
        mark = self.mark(tensor)
        return None if mark is None or mark.call is None else mark.call.layer

    def _function(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], carriers: list[Tensor]
    ) -> Callable[..., Any]:
        """What is run for `func` on something that carries relevance.

        Raises: NotImplementedError: nothing is known about it.
        """
        if name in operations.LEAVING:
            raise refusal(f"Tensor.{name}, which takes numbers out of the network")
        if name in operations.PIECEWISE_LINEAR | operations.QUESTIONS:
            return operations.VIEWS.get(name, func)
        if self._rule_of is None:
            return partial(operations.without_drawing, func)
        if name.endswith("__get__"):
            return partial(operations.without_signal, func)
        alone = len(carriers) == 1 and args and carriers[0] is args[0]
        if name in operations.SCALINGS and len(carriers) == 1 and (alone or "div" not in name):
            return func
        if alone and name in operations.ACTIVATIONS:
            return partial(operations.pass_through, func)
        if alone and name in operations.NORMALISATIONS:
            return operations.NORMALISATIONS[name]
        raise refusal("a product of two signals" if name in operations.SCALINGS else name)

    def _batch_norm(self, values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Batch normalisation in evaluation; right behind a layer it becomes part of that layer's weights."""
        scale, shift = operations.batch_norm_factors(values, *args, **kwargs)
        layer = self._layer(values)
        if self._rule_of is None or layer is None or values.ndim not in {2, 4}:
            with torch.enable_grad():
                outputs = operations.affine(values, scale, shift)
            self._mark(outputs, Role.CARRYING)
            return outputs
        weight = layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1))
        bias = shift if layer.bias is None else layer.bias * scale + shift
        return self._merged(values, weight, bias, operations.affine(values.detach(), scale, shift))

    def _with_bias(self, values: Tensor, constant: Any) -> Tensor | None:
        """The sum of a layer's outputs and a bias, as one layer."""
        layer = self._layer(values)
        if layer is None or not isinstance(constant, Tensor):
            return None
        bias = channel_bias(layer, constant)
        if bias is None:
            return None
        total = bias if layer.bias is None else layer.bias + bias
        return self._merged(values, layer.weight, total, values.detach() + constant)

    def _merged(self, values: Tensor, weight: Tensor, bias: Tensor, outputs: Tensor) -> Tensor:
        """The layer that `values` are the outputs of, with other weights, bias and outputs."""
        mark = self.mark(values)
        assert mark is not None and mark.call is not None  # noqa: S101, PT018  (asked by the callers)
        layer = replace(mark.call.layer, weight=weight, bias=bias, outputs=outputs, consumers=set())
        return self._outputs(layer, mark.call.rule, mark.call.source)
