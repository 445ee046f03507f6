"""What is told before a network runs: expected, got, remedy."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlwatch.unwrap import parameters_of

FROM_ZERO = {
    ("lime", "ridge"),
    ("meaningful_perturbation", "area"),
    ("meaningful_perturbation", "jitter"),
    ("meaningful_perturbation", "roughness"),
    ("smoothgrad", "sigma"),
}
"""Settings, by method, that may be 0; others start at 1, or above 0 where they are no whole numbers."""

RARE = {torch.uint16, torch.uint32, torch.uint64}
"""Types of numbers that torch stores, and has few operations for."""


def check_network(network: object) -> None:
    """Raises: TypeError when it is nothing that can be called, or it is without numbers."""
    if isinstance(network, type):
        raise TypeError(f"expected the network that the training calls, got the class {network.__name__}: pass one")
    if isinstance(network, (Mapping, list, tuple, nn.ModuleDict, nn.ModuleList)):
        held = network.values() if isinstance(network, (Mapping, nn.ModuleDict)) else network
        if any(isinstance(one, nn.Module) for one in held):
            got = f"a {type(network).__name__} of {len(network)}"
            raise TypeError(f"expected the network that the training calls, got {got}: pass one of them")
    if any(weight.is_meta for weight in parameters_of(network)):
        raise TypeError("expected a network that holds numbers, got one on the device 'meta': load its weights first")
    if callable(network):
        return
    remedy = "build the network and load_state_dict into it" if isinstance(network, Mapping) else "pass a module"
    raise TypeError(f"expected the network that the training calls, got {type(network).__name__}: {remedy}")


def check_numbers(observations: object, dtype: np.dtype[Any]) -> None:
    """Raises: TypeError when what is no tensor is no array of numbers either, which its `dtype` says."""
    if dtype.kind not in "biufc":
        got = type(observations).__name__
        remedy = "such as torch.from_numpy(Probe.load('breakout').observations())"
        raise TypeError(f"expected observations as a tensor or an array of numbers, got {got} of {dtype}: {remedy}")


def check_dense(observations: Tensor) -> None:
    """Raises: TypeError when the observations are sparse, without numbers, no real ones, or of a rare type."""
    if observations.layout != torch.strided:
        raise TypeError(f"expected dense observations, got {observations.layout}: pass observations.to_dense()")
    if observations.device.type == "meta":
        raise TypeError("expected observations that hold numbers, got some on the device 'meta': put them on another")
    if observations.is_complex() or observations.is_quantized:
        raise TypeError(f"expected real numbers as observations, got {observations.dtype}: pass floats or bytes")
    if observations.dtype in RARE:
        raise TypeError(f"expected floats or bytes as observations, got {observations.dtype}: torch can hardly use it")


def check_bounds(low: object, high: object) -> None:
    """Raises: TypeError when a bound is no number and no tensor; ValueError when not finite, or low above high."""
    for name, bound in (("low", low), ("high", high)):
        if not (bound is None or isinstance(bound, (numbers.Real, Tensor, np.ndarray))):
            raise TypeError(f"{name} must be a number or a tensor, got {bound!r}: such as {name}=0.0")
        if bound is not None and not torch.as_tensor(bound).isfinite().all():
            raise ValueError(f"{name} must be finite, got {bound}: leave it out where it is not known")
    if low is not None and high is not None and (torch.as_tensor(low) > torch.as_tensor(high)).any():
        raise ValueError(f"low must not lie above high, got low={low} and high={high}: they may have been exchanged")


def check_setting(method: str, name: str, value: object, default: Any) -> None:
    """Whether a method's keyword is of the kind of its default.

    Raises: TypeError when it is of another kind; ValueError when it is too small, or not finite.
    """
    if name == "generator" and not isinstance(value, torch.Generator | None):
        raise TypeError(f"generator must be a torch.Generator or None, got {value!r}: torch.Generator().manual_seed(0)")
    if isinstance(default, bool):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {value!r}: it is {default} by default")
    elif isinstance(default, int):
        check_whole(name, value, 0 if (method, name) in FROM_ZERO else 1)
    elif isinstance(default, float) and name != "baseline":
        _check_real(name, value, zero=(method, name) in FROM_ZERO, default=default)


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raises: TypeError when it is no whole number; ValueError when it lies below `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}: at least {least}")
    if int(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _check_real(name: str, value: object, *, zero: bool, default: float) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}: it is {default} by default")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        least = "at least 0" if zero else "above 0"
        raise ValueError(f"{name} must be {least} and finite, got {value}: it is {default} by default")
