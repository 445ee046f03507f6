"""One forward pass of the network that is training, ready to carry relevance from Q back to the pixels.

Every operation of the pass goes through `Interception`: convolutions and linear maps propagate by the rule that the
composite gives them, the other operations as `operations.known` says, and what is not known there is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from rlwatch.attribution.lrp.layering import Layers
from rlwatch.attribution.lrp.pixels import Pixels
from rlwatch.attribution.lrp.propagation import Progress, descends, followed
from rlwatch.attribution.lrp.rules import RuleOf
from rlwatch.attribution.lrp.signals import BoxOf, Marks, Role, constant, framing, recorded
from rlwatch.attribution.operations import known
from rlwatch.attribution.operations.known import in_place, name_of, replaced, target_of, tensors_in, written_by
from rlwatch.attribution.operations.refusal import BEGIN, Refusal
from rlwatch.attribution.operations.treatment import Treatment, treatment
from rlwatch.attribution.sandbox.sandbox import Sandbox
from rlwatch.attribution.sandbox.untouched import untouched


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
        self.layers = Layers(rule_of, box, valued, treat, self.marks, self.pixels, self.progress)
        self._sandbox = Sandbox(observations)
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
        if any(self.marks.given(tensor) is not tensor for tensor in given):
            args, kwargs = replaced(args, self.marks.given), replaced(kwargs, self.marks.given)
            given = tensors_in((args, kwargs))
        for tensor in given:
            self._meet(tensor)
        if name in known.WRITERS or "::" in name:
            args, kwargs = replaced(args, self._lent), replaced(kwargs, self._lent)
            given = tensors_in((args, kwargs))
        roles = [self.role(tensor) for tensor in given]
        signals = len(roles) - roles.count(Role.PLAIN)
        if name in known.LINEAR_MAPS and signals and self._is_layer(name, args, kwargs, signals):
            current = self._sandbox.current
            args = self._of_weights_type(name, args, kwargs)
            return self.layers.call(name, replaced(args, current), replaced(kwargs, current))
        if name in known.FRESH and not (name == "new_tensor" and len(given) > 1):
            return self._aside(func, name, args, kwargs, Role.PLAIN)
        switched = name in known.GRADIENT_SWITCHES and Role.OBSERVED in roles
        if Role.CARRYING in roles or switched or not self.pixels.stand_ins.keys().isdisjoint(map(id, given)):
            return self._carry(func, name, args, kwargs)
        return self._aside(func, name, args, kwargs, Role.OBSERVED if Role.OBSERVED in roles else Role.PLAIN)

    def _lent(self, tensor: Tensor) -> Tensor:
        """What stands for a tensor that may be written to unseen."""
        plain = self.role(tensor) is Role.PLAIN
        return self._sandbox.lent(tensor, born=self.marks.of(tensor) is not None) if plain else tensor

    def _is_layer(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], signals: int) -> bool:
        """True if a product has a rule of its own; else it is differentiated, as far as that is right.

        Raises: NotImplementedError when it is a product of two signals.
        """
        exact = self.layers.exact
        if signals > 1 and not exact:
            raise Refusal(f"{name} with weights that depend on the observations")
        weights_first = name not in {"conv2d", "linear", "addmm"} and self.role(args[0]) is Role.PLAIN
        if weights_first and not exact:
            raise Refusal(
                f"{name} with weights as its first factor",
                "let the network use torch.nn.functional.linear, or use method='gradient_x_input'",
            )
        axes = known.weights_of(name, args, kwargs).ndim
        return signals == 1 and axes != 1 and not (exact and (weights_first or axes != known.WEIGHTS[name]))

    def _of_weights_type(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """What a layer is given: inputs of its weights' type under the network's autocast, which makes types one."""
        if not args or name not in {"conv2d", "linear"} or not torch.is_autocast_enabled(args[0].device.type):
            return args
        wanted = known.weights_of(name, args, kwargs).dtype
        if args[0].dtype == wanted or not args[0].is_floating_point():
            return args
        return self._dispatch(Tensor.to, (args[0], wanted), {}), *args[1:]

    def ask(self, network: Callable[..., Any]) -> Any:
        """What the network returns for the observations; nothing of it changes."""
        with untouched(network), self:
            return network(self.observations)

    def _meet(self, tensor: Tensor) -> None:
        """Notes a tensor that is read.

        Raises: NotImplementedError when code that torch does not show has made it of what carries relevance.
        """
        mark = self.marks.of(tensor)
        if mark is None:
            self._sandbox.meet(tensor)
        changed = tensor.grad_fn is not (mark and mark.node) and not (mark and mark.role is Role.OBSERVED)
        if changed and descends(tensor, self.progress):
            unseen = "a torch.autograd.Function or scripted code"
            by_function = isinstance(tensor.grad_fn, BackwardCFunction)
            known_view = mark is not None and tensor._base is not None and not by_function  # noqa: SLF001 - how autograd knows it, too
            raise Refusal("an in-place operation on another part of a tensor" if known_view else unseen)

    def role(self, tensor: Tensor) -> Role:
        """The role of `tensor`; what the pass has not made is plain."""
        return self.marks.role(self._sandbox.current(tensor))

    def finish(self, q_values: Tensor) -> None:
        """Notes that the network has returned `q_values`.

        Raises: ValueError when they do not follow from the pixels.
        """
        self._meet(q_values)
        mark = self.marks.of(q_values)
        if mark is None or mark.role is not Role.CARRYING or not q_values.requires_grad:
            raise ValueError(
                "the Q-values do not follow from the observations by operations that could be seen: pass the callable "
                "that the training calls, eager (not scripted) and without a detour through NumPy"
            )
        self.layers.consume([q_values], "return")

    def _aside(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], role: Role
    ) -> Any:
        """An operation that carries no relevance."""
        if role is Role.OBSERVED and (name in known.UNKNOWN_LAYERS or "::" in name):
            what = f"{name}, which is the first layer: rlwatch explains the input of a conv2d or linear layer"
            raise Refusal(what, BEGIN)
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
            facts = self._framed(func, name, args, kwargs)
        self.marks.put([tensor for tensor in tensors_in(result) if id(tensor) not in given], role, **facts)
        return result

    def _framed(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """The facts about what has put something around the observations; none where it has not."""
        given = tensors_in((args, kwargs)) if name in known.FRAMES else []
        observed = [self._sandbox.current(tensor) for tensor in given if self.role(tensor) is Role.OBSERVED]
        if len(observed) != 1:
            return {}
        args, kwargs = replaced(args, self._sandbox.current), replaced(kwargs, self._sandbox.current)
        frame = framing(func, args, kwargs, observed[0])
        return {} if frame is None else self.marks.before(observed[0], frame)

    def _current(self, tensor: Tensor, name: str, target: Tensor | None) -> Tensor:
        """What stands in for `tensor` in the operation `name`, which carries relevance, and writes it into `target`."""
        written, tensor = tensor is target, self._sandbox.current(tensor)
        stand_in = self.pixels.of(tensor)
        if stand_in is not None:
            return stand_in.direct
        counted = name in known.SUMS | known.SCALINGS and tensor.dtype != torch.bool
        if self.role(tensor) is Role.OBSERVED and (counted or tensor.is_floating_point()):
            raise Refusal("an operation that reads the observations by another way than the first layer", BEGIN)
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
        layered = None if writes else self.layers.joined(name, args, kwargs, carriers)
        if layered is not None:
            return layered
        function = self.layers.treat(func, name, args, carriers, true_gradient=self.layers.exact)
        if self.layers.exact and name not in known.STILL:
            function = partial(self._sandbox.drawn, function)
        with recorded():
            result = function(*args, **kwargs)
        if result is carriers[0] and not writes:
            return result
        if name not in known.QUESTIONS:
            self.layers.consume(carriers, name)
        changed = written_by(args, kwargs) if writes else []
        source = _viewed(name, carriers)
        for tensor in [*tensors_in(result), *changed]:
            self.marks.put(tensor, Role.CARRYING if tensor.requires_grad else Role.PLAIN, source=source)
        return result


def _viewed(name: str, carriers: list[Tensor]) -> tuple[Tensor, int] | None:
    """What is viewed as itself, and in which state: so a torch.autograd.Function returns what it was given."""
    itself = name == "view_as" and len(carriers) > 1 and carriers[0] is carriers[-1]
    return (carriers[0], carriers[0]._version) if itself else None  # noqa: SLF001 - how autograd knows it, too
