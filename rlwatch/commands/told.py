"""What a command is told on its line, read so that a mistake is named before any work."""

import argparse
import difflib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

TARGETS = ("greedy", "contrast", "value", "advantage", "action=k")
METHODS = (
    *("epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat"),
    *("epsilon_gamma_box", "excitation_backprop", "deep_taylor", "gradient_x_input", "sensitivity"),
    *("occlusion", "greydanus", "sarfa", "lime", "shap", "meaningful_perturbation"),
    *("simple_taylor", "smoothgrad", "integrated_gradients", "deep_lift"),
)
"""Those of `rlwatch.attribution`, which takes seconds to load."""


def above(least: int) -> Callable[[str], int]:
    """What reads a whole number of at least so much.

    Raises, as it reads: argparse.ArgumentTypeError when it is none.
    """

    def read(text: str) -> int:
        if not (text.removeprefix("-").isdecimal() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return int(text)

    return read


def home(text: str) -> str:
    """A path whose ~ stands for the home folder: shells leave it as it is behind = and within quotes."""
    return os.path.expanduser(text)  # noqa: PTH111 - an empty text stays one, and so does a ~ of nobody


def file(text: str) -> Path:
    """A file, perhaps in the home folder."""
    return Path(home(text))


def setting(text: str) -> tuple[str, object]:
    """A keyword and its value, which is a number, true, false, null or a word.

    Raises: argparse.ArgumentTypeError when there is no `=`.
    """
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def folder(text: str) -> Path:
    """A folder, never this one by accident: an empty name is what an unset variable leaves.

    Raises: argparse.ArgumentTypeError when it is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a folder, got {text!r}: this one is '.'")
    return file(text)


def check_target(target: str) -> None:
    """Raises: ValueError when it is none that one checkpoint has one map of."""
    if target in TARGETS[:-1] or re.fullmatch(r"action=\d+", target):
        return
    got = f"expected as --target one of {', '.join(TARGETS)}, got {target!r}"
    if target == "all":
        raise ValueError(
            f"{got}: name an action, action=0 for the first; with --logdir the RLWATCH tab has maps of all, and so has "
            "rlwatch.explain_actions in Python"
        )
    if target.startswith("action"):
        raise ValueError(f"{got}: actions are counted from 0, the first is action=0")
    near = difflib.get_close_matches(target, TARGETS[:-1], n=1)
    raise ValueError(got + (f": did you mean {near[0]!r}?" if near else ""))
