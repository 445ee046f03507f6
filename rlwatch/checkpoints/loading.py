"""One checkpoint: its file read, its format told, its network built."""

import logging
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlwatch.atari.names import MOST_ACTIONS
from rlwatch.checkpoints import files, steps
from rlwatch.checkpoints.formats import Saved, recognised
from rlwatch.checkpoints.network import REMEDY, build, outputs_of

ATOMS = (-10.0, 10.0)
"""Between what C51's atoms lie unless told otherwise. Source: Bellemare et al. 2017, arXiv 1707.06887, section 5."""
CLEANRL = ".cleanrl_model"
log = logging.getLogger("rlwatch")


@dataclass(frozen=True)
class Checkpoint:
    """A saved network and what is known of it; `step` is -1 and `game` empty where the file does not say.

    `training`: which one it is of, where several are looked at in one go.
    """

    path: Path
    network: nn.Module
    step: int
    game: str = ""
    returns: float = math.nan
    training: str = ""

    @property
    def kind(self) -> str:
        """What its network is but for the weights: those of one kind are drawn anew alike."""
        return repr(self.network)


def load(
    path: str | Path,
    *,
    divisor: float | None = None,
    actions: int | None = None,
    head: str | None = None,
    activation: str | None = None,
) -> Checkpoint:
    """The network in a checkpoint of `agents/dqn.py`, of a framework in the README's table, or in a plain state dict.

    What a file does not say may be told: `divisor`, by which pixels are divided before the first convolution (by
    default as the framework does it, else 255); `actions`, how many the game has; `head`, "atoms" (C51) or "quantiles",
    where the network has several outputs per action; `activation`, "relu", "elu" or "tanh".

    Raises: FileNotFoundError; ValueError when the file is no checkpoint, is truncated, holds more than weights and
    plain values, describes a network of another form, or holds NaN or infinity, each with a remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}: give a file, or a folder that holds {', '.join(files.SUFFIXES)} files"
        )
    if divisor is not None and not 0 < divisor < math.inf:
        raise ValueError(f"divisor must be above 0, got {divisor}: 255 for pixels that a network takes from 0 to 1")
    content = files.read(path)
    told = {"divisor": divisor, "actions": actions, "activation": activation, "head": head}
    try:
        found = recognised(content)
        if found.bare and path.suffix != CLEANRL and divisor is None and activation is None:
            _tell_of_form(path.parent)
        _tell_of_copies(path.parent, found.aside)
        saved = _settled(found, {name: value for name, value in told.items() if value is not None}, path)
        network = build(saved)
        _check_finite(network)
    except (ValueError, TypeError, KeyError, IndexError, ArithmeticError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
    step = saved.step if saved.step >= 0 else steps.step_of(path)
    return Checkpoint(path, network, step, saved.game, saved.returns)


@cache
def _tell_of_form(folder: Path) -> None:
    """Say, once a folder, what a file does not say and is taken for granted."""
    log.warning(
        "rlwatch: the weights in %s do not say how they are used: taken for a Nature DQN's, layers in the file's "
        "order, which divides pixels by 255 and has a ReLU behind every layer but the last; --divisor and --activation "
        "tell otherwise, and other networks are explained in Python, rlwatch.explain(network, observations)",
        folder,
    )


@cache
def _tell_of_copies(folder: Path, names: tuple[str, ...]) -> None:
    """Say, once a folder, which networks beside the one that learns are left out."""
    if names:
        log.warning("rlwatch: left out in %s as copies of the network that learns: %s", folder, ", ".join(names))


def _settled(found: Saved, told: dict[str, Any], path: Path) -> Saved:
    """The checkpoint with its actions, its head and its support; of the actions the file knows best.

    Raises: ValueError when these are not known, or do not go with the outputs of the last layer.
    """
    saved = replace(found, **(told | ({} if found.actions is None else {"actions": found.actions})))
    outputs, of_value = outputs_of(saved)
    numbers = _numbers(saved, outputs, of_value)
    if outputs % numbers:
        raise ValueError(f"its last layer has {outputs} outputs, which are not {numbers} for each action: {REMEDY}")
    if outputs == numbers:
        raise ValueError(
            f"its last layer gives one value, expected one for each action: it may be a critic's; {REMEDY}"
        )
    support = saved.support
    if numbers > 1 and found.actions is None and support is None and of_value <= 1:
        log.warning("rlwatch: %s: %d outputs are taken as %d actions × %d", path, outputs, outputs // numbers, numbers)
    if saved.head == "atoms" and support is None:
        log.warning("rlwatch: %s does not say what its %d atoms stand for: taken as %g to %g", path, numbers, *ATOMS)
        support = torch.linspace(*ATOMS, numbers)
    return replace(saved, actions=outputs // numbers, support=support if saved.head == "atoms" else None)


def _numbers(saved: Saved, outputs: int, of_value: int) -> int:
    """How many outputs there are for each action."""
    if saved.support is not None:
        return len(saved.support)
    if of_value > 1 and saved.head is not None:
        return of_value
    if saved.head == "" or (saved.head is None and outputs <= MOST_ACTIONS and of_value <= 1):
        return 1
    if saved.actions is None or saved.head is None:
        raise ValueError(
            f"its last layer has {outputs} outputs, and the file does not say what of: give actions= (on the command "
            "line --probe GAME) and head='atoms' for C51 or head='quantiles' for QR-DQN"
        )
    if outputs % saved.actions:
        raise ValueError(
            f"its last layer has {outputs} outputs, which are not as many for each of {saved.actions} actions: give "
            "the probe of its own game (--probe), or actions="
        )
    if outputs < 2 * saved.actions:
        raise ValueError(
            f"expected at least 2 {saved.head} for each of {saved.actions} actions, got {outputs} outputs in all: "
            "these are Q-values, leave head= (--head) out"
        )
    return outputs // saved.actions


def _check_finite(network: nn.Module) -> None:
    extremes = ((weights.shape, *weights.aminmax()) for weights in network.parameters() if weights.numel())
    shapes = [tuple(shape) for shape, low, high in extremes if not (low.isfinite() and high.isfinite())]
    if shapes:
        raise ValueError(
            f"expected finite weights, got NaN or infinity in {len(shapes)} of its {len(list(network.parameters()))} "
            f"tensors, the first of shape {shapes[0]}: the training has diverged before it"
        )
