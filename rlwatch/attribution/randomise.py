"""Networks with fresh weights: the baseline that a trained one is held against."""

import copy

import torch
from torch import nn


def untrained(network: nn.Module, seed: int) -> nn.Module:
    """A copy of the network with every parameter drawn anew; the original and the global generators stay untouched.

    A layer with `reset_parameters` draws as it does at birth. Parameters of other layers, whose initialisation is not
    known, are drawn from a normal distribution of their own mean and spread.
    Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv 1810.03292.

    Raises: TypeError when the network cannot be copied.
    """
    try:
        fresh = copy.deepcopy(network)
    except Exception as error:
        raise TypeError(f"the network must be copyable for its untrained baseline, copying raised: {error}") from error
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        for module in fresh.modules():
            _draw(module)
    return fresh


def _draw(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        spread = parameter.std().item() if parameter.numel() > 1 else 0.0
        parameter.normal_(parameter.mean().item(), spread)
