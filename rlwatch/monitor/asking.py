"""What the checks ask a network: its maps of given actions, and its Q-values, in passes that leave no trace on it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from rlwatch.attribution.explain import explain_targets
from rlwatch.attribution.inputs import Observe
from rlwatch.attribution.lrp.interception import Interception
from rlwatch.attribution.q_values import q_values_of
from rlwatch.measures.flipping import Ask
from rlwatch.measures.ranks import ranks
from rlwatch.unwrap import parameters_of

Network = Callable[[Tensor], Any]
TARGETS = ("greedy", "contrast")
"""What is explained of every checkpoint."""


@dataclass(frozen=True)
class Map:
    """The relevance of one target on the sample's frames, and what was explained."""

    relevance: Float[np.ndarray, "probe stack y x"]
    score: Float[np.ndarray, " probe"]

    @cached_property
    def summed(self) -> Float[np.ndarray, "probe y x"]:
        """The relevance summed over the stack, with its sign changed where the score is negative."""
        summed: Float[np.ndarray, "probe y x"] = self.relevance.sum(axis=1)
        summed[self.score < 0] *= -1
        return summed

    @cached_property
    def ranks(self) -> Float[np.ndarray, "probe pixel"]:
        """The ranks of `summed` in each frame, which several checks compare."""
        return ranks(self.summed.reshape(len(self.summed), -1))

    @property
    def conservation(self) -> float:
        """Sum of relevance / sum of scores."""
        total = float(self.score.sum())
        return float(self.relevance.sum()) / total if total else math.nan


TargetMaps = Mapping[str, Map]
"""The map of each target."""


@dataclass(frozen=True)
class Explain:
    """The relevance for given actions of given frames, whichever action a network that is asked likes best."""

    observe: Observe
    method: Any
    actions: Int[np.ndarray, " probe"]
    options: Mapping[str, Any]

    def __call__(self, network: Network, frames: UInt8[np.ndarray, "probe stack y x"]) -> TargetMaps:
        """The map of each target for the frames."""
        observations = self.observe(torch.from_numpy(frames).to(device_of(network)))
        asked = _OfAction(network, torch.from_numpy(self.actions).to(observations.device))
        names = ("action=0", "action=1")
        explained = explain_targets(asked, observations, names, self.method, batch_size=len(frames), **self.options)
        return {
            target: Map(numbers(explained[name].relevance), numbers(explained[name].score))
            for target, name in zip(TARGETS, names, strict=True)
        }


@dataclass(frozen=True)
class _OfAction:
    """A network's Q of one action per observation, and the contrast of that action to the others."""

    network: Network
    actions: Int[Tensor, " probe"]

    def __call__(self, observations: Tensor) -> Float[Tensor, "probe 2"]:
        q_values = q_values_of(self.network(observations))
        assert q_values is not None  # noqa: S101 - the network was explained before
        q_values = q_values.to(torch.promote_types(q_values.dtype, torch.float32))  # as `contrast` does
        own = q_values.gather(1, self.actions[: len(q_values), None]).squeeze(1)
        return torch.stack([own, own - (q_values.sum(1) - own) / (q_values.shape[1] - 1)], 1)


def asking(network: Network, observe: Observe, *, batch_size: int = 64) -> Ask:
    """The Q-values of frames as the network acts in evaluation, in passes that leave no trace on it."""

    def ask(frames: UInt8[np.ndarray, "copy stack y x"]) -> Float[np.ndarray, "copy action"]:
        parts = [_q_values(network, observe(part)) for part in _batches(frames, device_of(network), batch_size)]
        return np.concatenate(parts)

    return ask


def _batches(frames: UInt8[np.ndarray, "copy stack y x"], device: torch.device, size: int) -> tuple[Tensor, ...]:
    return torch.split(torch.from_numpy(np.ascontiguousarray(frames)).to(device), size)


def _q_values(network: Network, observations: Tensor) -> Float[np.ndarray, "copy action"]:
    with torch.inference_mode(mode=False), torch.no_grad():
        outputs = Interception(observations, None).ask(network)
    q_values = q_values_of(outputs)
    assert q_values is not None  # noqa: S101 - the network was explained before
    return numbers(q_values)


def weights(best: Int[np.ndarray, " probe"], actions: int) -> dict[str, Float[np.ndarray, "probe action"]]:
    """How much each action's Q counts in each target's score."""
    greedy = np.eye(actions)[best]
    return {"greedy": greedy, "contrast": greedy - (1 - greedy) / (actions - 1)}


def device_of(network: Network) -> torch.device:
    """Where the network's weights are; a plain function's are taken to be on the processor."""
    return next((weight.device for weight in parameters_of(network)), torch.device("cpu"))


def numbers(values: Tensor) -> Float[np.ndarray, "..."]:
    """The tensor as an array of float32."""
    return np.ascontiguousarray(values.detach().float().cpu().numpy())
