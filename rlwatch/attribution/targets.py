"""What is explained: the score that each target makes of the Q-values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Score = Callable[[Float[Tensor, "probe action"]], Float[Tensor, " probe"]]
Table = Callable[[Float[Tensor, "probe action"], Sequence[Tensor]], Float[Tensor, "probe column"]]
"""A table of the pass, made of its Q-values and of all that the network computes on the way."""


def greedy(q_values: Float[Tensor, "probe action"]) -> Float[Tensor, " probe"]:
    """Q of the best action: what the value rests on."""
    return q_values.gather(1, q_values.detach().argmax(1, keepdim=True)).squeeze(1)


def contrast(q_values: Float[Tensor, "probe action"]) -> Float[Tensor, " probe"]:
    """Q of the best action minus the mean of the others: what the choice rests on. 0: no action stands out.

    The difference is taken in 32 bits at least: in 16, rounding of the sum would be as large as what stands out.

    Raises: ValueError when there is one action only.
    """
    actions = q_values.shape[1]
    if actions < 2:  # noqa: PLR2004 - a choice needs two
        raise ValueError(
            "contrast compares actions: expected at least 2, got 1: use target='greedy', and where that one is the "
            "value of a state, pass the network that gives a Q-value for each action; of one that returns both "
            "Read(q_network, lambda network, frames: ...) of rlwatch.unwrap, which returns Q"
        )
    wide = q_values.to(torch.promote_types(q_values.dtype, torch.float32))
    best = greedy(wide)
    return (best - (wide.sum(1) - best) / (actions - 1)).to(q_values.dtype)


def action(index: int) -> Score:
    """The target that takes Q of action `index`.

    Raises, when it is asked: ValueError when the network has no such action.
    """

    def score(q_values: Float[Tensor, "probe action"]) -> Float[Tensor, " probe"]:
        if index >= q_values.shape[1]:
            raise ValueError(
                f"the network has {q_values.shape[1]} actions: expected target='action=0' to "
                f"'action={q_values.shape[1] - 1}', got 'action={index}'"
            )
        return q_values[:, index]

    return score


def q_table(q_values: Float[Tensor, "probe action"], _: Sequence[Tensor]) -> Float[Tensor, "probe action"]:
    """The Q-values themselves."""
    return q_values


def value_table(q_values: Float[Tensor, "probe action"], computed: Sequence[Tensor]) -> Float[Tensor, "probe 1"]:
    """V of a dueling head: the column that makes Q of a table of advantages, less their mean, their maximum or nothing.

    It is found by its numbers among all that the network has computed, so it does not matter how the head is written.

    Raises: ValueError when the network has computed no such column.
    Source: Wang et al. 2016, arXiv 1511.06581, equations 7 to 9.
    """
    found = q_values.detach()
    bound = 1e-5 * float(found.abs().amax())
    columns = [one for one in computed if one.shape == (len(found), 1)]
    advantages = [one.detach() for one in computed if one.shape == found.shape]
    advantages = [one for one in advantages if (one - found).abs().amax() > bound]
    for column in reversed(columns):
        for table in advantages:
            rest = found - column.detach() - table
            for absorbed in (-table.mean(1, keepdim=True), -table.amax(1, keepdim=True), torch.zeros_like(found)):
                if (rest - absorbed).abs().amax() <= bound:
                    return column
    raise ValueError(
        "expected a dueling head, Q = V + A - mean(A), saw none: pass a function that returns the stream itself, such "
        "as lambda observations: network.value(network.features(observations)), with target='action=0'"
    )


def advantage_table(q_values: Float[Tensor, "probe action"], computed: Sequence[Tensor]) -> Float[Tensor, "probe a"]:
    """Q − V: what a dueling head adds to the value for each action.

    Raises: ValueError as `value_table` does.
    """
    return q_values - value_table(q_values, computed)


@dataclass(frozen=True)
class Target:
    """What is explained: the score that `score` makes of `table`."""

    score: Score
    table: Table = q_table

    @property
    def of_streams(self) -> bool:
        """True if it needs what the network computes on the way."""
        return self.table is not q_table


Targets = Mapping[str, Target] | None
"""Targets by name; None: the Q-value of every action that the network turns out to have."""


def each_of(targets: Targets, actions: int) -> list[Target]:
    """The targets, for a network of so many actions."""
    return [Target(action(index)) for index in range(actions)] if targets is None else list(targets.values())


def streams_in(targets: Targets) -> bool:
    """True if one of the targets needs what the network computes on the way."""
    return targets is not None and any(target.of_streams for target in targets.values())


TARGETS: dict[str, Target] = {
    "greedy": Target(greedy),
    "contrast": Target(contrast),
    "value": Target(action(0), value_table),
    "advantage": Target(greedy, advantage_table),
}


def target_named(name: str, *others: str) -> Target:
    """The target of this name: one of TARGETS, or action=k; `others` are names that the caller knows besides.

    Raises: ValueError when there is none.
    """
    match = re.fullmatch(r"action=(\d+)", str(name))
    if match:
        return Target(action(int(match[1])))
    if isinstance(name, str) and name in TARGETS:
        return TARGETS[name]
    raise ValueError(unknown("target", name, [*TARGETS, "action=k", *others]))


def unknown(kind: str, name: object, known: list[str]) -> str:
    """The message for a name that nothing has."""
    close = difflib.get_close_matches(str(name), known, n=1)
    remedy = f": did you mean {close[0]!r}?" if close else ""
    return f"expected as {kind} one of {', '.join(known)}, got {name!r}{remedy}"
