"""Networks with fresh weights: the baseline that a trained one is held against, and the way there layer by layer."""

import copy
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlwatch.attribution.operations.known import tensors_in
from rlwatch.attribution.q_values import q_values_of
from rlwatch.attribution.sandbox.keeping import keep
from rlwatch.attribution.sandbox.untouched import parts_of, uncached, untouched

COMPUTED_OF = ("_orig", "_v")
"""How `spectral_norm` and `weight_norm` of `torch.nn.utils` name the parameter that they compute a weight of."""


def untrained(network: nn.Module, seed: int) -> nn.Module:
    """A copy of the network with every parameter drawn anew; the original and the global generators stay untouched.

    A layer with `reset_parameters` draws as it does at birth. Parameters that it leaves alone (of `weight_norm` and
    `spectral_norm`) and those of other layers, whose initialisation is not known, are drawn from a normal distribution
    of their own mean and spread.
    Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv 1810.03292.

    Raises: TypeError when the network cannot be copied.
    """
    fresh = _copied(network)
    _draw(list(nn.Module.modules(fresh)), seed)
    return fresh


def cascade(network: nn.Module, example: Tensor, seed: int, *, stages: int = 5) -> Iterator[tuple[str, nn.Module]]:
    """The network with its layers drawn anew from the output down, a few more in each of `stages`.

    Stages are called `head` (the layers that nothing but arithmetic parts from the output), `top<n>` (n layers, the
    head's included) and `all`; networks of few layers have fewer. They share one copy: each is good until the next is
    asked for. `example` is an observation as the network takes it, on which the order of its layers is seen; where
    layers are not called as modules, the order in which they were made is taken, and the last one is the head.

    Source: Adebayo et al. 2018, arXiv 1810.03292 (cascading randomisation; five stages are Nature DQN's five layers).

    Raises: TypeError when the network cannot be copied; ValueError when it has no parameters or `stages` is below 1.
    """
    if stages < 1:
        raise ValueError(f"stages must be at least 1, got {stages}")
    fresh = _copied(network).eval()
    layers, head = _from_the_output(fresh, example)
    done = 0
    for end in sorted(set(np.linspace(head, len(layers), stages).round().astype(int).tolist())):
        _draw(layers[done:end], seed + done)
        done = end
        yield ("all" if end == len(layers) else "head" if end == head else f"top{end}"), fresh


def _from_the_output(network: nn.Module, example: Tensor) -> tuple[list[nn.Module], int]:
    """The layers that hold parameters, the output's first, and how many of them make up the head."""
    modules = nn.Module.modules(network)  # a network may call something else so, as AgileRL's do
    layers = [module for module in modules if next(module.parameters(recurse=False), None) is not None]
    if not layers:
        raise ValueError(
            f"expected a network with parameters to draw anew, got none in {type(network).__name__}: pass the module "
            "that trains"
        )
    made: dict[nn.Module, Any] = {}
    for parameter in network.parameters():
        parameter.requires_grad_()
    with untouched(network), torch.inference_mode(mode=False), torch.enable_grad():
        handles = [layer.register_forward_hook(partial(_note, made)) for layer in layers]
        try:
            with _own_draws():
                output = q_values_of(network(example))
        finally:
            for handle in handles:
                handle.remove()
    if output is None or len(made) < len(layers):
        return layers[::-1], 1
    nodes = {node: layer for layer, node in made.items()}
    head = [nodes[node] for node in _first_met(output.grad_fn, nodes)]
    return head + [layer for layer in reversed(made) if layer not in head], len(head)


def _note(made: dict[nn.Module, Any], layer: nn.Module, _: Any, output: Any) -> None:
    """Keeps the node of the layer's output; a layer that is called again counts where it is called last."""
    made.pop(layer, None)
    made[layer] = next(iter(tensors_in(output))).grad_fn


def _first_met(node: Any, wanted: dict[Any, nn.Module]) -> list[Any]:
    """The wanted nodes of a graph that are reached without passing another one."""
    found, seen, waiting = [], set(), [node]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in wanted:
            found.append(node)
        else:
            waiting += [before for before, _ in node.next_functions]
    return found


def _copied(network: nn.Module) -> nn.Module:
    try:
        with torch.inference_mode(mode=False):
            copied = copy.deepcopy(network, _derived(network) | _shared(network))
    except Exception as error:
        raise TypeError(f"the network must be copyable to draw its weights anew, copying raised: {error}") from error
    reached = {id(part) for part in parts_of(copied) if isinstance(part, nn.Module)}
    if not (reached | _held(copied)).isdisjoint(_held(network)):
        raise TypeError(
            "the network must be copyable to draw its weights anew, its copy still reaches modules or tensors of the "
            "network itself: let functions that it holds, or Read is given, take the network as an argument instead of "
            "closing over it, and its __deepcopy__ copy all of it"
        )
    return copied


def _held(network: nn.Module) -> set[int]:
    """The identities of the network's modules, and where its tensors lie in memory."""
    modules = list(nn.Module.modules(network))
    tables = (nn.Module.parameters, nn.Module.buffers)
    tensors = [one for module in modules for table in tables for one in table(module, recurse=False)]
    return {*map(id, modules), *(one.data_ptr() or id(one) for one in tensors)}


def _shared(network: nn.Module) -> dict[int, Any]:
    """What deepcopy is to leave where it is: arrays and lists too large to be put back, such as a replay memory."""
    large: list[Any] = []
    keep(nn.Module.modules(network), large)
    return {id(one): one for one in large if isinstance(one, (np.ndarray, list, deque))}


def _derived(network: nn.Module) -> dict[int, Any]:
    """What deepcopy is to put for tensors that are computed of others, and which it would refuse.

    `weight_norm` and `spectral_norm` hold such weights, and networks the hidden state or the features of their last
    pass.
    """
    held = ((module, name, value) for module in nn.Module.modules(network) for name, value in vars(module).items())
    return {
        id(tensor): tensor.detach().clone()
        for module, name, value in held
        for tensor in tensors_in(value)
        if not tensor.is_leaf or (tensor is value and any(hasattr(module, name + ending) for ending in COMPUTED_OF))
    }


def _draw(modules: list[nn.Module], seed: int) -> None:
    with _own_draws(), torch.no_grad(), uncached():
        torch.manual_seed(seed)
        for module in modules:
            _draw_one(module)


def _own_draws() -> AbstractContextManager[None]:
    """The global generators end as they begin."""
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))


def _draw_one(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    parameters = module.parameters(recurse=False)
    before = [(parameter, parameter.clone(), parameter.add_(1).clone()) for parameter in parameters]
    if callable(reset):
        reset()
    for parameter, old, moved in before:  # what is drawn may be what it was, what is left alone is still moved
        if torch.equal(parameter, moved):
            parameter.copy_(old)
            spread = old.std().item() if old.numel() > 1 else 0.0
            if spread or not callable(reset):
                parameter.normal_(old.mean().item(), spread)
