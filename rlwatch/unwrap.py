"""What a training wraps around its network and its optimiser, taken off; and Q-values and pixels of any network."""

import copy
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from types import MethodType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

Network = Callable[..., Any]
ORIGINAL = "_torchdynamo_orig_callable"
"""Where what `torch.compile` returns holds the function that it was given."""
IN_PLACE = "_compiled_call_impl"
"""Where a module holds what its `compile` has made."""
Given = ParamSpec("Given")
Result = TypeVar("Result")


class Read(nn.Module):
    """The Q-values that `read` makes of a network and observations, for networks that return something else.

    The network stays the one that trains; `read` takes it as an argument, so that copies ask the copied network.
    """

    def __init__(self, network: nn.Module, read: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.read = network, read
        self.training = network.training

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values, (probe, action)."""
        return self.read(self.network, observations)


def pixels(frames: Tensor) -> Tensor:
    """The frames (probe, stack, y, x), as floats, read by a layer that leaves them as they are.

    Maps are of what the first layer reads: with this one before a network they are of the frames, whatever the network
    makes of these (patches, differences, two inputs). It takes them in [0, 255], as they are, or whatever is made of
    this function's result: observe=lambda frames: pixels(frames) / 255.
    """
    floats = frames if frames.is_floating_point() else frames.float()
    channels = floats.shape[1]
    return functional.conv2d(floats, floats.new_ones(channels, 1, 1, 1), groups=channels)


def unwrapped(network: Network) -> Network:
    """The eager network of one device that `torch.compile`, DataParallel or DistributedDataParallel was given.

    Parameters are shared with the training's, so the network is always the newest. Where compiled parts sit inside of
    a network, modules on the way to them are shallow copies. A method of a module is that module, read by it.
    """
    inner = _inner(network)
    if inner is not network:
        return unwrapped(inner)
    if isinstance(network, MethodType) and isinstance(network.__self__, nn.Module):
        network = Read(network.__self__, network.__func__)
    return _eager(network) if isinstance(network, nn.Module) else network


def parameters_of(network: object) -> Iterable[nn.Parameter]:
    """The network's parameters, where these are known; none of a plain function."""
    return network.parameters() if isinstance(network, nn.Module) else ()


def uncompiled(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The function, which runs as it stands where `torch.compile` was given what calls it."""

    @wraps(function)
    def whole(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        if torch.compiler.is_compiling():
            apart: Any = torch.compiler.disable
            result: Result = apart(function)(*args, **kwargs)
            return result
        return function(*args, **kwargs)

    return whole


def is_first_rank() -> bool:
    """Whether this process is the one that logs: of a distributed training that is rank 0."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0)


def stepping(optimizer: Optimizer) -> Optimizer:
    """The optimiser that makes the steps, beneath those that only pass them on, as accelerate's does."""
    inner = getattr(optimizer, "optimizer", None)
    return stepping(inner) if isinstance(optimizer, Optimizer) and isinstance(inner, Optimizer) else optimizer


def after_each_step(optimizer: Optimizer, call: Callable[[], object]) -> RemovableHandle:
    """Call after every step of this optimiser, once where it calls that of its base, too; `remove()` ends it."""

    @uncompiled
    def stepped(one: Optimizer, *_: object) -> None:
        if not _is_within_step(one):
            call()

    return optimizer.register_step_post_hook(stepped)


def _is_within_step(optimizer: Optimizer) -> bool:
    """Whether a step of this optimiser that has ended is a part of another one, which calls it as that of its base."""
    code, frame, found = getattr(type(optimizer).step, "__code__", None), sys._getframe(), 0  # noqa: SLF001
    while frame.f_back is not None:
        frame = frame.f_back
        found += frame.f_code is code and frame.f_locals.get("self") is optimizer
    return found > 1


def check_updates(optimizer: Optimizer, network: Network) -> None:
    """Make sure that the optimiser updates some of the network's parameters, where these are known.

    Raises: ValueError when it does not; TypeError when it is no optimiser.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"expected a torch optimiser, got {type(optimizer).__name__}: attach {_meant(optimizer)}")
    if not hasattr(optimizer, "_optimizer_step_post_hooks"):
        raise TypeError(
            f"expected an optimiser that has called torch's __init__, got a {type(optimizer).__name__} that has not: "
            "attach the one that it passes its steps on to"
        )
    own = set(parameters_of(network))
    updated = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if own and own.isdisjoint(updated):
        raise ValueError(
            f"expected an optimiser of the Q-network, got a {type(optimizer).__name__} that updates none of its "
            f"{len(own)} parameters: attach the one that trains the network, or call watch(step) in the loop where "
            "none does, as of an averaged copy"
        )


def _meant(given: object) -> str:
    """Which optimiser is to be attached instead of a wrapper or a schedule."""
    held = isinstance(getattr(given, "optimizer", None), Optimizer)
    return "the one that it holds, its .optimizer" if held else "the one that trains the network"


def _inner(network: Network) -> Network:
    owner = getattr(network, "__self__", None)
    if isinstance(owner, nn.Module) and getattr(network, "__name__", "") == "forward":
        return owner
    held = {**getattr(network, "__dict__", {}), **getattr(network, "_modules", {})}
    parallel = isinstance(network, (DataParallel, DistributedDataParallel))
    # of a parallel module; of a compiled module; of a compiled function
    for name in ("module",) if parallel else ("_orig_mod", ORIGINAL):
        if name in held:
            inner: Network = held[name]
            return inner
    return network


def _eager(module: nn.Module) -> nn.Module:
    """The module, or a shallow copy of it in which nothing is compiled."""
    held = {name: child for name, child in module._modules.items() if child is not None}  # noqa: SLF001 - in order
    plain: dict[str, Any] = {name: unwrapped(child) for name, child in held.items()}
    functions = {name: one for name, one in vars(module).items() if callable(one) and name != IN_PLACE}
    originals = {name: getattr(one, "__dict__", {}).get(ORIGINAL, one) for name, one in functions.items()}
    replaced = any(one is not functions[name] for name, one in originals.items())
    replaced |= any(one is not held[name] for name, one in plain.items())
    if not replaced and getattr(module, IN_PLACE, None) is None:
        return module
    twin = copy.copy(module)
    twin._modules = module._modules | plain  # noqa: SLF001 - a dict of its own; what was compiled is not copied
    for name, one in originals.items():
        own = isinstance(one, MethodType) and one.__self__ is module
        vars(twin)[name] = MethodType(one.__func__, twin) if own else one
    return twin
