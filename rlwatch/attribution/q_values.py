"""Which of the tensors that a network returns holds its Q-values."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor

from rlwatch.attribution.operations.known import tensors_in

NAMES = ("q_values", "q_value", "qvalues", "q", "qs", "action_values", "action_value")
"""What Q-values are called in a dict or a named tuple, in small letters; the first of these that is there is taken."""
TABLE = 2
"""Axes of a table: probe, action."""
log = logging.getLogger("rlwatch")


def q_values_of(outputs: Any) -> Tensor | None:
    """The tensor that a dict or a named tuple calls by one of `NAMES`, else the first one; None where there is none.

    Raises: ValueError when a dict holds several tables, and calls none of them so.
    """
    fields = outputs._asdict() if hasattr(outputs, "_asdict") else outputs
    if isinstance(fields, Mapping):
        named = {name.lower(): value for name, value in fields.items() if isinstance(name, str)}
        tables = [name for name, value in fields.items() if isinstance(value, Tensor) and value.ndim == TABLE]
        for name in NAMES:
            if isinstance(found := named.get(name), Tensor):
                if tables and found.ndim != TABLE:
                    raise ValueError(_distribution(name, found, tables[0]))
                return found
        if fields is outputs and len(tables) > 1:
            raise ValueError(
                f"the network returns {', '.join(map(repr, tables))}, none of which is called 'q_values' or 'q': pass "
                "Read(q_network, lambda network, frames: network(frames)['...']) of rlwatch.unwrap, with the right name"
            )
    found = tensors_in(outputs)
    alike = [one for one in found if one.ndim == TABLE and one.shape == found[0].shape]
    if len(alike) > 1:
        _tell(len(alike))
    return next(iter(found), None)


def _distribution(name: str, found: Tensor, table: str) -> str:
    """What is said where quantiles are called by the name of Q-values."""
    return (
        f"expected Q-values of shape (probe, actions), got {name!r} of shape {tuple(found.shape)} and beside it "
        f"{table!r}: if that is Q, pass Read(q_network, lambda network, frames: network(frames)[{table!r}]) of "
        "rlwatch.unwrap"
    )


@cache
def _tell(count: int) -> None:
    """Say, once, that one of several tables is explained."""
    log.warning(
        "rlwatch: the network returns %d tables of one shape, and the first is taken for its Q-values: of an ensemble "
        "pass Read(q_network, lambda network, frames: torch.stack(network(frames)).mean(0)) of rlwatch.unwrap",
        count,
    )
