"""One forward pass of the network that is training, ready to carry relevance from Q back to the pixels.

Every operation of the pass goes through `Interception`: convolutions and linear maps propagate by the rule that the
composite gives them, the other operations as `operations.known` says, and what is not known there is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from rlwatch.attribution.lrp.pixels import Pixels
from rlwatch.attribution.lrp.propagation import Progress, Propagate, Rectify, descends, followed
from rlwatch.attribution.lrp.rules import Rule, Zero, checked
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
from rlwatch.attribution.operations.known import in_place, name_of, replaced, target_of, tensors_in, written_by
from rlwatch.attribution.operations.layers import Layer
from rlwatch.attribution.operations.refusal import Refusal
from rlwatch.attribution.operations.shapes import check_shape
from rlwatch.attribution.operations.treatment import Treatment, affine, batch_norm_factors, treatment
from rlwatch.attribution.sandbox.sandbox import Sandbox
from rlwatch.attribution.sandbox.untouched import untouched

RuleOf = Callable[[Layer], Rule]


class Interception(TorchFunctionMode):
    """The torch calls of one forward pass.

    `rule_of=None` takes the true gradient everywhere; `stop=True` ends the pass at the pixels, with PixelsReached;
    `instead` is what the network gets for the pixels; `valued=True` has the first layer multiply what it returns by
    its inputs, so that relevance itself arrives at the pixels; `keep=True` keeps each table that was computed on the
    way in `marks.computed`. `treat` says what is run for an operation that is no linear map.
    """

    def __init__(
        self,
        observations: Tensor,
        rule_of: RuleOf | None,
        box: BoxOf | None = None,
        *,
        stop: bool = False,
        instead: Tensor | None = None,
        keep: bool = False,
        valued: bool = False,
        treat: Treatment = treatment,
    ) -> None:
        super().__init__()
        self.marks = Marks(keep=keep)
        self.progress = Progress()
        self.observations = observations = followed(constant(observations), self.progress)
        self.pixels = Pixels(observations, observations, instead, stop)
        self._rule_of, self._box = rule_of, box
        self._valued, self._treat = valued, treat
        self._sandbox = Sandbox(observations)
        self._layers = 0
        self.marks.put([observations], Role.OBSERVED)

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
        if not args and next(iter(kwargs), "") == "input":
            args, kwargs = (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
        given = tensors_in((args, kwargs))
        for tensor in given:
            self._meet(tensor)
        roles = [self.role(tensor) for tensor in given]
        signals = len(roles) - roles.count(Role.PLAIN)
        if name in known.LINEAR_MAPS and signals and self._is_layer(name, args, kwargs, signals):
            return self._linear_map(name, args, kwargs)
        if name in known.FRESH and not (name == "new_tensor" and len(given) > 1):
            return self._aside(func, name, args, kwargs, Role.PLAIN)
        switched = name in known.GRADIENT_SWITCHES and Role.OBSERVED in roles
        if Role.CARRYING in roles or switched or not self.pixels.stand_ins.keys().isdisjoint(map(id, given)):
            return self._carry(func, name, args, kwargs)
        return self._aside(func, name, args, kwargs, Role.OBSERVED if Role.OBSERVED in roles else Role.PLAIN)

    def _is_layer(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], signals: int) -> bool:
        """True if a product has a rule of its own; else it is differentiated, as far as that is right.

        Raises: NotImplementedError: it is a product of two signals.
        """
        exact = self._rule_of is None
        if signals > 1 and not exact:
            raise Refusal(f"{name} with weights that depend on the observations")
        weights_first = name not in {"conv2d", "linear", "addmm"} and self.role(args[0]) is Role.PLAIN
        axes = known.weights_of(name, args, kwargs).ndim
        return signals == 1 and axes != 1 and not (exact and (weights_first or axes != known.WEIGHTS[name]))

    def ask(self, network: Callable[..., Any]) -> Any:
        """What the network returns for the observations; nothing of it changes."""
        with untouched(network), self:
            return network(self.observations)

    def _meet(self, tensor: Tensor) -> None:
        """Notes a tensor that is read.

        Raises: NotImplementedError: code that torch does not show has made it of what carries relevance.
        """
        mark = self.marks.of(tensor)
        if mark is None:
            self._sandbox.meet(tensor)
        changed = tensor.grad_fn is not (mark and mark.node) and not (mark and mark.role is Role.OBSERVED)
        if changed and descends(tensor, self.progress):
            unseen = "a torch.autograd.Function or scripted code"
            known_view = mark is not None and tensor._base is not None  # noqa: SLF001  (how autograd knows it, too)
            raise Refusal("an in-place operation on another part of a tensor" if known_view else unseen)

    def role(self, tensor: Tensor) -> Role:
        """The role of `tensor`; what the pass has not made is plain."""
        mark = self.marks.of(self._sandbox.current(tensor))
        return Role.PLAIN if mark is None else mark.role

    def finish(self, q_values: Tensor) -> None:
        """Notes that the network has returned `q_values`.

        Raises: ValueError: they do not follow from the pixels.
        """
        self._meet(q_values)
        mark = self.marks.of(q_values)
        if mark is None or mark.role is not Role.CARRYING or not q_values.requires_grad:
            raise ValueError(
                "the Q-values do not follow from the observations by operations that could be seen: pass the callable "
                "that the training calls, eager (not scripted) and without a detour through NumPy"
            )
        self._consume([q_values], "return")

    def _aside(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], role: Role
    ) -> Any:
        """An operation that carries no relevance."""
        if role is Role.OBSERVED and (name in known.UNKNOWN_LAYERS or "::" in name):
            raise Refusal(f"{name}, which is the first layer: rlwatch explains the input of a conv2d or linear layer")
        if name.endswith("__set__") and self.marks.of(args[0]) is None:
            return self._sandbox.assign(name)
        if in_place(name, kwargs):
            target = target_of(args, kwargs)
            born = self.marks.of(target) is not None
            self.marks.put(self._sandbox.write(func, target, args, kwargs, born=born), role)
            return target
        told = replaced(args, Tensor.detach) if role is Role.OBSERVED and name in known.TOLD else args
        result = self._sandbox.run(func, name, told, kwargs)
        if name in known.OWN:
            return result
        given = {id(tensor) for tensor in tensors_in((args, kwargs))}
        facts: dict[str, Any] = {}
        if role is Role.OBSERVED:
            result = result if id(result) in given else followed(result, self.progress)
            if name == "pad":
                facts = self.marks.before(args[0], lambda values: func(values, *args[1:], **kwargs))
        self.marks.put([tensor for tensor in tensors_in(result) if id(tensor) not in given], role, **facts)
        return result

    def _linear_map(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        args, kwargs = replaced(args, self._sandbox.current), replaced(kwargs, self._sandbox.current)
        linear_map, inputs, weight, bias, padding = known.linear_call(name, args, kwargs)
        check_shape(linear_map, inputs, weight, self._layers)
        if self.role(inputs) is not Role.CARRYING and self.pixels.of(inputs) is None:
            self.marks.put(self.pixels.reach(inputs, weight, self.marks.of(inputs)), Role.CARRYING)
        self._consume([inputs], name)
        stand_in = self.pixels.of(inputs)
        with full_precision(inputs.device.type), torch.no_grad():
            values = padded((inputs if stand_in is None else stand_in.direct).detach(), padding)
            weight, bias = constant(weight), None if bias is None else constant(bias)
            outputs = linear_map.forward(values, weight, bias)
        first = stand_in is not None
        layer = Layer(linear_map, values, weight, bias, outputs, self._layers, first=first, padding=padding)
        self._layers += 1
        if stand_in and self._box:
            layer.box = partial(padded_box, self._box, lambda corner: padded(stand_in.padding(corner), padding))
        rule = checked(Zero() if self._rule_of is None else self._rule_of(layer), layer)
        if stand_in:
            layer.valued = self._valued and not rule.pixels
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

    def _current(self, tensor: Tensor, name: str, target: Tensor | None) -> Tensor:
        """What stands in for `tensor` in the operation `name`, which carries relevance, and writes it into `target`."""
        written, tensor = tensor is target, self._sandbox.current(tensor)
        stand_in = self.pixels.of(tensor)
        if stand_in is not None:
            return stand_in.direct
        counted = name in known.SUMS | known.SCALINGS and tensor.dtype != torch.bool
        if self.role(tensor) is Role.OBSERVED and (counted or tensor.is_floating_point()):
            raise Refusal("an operation that reads the observations by another way than the first layer")
        return tensor if self.role(tensor) is Role.CARRYING or written else constant(tensor)

    def _carry(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation on something that carries relevance."""
        if name in known.GRADIENT_SWITCHES:
            return RemovableHandle(OrderedDict()) if name == "register_hook" else args[0]
        writes = in_place(name, kwargs)
        target = target_of(args, kwargs) if writes else None
        if target is not None:
            self._sandbox.prepare(target, name, born=self.marks.of(target) is not None)
        current = partial(self._current, name=name, target=target)
        args, kwargs = replaced(args, current), replaced(kwargs, current)
        carriers = [tensor for tensor in tensors_in((args, kwargs)) if self.role(tensor) is Role.CARRYING]
        if name in known.DROPOUTS | known.IDENTITIES:
            return carriers[0]
        layered = None if writes else self._layered(name, args, kwargs, carriers)
        if layered is not None:
            return layered
        function = self._treat(func, name, args, carriers, true_gradient=self._rule_of is None)
        if self._rule_of is None and name not in known.STILL:
            function = partial(self._sandbox.drawn, function)
        with recorded():
            result = function(*args, **kwargs)
        if result is carriers[0] and not writes:
            return result
        if name not in known.QUESTIONS:
            self._consume(carriers, name)
        changed = written_by(args, kwargs) if writes else []
        for tensor in [*tensors_in(result), *changed]:
            self.marks.put(tensor, Role.CARRYING if tensor.requires_grad else Role.PLAIN)
        return result

    def _layered(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], carriers: list[Tensor]) -> Any:
        """An operation that becomes part of a layer, or is made of layers; None if it is neither."""
        if name == "batch_norm" and len(carriers) > 1:
            raise Refusal("batch_norm with weights that depend on the observations")
        if name == "batch_norm":
            return self._batch_norm(carriers[0], *args[1:], **kwargs)
        if name in known.CELLS and self._rule_of is not None and self._treat is treatment:
            self._consume(carriers, name)
            with recorded():
                outputs = recurrent.unfolded(name, self._inner_layer, *args, **kwargs)
            self.marks.put(outputs, Role.CARRYING)
            return outputs
        if name == "relu" and self._treat is treatment and (call := self.marks.call(carriers[0])) is not None:
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
        return self._linear_map("linear", (inputs, weight, bias), {})

    def _rectified(self, values: Tensor, layer: Layer) -> Tensor:
        """A ReLU right behind a layer, whose results stand for the layer's outputs while it alone reads them."""
        self._consume([values], "relu")
        with recorded():
            outputs: Tensor = Rectify.apply(values, layer)  # type: ignore[no-untyped-call]
        if layer.rectified:
            layer.replace_outputs(outputs.detach())
        self.marks.put(outputs, Role.CARRYING)
        return outputs

    def _consume(self, carriers: list[Tensor], name: str) -> None:
        """Notes what reads the outputs of layers."""
        for tensor, call in ((tensor, self.marks.call(tensor)) for tensor in carriers):
            if call is None:
                continue
            relu = name.rstrip("_") == "relu" and self._treat is treatment
            if call.layer.rectified and not relu:
                call.layer.replace_outputs(tensor.detach())
            call.layer.consumers.add("relu" if relu else "other")
            if relu:  # in place too it leaves outputs as they are where relevance is not 0
                call.layer.versions = call.layer.versions[0], tensor._version  # noqa: SLF001  (autograd's)

    def _batch_norm(self, values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Batch normalisation in evaluation; right behind a layer it becomes part of that layer's weights."""
        scale, shift = batch_norm_factors(values, *args, **kwargs)
        call = self.marks.call(values)
        if self._rule_of is None or call is None or values.ndim != call.layer.channels_first:
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
