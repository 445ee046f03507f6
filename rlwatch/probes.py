"""The work of `rlwatch record` and `rlwatch probe`: play for a probe, and say what is in one."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from rlwatch import checkpoints, outputs
from rlwatch.atari.choose import record_probe
from rlwatch.atari.console import Console, short_name
from rlwatch.atari.names import plain
from rlwatch.atari.players import PLAYERS
from rlwatch.atari.probe import Probe
from rlwatch.atari.recording import Policy
from rlwatch.atari.screen import SIZE, STACK

log = logging.getLogger("rlwatch")


def record_to(path: Path, game: str, *, policy: str | None = None, steps: int | None = None, seed: int = 0) -> Probe:
    """Play a game, choose a probe from what was played, and save it.

    `policy`: "scripted", "random", or a checkpoint that plays greedily but for one action in twenty (default: scripted
    where there is a scripted player for the game, else random). Whatever can be told before is told before the play.

    Raises: ValueError, FileNotFoundError for an unknown game or policy, or one of another game; OSError when the file
    cannot be written.
    """
    outputs.check(path, "--out", suffix=".npz")  # `--probe pong` is the game's, whatever file is called so
    probe = record_probe(game, policy=_policy(policy, short_name(game), seed), steps=steps, seed=seed)
    with outputs.telling_of(path, "--out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.save(path)
    return probe


def _policy(told: str | None, game: str, seed: int) -> str | Policy:
    if told == "scripted" and game not in PLAYERS:
        raise ValueError(
            f"there is no scripted player for {game}, only for {', '.join(PLAYERS)}: leave --policy out for random "
            "play, or give a checkpoint"
        )
    return told or "scripted" if told in {None, "scripted", "random"} else _player(str(told), game, seed)


def _player(checkpoint: str, game: str, seed: int, *, epsilon: float = 0.05) -> Policy:
    """The checkpoint's greedy player, which presses any button at random once in 1 / `epsilon` steps.

    Raises: ValueError when its network is not one for the game.
    """
    saved, generator = checkpoints.load(checkpoint), np.random.default_rng(seed)
    _check_plays(saved, game)

    def choose(stack: UInt8[np.ndarray, "stack 84 84"]) -> int:
        with torch.no_grad():
            q_values = saved.network(torch.from_numpy(np.ascontiguousarray(stack))[None])[0]
        return int(generator.integers(len(q_values)) if generator.random() < epsilon else q_values.argmax())

    return choose


def _check_plays(saved: checkpoints.Checkpoint, game: str) -> None:
    actions = Console(game, seed=0, repeat_action_probability=0.0).actions
    try:
        with torch.no_grad():
            outputs_given = len(saved.network(torch.zeros(1, STACK, *SIZE, dtype=torch.uint8))[0])
    except RuntimeError as error:
        raise ValueError(
            f"{saved.path} must play from {STACK} stacked frames of {SIZE[0]} × {SIZE[1]} pixels, got a network that "
            "takes others: give another checkpoint, or leave --policy out"
        ) from error
    if outputs_given != len(actions):
        raise ValueError(
            f"{saved.path} must be of {game}, which has {len(actions)} actions ({', '.join(actions)}), got a network "
            f"with {outputs_given}: give a checkpoint of that game, or leave --policy out"
        )
    if saved.game and plain(saved.game) != plain(game):
        log.warning("rlwatch: %s is of %s, and plays %s all the same", saved.path, saved.game, game)


def describe(name: str | Path, *, objects: str | Path | None = None) -> dict[str, Any]:
    """What is in a probe: frames, episodes, situations, how its objects were found, and each of them.

    Of an object: in how many frames it is, its pixels in a stack and, where it was followed against the background, how
    sure it is, see `rlwatch.atari.background.Sureness`.

    Raises: as Probe.load does.
    """
    probe = Probe.load(name, objects=objects)
    sure = {name: asdict(one) for name, one in probe.placed.sureness.items()}
    sizes = {name: float(mask.sum(axis=(1, 2, 3)).mean()) for name, mask in probe.masks().items()}
    measured = {
        name: {"frames": seen, "pixels": round(sizes[name], 2), **sure.get(name, {})}
        for name, seen in probe.visible().items()
    }
    return {
        "game": probe.game,
        "observations": len(probe),
        "episodes": len(set(probe.episode.tolist())),
        "segments": len(set(probe.segment.tolist())),
        "situations": list(probe.situations),
        "actions": list(probe.actions),
        "digest": probe.digest,
        "found": {
            "how": probe.placed.how,
            "says": str(probe.placed),
            "reason": probe.placed.reason,
            "steady": probe.placed.steady,
            "named": probe.placed.named,
            "scrolling": probe.placed.scrolling,
        },
        "objects": measured,
    }


def write_sheet(name: str | Path, path: Path, *, objects: str | Path | None = None) -> None:
    """Write the probe's contact sheet as a PNG.

    Raises: OSError when the file cannot be written; ValueError when it does not end in .png; as Probe.load does.
    """
    outputs.check(path, "--png", suffix=".png")
    sheet = Probe.load(name, objects=objects).contact_sheet()
    encoded, png = cv2.imencode(".png", sheet[..., ::-1])
    if not encoded:
        raise OSError(f"{path}: the contact sheet could not be encoded as PNG")
    with outputs.telling_of(path, "--png"):
        outputs.put(path, png.tobytes())
