"""The one call: why does this network give these observations these Q-values?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor

from rlwatch.attribution.box import Bound
from rlwatch.attribution.checks import check_whole
from rlwatch.attribution.methods import CONSERVING, METHODS
from rlwatch.attribution.passes import Network
from rlwatch.attribution.request import Answer, Method, Observations, Request, request
from rlwatch.attribution.targets import Target, Targets, target_named

__all__ = ["METHODS", "ActionExplanation", "Explanation", "explain", "explain_actions", "explain_targets"]

ALL = "all"
MAPS = 300
"""Maps of a part of `explain_actions`: 34 MB of 4×84×84 pixels, twice while they are joined; fewer cost more each."""

MANY = 18
"""Actions that a network is taken to have until it has answered: all that the Atari console knows."""


@dataclass(frozen=True)
class Explanation:
    """What a network's score rests on, pixel by pixel.

    `relevance` is signed, in Q units, at the input of the first layer, stack oldest first. `score` is what was
    explained: Q of the best action, the contrast, and so on. `absorbed` is what the sum of a map lacks to the score
    (biases take it, or the baseline has it); NaN where a method's maps add up to nothing. `fallback` is empty, or says
    why the map was made by `method` instead of by the one that was asked for.
    """

    q_values: Float[Tensor, "probe action"]
    relevance: Float[Tensor, "probe stack y x"]
    score: Float[Tensor, " probe"]
    absorbed: Float[Tensor, " probe"]
    method: str
    target: str
    fallback: str = ""


@dataclass(frozen=True)
class ActionExplanation:
    """What the Q-value of every action rests on; the score is `q_values`, the rest as in `Explanation`."""

    q_values: Float[Tensor, "probe action"]
    relevance: Float[Tensor, "probe action stack y x"]
    absorbed: Float[Tensor, "probe action"]
    method: str
    target: str = field(default=ALL, init=False)
    fallback: str = ""


@overload
def explain(
    network: Network, observations: Observations, method: Method = ..., *, target: Literal["all"], **settings: Any
) -> ActionExplanation: ...


@overload
def explain(
    network: Network, observations: Observations, method: Method = ..., target: str = ..., **settings: Any
) -> Explanation: ...


def explain(
    network: Network,
    observations: Observations,
    method: Method = "epsilon_gamma_box",
    target: str = "greedy",
    **settings: Any,
) -> Explanation | ActionExplanation:
    """The relevance of every pixel for `target`; `settings` as of `explain_targets`.

    `greedy` is Q of the best action, `contrast` this minus the mean of the others, `action=k` Q of any action; `value`
    and `advantage` are V and Q − V of the best action in a dueling head. `target="all"` explains the Q-value of every
    action; `explain_actions` does it in parts where all maps at once are too large.

    Raises: as `explain_targets` does.
    """
    if target == ALL:
        return _all_of(list(explain_actions(network, observations, method, **settings)))
    target_named(target, ALL)
    return explain_targets(network, observations, (target,), method, **settings)[target]


def explain_targets(
    network: Network,
    observations: Observations,
    targets: Sequence[str] = ("greedy", "contrast"),
    method: Method = "epsilon_gamma_box",
    *,
    low: Bound = None,
    high: Bound = None,
    batch_size: int = 64,
    fallback: str | None = None,
    **options: Any,
) -> dict[str, Explanation]:
    """The relevance of every pixel for each of `targets`, from one forward pass where the method takes only one.

    `network` is what the training calls, unchanged, and stays unchanged; of its outputs those count that it calls
    Q-values, else the first tensor. It is explained as it acts in evaluation: dropout off, batch normalisation by its
    running statistics. Its mode is not switched: noisy layers that look at it take the noise that they hold, or draw it
    from an own generator. `method` is a name of `METHODS`, its own keywords among `options`, or a function from a layer
    to a rule (`Composite`). Pixels are the input of the first layer, and so are the values that a method puts in their
    place. `low` and `high` bound that input for the rule zB; by default they are what it sees of an all-black and an
    all-white observation. `batch_size`: how many observations are explained at once. Where LRP knows no rule for an
    operation, `fallback` ("gradient_x_input") is used instead, with a RuntimeWarning. A recurrent network reads (probe,
    time, stack, y, x); time and stack become one axis, oldest first. A network that draws numbers for each row of a
    batch (IQN) draws others for each changed picture: methods that perturb see that noise, so hand it fixed fractions.

    Raises: ValueError for an unknown method or target, no observations, Q-values or relevance that are not finite,
        pixels outside [low, high]; TypeError for observations of a type that the network does not take, or a keyword
        that the method does not know; NotImplementedError when the network holds an operation for which LRP knows no
        rule.
    """
    named = _named(targets)
    asked = request(network, observations, method, batch_size=batch_size, low=low, high=high, **options)
    columns: Answer = []
    for start in range(0, len(asked.observed), batch_size):
        asked, found = _answer(asked, fallback, start, batch_size, named)
        columns = _filled(columns, found, start, len(asked.observed))
    return _explanations(asked, named, columns)


def explain_batches(
    network: Network,
    observations: Observations,
    targets: Sequence[str],
    method: Method = "epsilon_gamma_box",
    *,
    batch_size: int = 64,
    fallback: str | None = None,
    **settings: Any,
) -> Iterator[dict[str, Explanation]]:
    """What `explain_targets` finds, batch by batch of the observations, in their order; nothing is kept beyond one.

    Raises: as `explain_targets` does.
    """
    named = _named(targets)
    asked = request(network, observations, method, batch_size=batch_size, **settings)
    for start in range(0, len(asked.observed), batch_size):
        asked, found = _answer(asked, fallback, start, batch_size, named)
        yield _explanations(asked, named, found)


def explain_actions(
    network: Network,
    observations: Observations,
    method: Method = "epsilon_gamma_box",
    *,
    maps: int = MAPS,
    fallback: str | None = None,
    **settings: Any,
) -> Iterator[ActionExplanation]:
    """The relevance for the Q-value of every action, part by part of the observations, in their order.

    A part holds about `maps` maps (at least one observation's) and shares one forward pass; beyond the part that is
    being made nothing is kept: 10,000 observations × 18 actions take less than 100 MB besides the observations. Methods
    that ask the network many times ask anew for each action.

    Raises: as `explain_targets` does.
    """
    check_whole("maps", maps)
    asked = request(network, observations, method, **settings)
    start, size = 0, max(1, maps // MANY)
    while start < len(asked.observed):
        asked, (q_values, relevance) = _answer(asked, fallback, start, size, None)
        start, size = start + size, max(1, maps // q_values.shape[1])
        absorbed = _absorbed(asked, ALL, q_values, relevance)
        yield ActionExplanation(q_values, relevance, absorbed, asked.method, asked.fallback)


def _answer(asked: Request, fallback: str | None, start: int, size: int, targets: Targets) -> tuple[Request, Answer]:
    """The request, or the one that it has fallen back to, and what was found."""
    if fallback not in {None, "gradient_x_input"}:
        raise ValueError(f"expected as fallback 'gradient_x_input' or None, got {fallback!r}")
    try:
        return asked, asked.part(start, size, targets)
    except NotImplementedError as refusal:
        if fallback is None or start or asked.method == fallback:
            raise
        asked = asked.by_gradient(refusal)
        return asked, asked.part(start, size, targets)


def _named(targets: Sequence[str]) -> dict[str, Target]:
    """The targets of these names.

    Raises: TypeError when it is one name; ValueError when there is no such target, or not one alone.
    """
    if isinstance(targets, str):
        raise TypeError(f"expected several targets, got {targets!r}: pass a tuple, ({targets!r},), or call explain")
    if ALL in targets:
        raise ValueError("expected single targets, got 'all': use explain_actions, or explain(..., target='all')")
    return {target: target_named(target) for target in targets}


def _explanations(asked: Request, named: Mapping[str, Target], found: Answer) -> dict[str, Explanation]:
    q_values, *columns = found
    pairs = zip(named, columns[::2], columns[1::2], strict=True)
    return {target: _explanation(asked, target, q_values, score, relevance) for target, score, relevance in pairs}


def _explanation(asked: Request, target: str, q_values: Tensor, score: Tensor, relevance: Tensor) -> Explanation:
    absorbed = _absorbed(asked, target, score, relevance)
    return Explanation(q_values, relevance, score, absorbed, asked.method, target, asked.fallback)


def _absorbed(asked: Request, target: str, score: Tensor, relevance: Tensor) -> Tensor:
    """Score − sum of the map, or NaN.

    Raises: ValueError when relevance is not finite.
    """
    total = relevance.sum((-3, -2, -1))
    bad = int((~total.isfinite()).view(len(total), -1).any(1).sum())
    if bad:
        raise ValueError(
            f"the relevance of {bad} of {len(total)} observations is not finite (method {asked.method!r}, target "
            f"{target!r}): expected finite numbers; check the weights for very large values"
        )
    conserving = asked.rule_of is not None or asked.method in CONSERVING
    return score - total if conserving else torch.full_like(score, torch.nan)


def _all_of(parts: list[ActionExplanation]) -> ActionExplanation:
    q_values, relevance, absorbed = (
        _joined([getattr(part, name) for part in parts]) for name in ("q_values", "relevance", "absorbed")
    )
    return ActionExplanation(q_values, relevance, absorbed, parts[0].method, parts[0].fallback)


def _filled(columns: Answer, found: Answer, start: int, rows: int) -> Answer:
    """The columns with what was found of the rows from `start` on; made at the first, and what was found if it is all.

    Joining them at the end would hold each map twice.
    """
    if len(found[0]) == rows:
        return found
    columns = columns or [one.new_empty((rows, *one.shape[1:])) for one in found]
    for column, one in zip(columns, found, strict=True):
        column[start : start + len(one)] = one
    return columns


def _joined(chunks: Sequence[Tensor]) -> Tensor:
    return chunks[0] if len(chunks) == 1 else torch.cat(list(chunks))
