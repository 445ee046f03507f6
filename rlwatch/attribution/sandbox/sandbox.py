"""The side effects of a forward pass, kept away from the network that is training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlwatch.attribution.operations import known
from rlwatch.attribution.operations.known import replaced, tensors_in
from rlwatch.attribution.operations.treatment import EVALUATED, affine, batch_norm_factors

SEED = 0
"""Of the network's own random numbers (noisy layers, sampled quantiles): each checkpoint gets the same ones."""


class Sandbox:
    """Private copies of what the network writes in place, and private random numbers.

    Nothing is switched and switched back (train mode, the global generator): another thread sees no difference either.
    """

    def __init__(self, observations: Tensor) -> None:
        self._observations = observations
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}
        self._foreign = {_storage(observations)}
        self._generators: dict[torch.device, torch.Generator] = {}

    def meet(self, stranger: Tensor) -> None:
        """Remembers the memory of a tensor that was there before the pass."""
        self._foreign.add(_storage(stranger))

    def current(self, tensor: Tensor) -> Tensor:
        """The private copy of `tensor` if it was written to, else itself."""
        return self._copies[id(tensor)][1] if id(tensor) in self._copies else tensor

    def prepare(self, target: Tensor, name: str, *, born: bool) -> None:
        """Has a private copy stand for what the function `name` writes into, unless it was `born` in this pass.

        Raises: RuntimeError when the target is a view of something older than this pass.
        """
        if id(target) in self._copies:
            return
        if not born or target is self._observations:
            self._copies[id(target)] = (target, target.detach().clone())
        elif _storage(target) in self._foreign:
            raise RuntimeError(
                f"the network's {name} writes into a view of its own state or of the observations; explaining must "
                "change neither: let the network write into a clone"
            )

    def lent(self, tensor: Tensor, *, born: bool) -> Tensor:
        """What a function may be given that may write into it unseen: the network's own only as a copy."""
        if not born:
            self.prepare(tensor, "", born=False)
        return self.current(tensor) if not born or _storage(tensor) not in self._foreign else tensor.detach().clone()

    def write(
        self, func: Callable[..., Any], target: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], *, born: bool
    ) -> Tensor:
        """What an in-place operation leaves in its target; `born`: the target was made in this pass.

        Raises: as `prepare` does.
        """
        self.prepare(target, known.name_of(func), born=born)
        self.run(func, known.name_of(func), args, kwargs)
        return self.current(target)

    def assign(self, name: str) -> None:
        """Leaves a property of something older than this pass as it is.

        Raises: RuntimeError when the network might read it back.
        """
        if name not in known.GRADIENT_SWITCHES | {"grad__set__"}:
            raise RuntimeError(
                f"the network assigns {name.removesuffix('__set__')} of its own state while it runs; explaining must "
                "change nothing of it: do that outside of the forward pass"
            )

    def run(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operation as in evaluation, without its side effects."""
        args, kwargs = replaced(args, self.current), replaced(kwargs, self.current)
        if name in known.DROPOUTS:
            return tensors_in((args, kwargs))[0]
        if name in known.RANDOM_LIKE:
            like, device = tensors_in((args, kwargs))[0], kwargs.get("device")
            func, args = known.RANDOM_LIKE[name], (like.shape,)
            kwargs = {"dtype": kwargs.get("dtype") or like.dtype, "device": device or like.device}
        if name in known.RANDOM or name in known.RANDOM_LIKE:
            kwargs = kwargs | {"generator": self._generator(_device(args, kwargs))}
        if name == "batch_norm":
            values = tensors_in((args, kwargs))[0]
            return affine(values, *batch_norm_factors(*args, **kwargs))
        if name in EVALUATED:
            return EVALUATED[name](func, *args, **kwargs, true_gradient=True)
        function: Callable[..., Any] = known.VIEWS.get(name, func)
        return self.drawn(function, *args, **kwargs) if name in known.DRAWING else function(*args, **kwargs)

    def drawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of a function that draws from a global generator, which lends itself to the private numbers."""
        device = _device(args, kwargs)
        if device.type not in {"cpu", "cuda"}:
            return function(*args, **kwargs)
        own = self._generator(device)
        lent = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
        state = lent.get_state()
        lent.set_state(own.get_state())
        try:
            return function(*args, **kwargs)
        finally:
            own.set_state(lent.get_state())
            lent.set_state(state)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(SEED)
        return self._generators[device]


def _device(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device:
    """Where a function that is given these draws."""
    like = next(iter(tensors_in(args)), None)
    return torch.device(kwargs.get("device") or (like.device if like is not None else torch.get_default_device()))


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        raise NotImplementedError(
            "a network under torch.vmap, or of sparse tensors, is not explained: call the members of an ensemble one "
            "by one, such as torch.stack([member(x) for member in members]).mean(0)"
        ) from None
