"""The one call: why does this network give these observations these Q-values?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlwatch.attribution.box import Bound, box_of
from rlwatch.attribution.composites import COMPOSITES
from rlwatch.attribution.gradient import GRADIENT_METHODS, GradientMethod, gradient_x_input
from rlwatch.attribution.lrp import Interception, RuleOf
from rlwatch.attribution.operations import tensors_in
from rlwatch.attribution.signals import BoxOf
from rlwatch.attribution.targets import Score, target_named, unknown

Network = Callable[..., Any]
Observations = Tensor | npt.NDArray[np.generic]
Picture = Float[Tensor, "probe stack y x"]

METHODS = (*COMPOSITES, *GRADIENT_METHODS)


@dataclass(frozen=True)
class Explanation:
    """What a network's score rests on, pixel by pixel.

    `relevance` is signed, in Q units, at the input of the first layer, stack oldest first. `score` is what was
    explained: Q of the best action, the contrast, and so on. `absorbed` is what the sum of a map lacks to the score
    (biases take it); NaN for `sensitivity`, whose maps add up to nothing.
    """

    q_values: Float[Tensor, "probe action"]
    relevance: Picture
    score: Float[Tensor, " probe"]
    absorbed: Float[Tensor, " probe"]
    method: str
    target: str


def explain(
    network: Network,
    observations: Observations,
    method: str | RuleOf = "epsilon_gamma_box",
    target: str = "greedy",
    *,
    low: Bound = None,
    high: Bound = None,
    batch_size: int = 64,
) -> Explanation:
    """The relevance of every pixel for `target`; see `explain_targets`."""
    return explain_targets(network, observations, (target,), method, low=low, high=high, batch_size=batch_size)[target]


def explain_targets(
    network: Network,
    observations: Observations,
    targets: Sequence[str] = ("greedy", "contrast"),
    method: str | RuleOf = "epsilon_gamma_box",
    *,
    low: Bound = None,
    high: Bound = None,
    batch_size: int = 64,
) -> dict[str, Explanation]:
    """The relevance of every pixel for each of `targets`, from one forward pass.

    `network` is what the training calls, unchanged, and stays unchanged; of its outputs the first tensor counts. It is
    explained as it acts in evaluation: dropout off, batch normalisation by its running statistics, sampled noise drawn
    from an own generator. `method` is a name of `METHODS` or a function from a layer to a rule (`Composite`). `low` and
    `high` bound the input of the first layer for the rule zB; by default they are what it sees of an all-black and an
    all-white observation.

    Raises: ValueError: an unknown method or target, no observations, Q-values or relevance that are not finite, pixels
        outside [low, high]. TypeError: observations of a type that the network does not take. NotImplementedError: the
        network holds an operation for which LRP knows no rule.
    """
    scores = {target: target_named(target) for target in targets}
    rule_of, name = _rules(method)
    network = getattr(network, "_orig_mod", network)
    observed = _checked(network, observations, batch_size)
    with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(observed.device.type, enabled=False):
        box = cache(partial(box_of, network, observed, low, high))
        if low is not None or high is not None:
            box()  # which refuses observations outside of it
        relevance_of = GRADIENT_METHODS.get(name, gradient_x_input)
        parts = torch.split(observed, batch_size)
        chunks = [_chunk(network, part, scores, rule_of, box, relevance_of) for part in parts]
    q_values, *columns = map(_joined, zip(*chunks, strict=True))
    maps = zip(scores, columns[::2], columns[1::2], strict=True)
    return {target: _explanation(q_values, score, relevance, name, target) for target, score, relevance in maps}


def _explanation(q_values: Tensor, score: Tensor, relevance: Tensor, method: str, target: str) -> Explanation:
    total = relevance.sum((1, 2, 3))
    bad = int(len(total) - total.isfinite().sum())
    if bad:
        raise ValueError(
            f"the relevance of {bad} of {len(total)} observations is not finite (method {method!r}, target "
            f"{target!r}): expected finite numbers; check the weights for very large values"
        )
    absorbed = torch.full_like(score, torch.nan) if method == "sensitivity" else score - total
    return Explanation(q_values, relevance, score, absorbed, method, target)


def _joined(chunks: Sequence[Tensor]) -> Tensor:
    return chunks[0] if len(chunks) == 1 else torch.cat(list(chunks))


def _rules(method: str | RuleOf) -> tuple[RuleOf | None, str]:
    if callable(method):
        return method, getattr(method, "__name__", repr(method))
    if method not in METHODS:
        raise ValueError(unknown("method", method, list(METHODS)))
    return COMPOSITES.get(method), method


def _checked(network: Network, observations: Observations, batch_size: int) -> Tensor:
    """The observations as a tensor; an array goes to the device of the network's weights."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not isinstance(observations, Tensor):
        array = np.ascontiguousarray(observations)
        weights = network.parameters() if isinstance(network, nn.Module) else iter(())
        device = next((weight.device for weight in weights), None)
        observations = torch.tensor(array, device=device)
    if not observations.numel():
        raise ValueError(f"expected at least one observation, got shape {tuple(observations.shape)}")
    if observations.is_floating_point() and not all(extreme.isfinite() for extreme in observations.aminmax()):
        raise ValueError("observations must be finite, got NaN or infinity")
    return observations


