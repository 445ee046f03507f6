"""What is explained: the score that each target makes of the Q-values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

Score = Callable[[Float[Tensor, "probe action"]], Float[Tensor, " probe"]]


def greedy(q_values: Float[Tensor, "probe action"]) -> Float[Tensor, " probe"]:
    """Q of the best action: what the value rests on."""
    return q_values.gather(1, q_values.detach().argmax(1, keepdim=True)).squeeze(1)


def contrast(q_values: Float[Tensor, "probe action"]) -> Float[Tensor, " probe"]:
    """Q of the best action minus the mean of the others: what the choice rests on. 0: no action stands out.

    Raises: ValueError: there is one action only.
    """
    actions = q_values.shape[1]
    if actions < 2:  # noqa: PLR2004  (a choice needs two)
        raise ValueError("contrast compares actions: expected at least 2, got 1: use target='greedy'")
    best = greedy(q_values)
    return best - (q_values.sum(1) - best) / (actions - 1)


def action(index: int) -> Score:
    """The target that takes Q of action `index`."""

    def score(q_values: Float[Tensor, "probe action"]) -> Float[Tensor, " probe"]:
        if index >= q_values.shape[1]:
            raise ValueError(
                f"the network has {q_values.shape[1]} actions: expected target='action=0' to "
                f"'action={q_values.shape[1] - 1}', got 'action={index}'"
            )
        return q_values[:, index]

    return score


TARGETS: dict[str, Score] = {"greedy": greedy, "contrast": contrast}


def target_named(name: str) -> Score:
    """The target of this name: greedy, contrast, or action=k.

    Raises: ValueError: there is none.
    """
    match = re.fullmatch(r"action=(\d+)", name)
    if match:
        return action(int(match[1]))
    if name in TARGETS:
        return TARGETS[name]
    raise ValueError(unknown("target", name, [*TARGETS, "action=k"]))


def unknown(kind: str, name: object, known: list[str]) -> str:
    """The message for a name that nothing has."""
    close = difflib.get_close_matches(str(name), known, n=1)
    remedy = f": did you mean {close[0]!r}?" if close else ""
    return f"expected as {kind} one of {', '.join(known)}, got {name!r}{remedy}"
