"""One forward pass of a network, and the relevance of its pixels for what it has computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlwatch.attribution.families.gradient import GradientMethod, gradient_x_input
from rlwatch.attribution.lrp.interception import Interception
from rlwatch.attribution.lrp.rules import RuleOf
from rlwatch.attribution.lrp.signals import BoxOf
from rlwatch.attribution.operations.memory import empty
from rlwatch.attribution.operations.refusal import BEGIN, REMEDY, Refusal
from rlwatch.attribution.operations.treatment import Treatment, treatment
from rlwatch.attribution.q_values import q_values_of
from rlwatch.attribution.targets import Target

Network = Callable[..., Any]
PICTURE = 4
"""Axes of a picture: probe, stack, y, x."""


@dataclass(frozen=True)
class Pass:
    """What a network has made of observations."""

    observations: Tensor
    q_values: Float[Tensor, "probe action"]
    pixels: Tensor
    interception: Interception

    def table(self, target: Target) -> Float[Tensor, "probe column"]:
        """What `target` makes its score of, able to carry relevance."""
        with torch.enable_grad():
            return target.table(self.q_values, self.interception.marks.computed)

    def score(self, target: Target) -> Float[Tensor, " probe"]:
        """The score of `target`, able to carry relevance."""
        with torch.enable_grad():
            return target.score(self.table(target))

    def gradients(self, total: Tensor, *, last: bool) -> tuple[Tensor | None, Tensor | None]:
        """What reaches the pixels of `total`: relevance itself, and in gradient form; `last` lets memory go."""
        self.interception.progress.last = last
        stand_ins = self.interception.pixels.ruled, self.interception.pixels.direct
        ruled, direct = torch.autograd.grad(total, stand_ins, retain_graph=not last, allow_unused=True)
        return ruled, direct

    def relevance(
        self,
        score: Float[Tensor, " probe"],
        relevance_of: GradientMethod = gradient_x_input,
        *,
        last: bool = True,
        into: Tensor | None = None,
    ) -> Float[Tensor, "probe stack y x"]:
        """The relevance of every pixel for `score`; in the memory of `into` where that is given.

        Raises: ValueError when what the first layer reads is not one picture per observation.
        """
        with torch.enable_grad():
            total = score.sum()
        self.interception.progress.destination = into
        ruled, direct = self.gradients(total, last=last)
        parts = [] if ruled is None else [ruled]
        if direct is not None:
            parts.append(relevance_of(self.pixels, direct.clone() if 0 in direct.stride() else direct))
        found = self.picture(sum(parts[1:], parts[0]))
        if into is None:  # each pixel has memory of its own, for who may write to it
            return found.contiguous() if 0 in found.stride() else found
        return found if found.data_ptr() == into.data_ptr() else into.copy_(found)

    def memory(self, targets: int) -> Float[Tensor, "probe target stack y x"]:
        """Room for the relevance for several targets."""
        shape = self.picture(self.pixels).shape
        return empty((len(self.observations), targets, *shape[1:]), self.pixels)

    def picture(self, values: Tensor) -> Float[Tensor, "probe stack y x"]:
        """Values of the pixels as `pictures` orders them.

        Raises: ValueError when what the first layer reads is not one picture per observation.
        """
        return pictures(values, self.pixels, self.observations)


def pictures(values: Tensor, pixels: Tensor, observed: Tensor) -> Float[Tensor, "probe stack y x"]:
    """Values of the pixels with the axes probe, stack, y, x, the last four of the observations.

    Where the first layer reads rows these are the observations' axes; where it reads frames one by one, time and stack
    become one axis.

    Raises: ValueError when what the first layer reads is not one picture per observation.
    """
    if values.ndim == PICTURE and len(values) == len(observed):
        return values
    if values.numel() == observed.numel() and _same_order(pixels.reshape(observed.shape), observed):
        axes = observed.shape[1:]
        shape = [-1, *axes[-2:]] if len(axes) >= PICTURE else [*[1] * (PICTURE - 1 - len(axes)), *axes]
        return values.reshape(len(observed), *shape)
    raise ValueError(
        f"expected the first layer to read one picture per observation, got {tuple(values.shape)} from "
        f"observations of shape {tuple(observed.shape)}: {BEGIN}"
    )


def run(
    network: Network,
    observations: Tensor,
    rule_of: RuleOf | None = None,
    box: BoxOf | None = None,
    *,
    instead: Tensor | None = None,
    keep: bool = False,
    valued: bool = False,
    treat: Treatment = treatment,
) -> Pass:
    """A forward pass of the network, `instead` standing in the place of its pixels; `keep` for targets of streams.

    `valued` has relevance itself arrive at the pixels where it can, not in gradient form. `treat` says what is run for
    an operation that is no linear map.

    Raises: ValueError when what it returned is no table of Q-values, is not finite, or does not follow from the
        observations; NotImplementedError when the network holds an operation for which LRP knows no rule.
    """
    try:
        with torch.enable_grad():
            interception = Interception(
                observations, rule_of, box, instead=instead, keep=keep, valued=valued, treat=treat
            )
            outputs = interception.ask(network)
        q_values, pixels = _q_values(outputs, interception, len(observations))
    except Refusal as refused:
        if rule_of is not None:
            raise
        remedy = "explain a function that ends before it" if refused.remedy == REMEDY else refused.remedy
        raise NotImplementedError(
            f"no gradient can be followed through {refused.what}, which lies between the pixels and Q: {remedy}"
        ) from None
    return Pass(observations, q_values, pixels, interception)


def _q_values(outputs: Any, interception: Interception, probes: int) -> tuple[Tensor, Tensor]:
    """The Q-values among what the network returned, and the explained pixels."""
    q_values = q_values_of(outputs)
    if interception.pixels.explained is None:
        raise ValueError(
            "expected a network in which a convolution or a linear layer reads the observations, saw none: pass the "
            "callable that the training calls, eager (not scripted) and without a detour through NumPy"
        )
    if q_values is None or q_values.ndim != 2 or len(q_values) != probes:  # noqa: PLR2004 - probe, action
        got = type(outputs).__name__ if q_values is None else f"shape {tuple(q_values.shape)}"
        raise ValueError(
            f"expected Q-values of shape ({probes}, actions), got {got}: pass Read(q_network, lambda network, frames: "
            "...) of rlwatch.unwrap, which returns them, such as network(frames).mean(-1) of quantiles, "
            "(network(frames) * support).sum(-1) of probabilities"
        )
    if not q_values.isfinite().all():
        raise ValueError(_not_finite(q_values))
    q_values = interception.marks.given(q_values)
    interception.finish(q_values)
    return q_values, interception.pixels.explained


def _not_finite(q_values: Tensor) -> str:
    """What is said of Q-values that are NaN or infinite: weights diverge, and masks take actions away."""
    bad, masked = int((~q_values.isfinite()).any(1).sum()), q_values.isneginf().all(0)
    why = "the weights have diverged"
    if masked.any() and not masked.all() and q_values[:, ~masked].isfinite().all():
        why = (
            "of some actions they are -inf, as masks make them: pass Read(q_network, lambda network, frames: ...) of "
            "rlwatch.unwrap, which returns them without a mask"
        )
    return f"the Q-values of {bad} of {len(q_values)} observations are not finite: {why}"


def _same_order(pixels: Tensor, observations: Tensor) -> bool:
    """True if the pixels are the observations times a number."""
    observations = observations.to(pixels.dtype)
    largest = observations.abs().amax()
    scale = pixels.abs().amax() / largest if largest else 1.0
    return torch.allclose(pixels, observations * scale, rtol=1e-4)