def _chunk(
    network: Network,
    chunk: Tensor,
    scores: dict[str, Score],
    rule_of: RuleOf | None,
    box: BoxOf,
    relevance_of: GradientMethod,
) -> list[Tensor]:
    """Q-values, then score and relevance of each target."""
    interception = Interception(chunk, rule_of, box)
    with torch.enable_grad(), interception:
        outputs = network(interception.observations)
    q_values, pixels = _q_values(outputs, interception, len(chunk))
    found = [q_values.detach()]
    for left, score_of in zip(reversed(range(len(scores))), scores.values(), strict=True):
        with torch.enable_grad():
            score = score_of(q_values)
            total = score.sum()
        interception.progress.last = left == 0
        ruled, direct = torch.autograd.grad(
            total, (interception.ruled, interception.direct), retain_graph=left > 0, allow_unused=True
        )
        parts = [] if ruled is None else [ruled]
        if direct is not None:
            parts.append(relevance_of(pixels, direct.clone() if 0 in direct.stride() else direct))
        found += [score.detach(), _picture(sum(parts[1:], parts[0]), pixels, chunk)]
    return found


def _q_values(outputs: Any, interception: Interception, probes: int) -> tuple[Tensor, Tensor]:
    """The first tensor of what the network returned, and the explained pixels.

    Raises: ValueError: it is no table of Q-values, is not finite, or does not follow from the observations.
    """
    q_values = next(iter(tensors_in(outputs)), None)
    if interception.pixels is None:
        raise ValueError(
            "expected a network in which a convolution or a linear layer reads the observations, saw none: pass the "
            "callable that the training calls, eager (not scripted) and without a detour through NumPy"
        )
    if q_values is None or q_values.ndim != 2 or len(q_values) != probes:  # noqa: PLR2004  (probe, action)
        got = type(outputs).__name__ if q_values is None else f"shape {tuple(q_values.shape)}"
        raise ValueError(
            f"expected Q-values of shape ({probes}, actions), got {got}: pass a function that returns them, such as "
            "lambda observations: network(observations).mean(-1) for quantiles"
        )
    if not q_values.isfinite().all():
        bad = int(len(q_values) - q_values.isfinite().all(1).sum())
        raise ValueError(f"the Q-values of {bad} of {probes} observations are not finite: the weights have diverged")
    interception.finish(q_values)
    return q_values, interception.pixels


def _picture(relevance: Tensor, pixels: Tensor, chunk: Tensor) -> Tensor:
    """The relevance with the axes probe, stack, y, x; where the first layer reads rows, with the observations' axes.

    Raises: ValueError: what the first layer reads is not one picture per observation.
    """
    if relevance.ndim == 4 and len(relevance) == len(chunk):  # noqa: PLR2004  (probe, stack, y, x)
        return relevance
    if chunk.ndim <= 4 and relevance.numel() == chunk.numel() and _same_order(pixels.reshape(chunk.shape), chunk):  # noqa: PLR2004
        return relevance.reshape(len(chunk), *[1] * (4 - chunk.ndim), *chunk.shape[1:])
    raise ValueError(
        f"expected the first layer to read one picture per observation, got {tuple(relevance.shape)} from observations "
        f"of shape {tuple(chunk.shape)}: pass a function in which the first layer reads (probe, stack, y, x)"
    )


def _same_order(pixels: Tensor, observations: Tensor) -> bool:
    """True if the pixels are the observations times a number."""
    observations = observations.to(pixels.dtype)
    largest = observations.abs().amax()
    scale = pixels.abs().amax() / largest if largest else 1.0
    return torch.allclose(pixels, observations * scale, rtol=1e-4)
