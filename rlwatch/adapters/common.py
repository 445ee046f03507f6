"""What the adapters share: the game of an environment, the form of its frames, a hook that ends well."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gymnasium import spaces

from rlwatch.attribution.inputs import Observe, View
from rlwatch.watch import Watch

STACK = 4
"""Frames of a stack: an axis of so many is the stack's."""


@contextmanager
def finishing(watch: Watch) -> Iterator[Callable[[int], None]]:
    """Calls the monitor with agent steps; at the end of the block the last checkpoint is made and the log is closed.

    A training that ends with an exception gets no last checkpoint.
    """
    last = 0

    def at(step: int) -> None:
        nonlocal last
        last = step
        watch(step)

    try:
        yield at
        watch.finish(last)
    finally:
        watch.close()


def probe_of(probe: Any, game: str | None) -> Any:
    """The probe that was given, else the one of the game.

    Raises: ValueError when neither is known.
    """
    if probe is None and game is None:
        raise ValueError("the environment does not say its game: give probe=GAME or probe=FILE")
    return game if probe is None else probe


def game_of(env: Any) -> str | None:
    """The id of a gymnasium environment, however it is wrapped; None where it has none."""
    spec = getattr(getattr(env, "unwrapped", env), "spec", None)
    return getattr(spec, "id", None)


def observe_of(space: Any) -> Observe | None:
    """From the probe's frames to those of an observation space; None where it says too little and trial must find out.

    Bytes stay bytes, since whoever trains on them scales them in the network or not at all.
    """
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        return None
    last = space.shape[-1] == STACK != space.shape[0]
    if space.dtype.kind in "ui":
        return View("uint8", None, last)
    low, high = float(space.low.min()), float(space.high.max())
    known = low == 0 and high in {1.0, 255.0}
    return View(f"float in [0, {high:g}]", high / 255, last) if known else None


def returns_of(env: Any) -> float:
    """The newest return that gymnasium's RecordEpisodeStatistics has noted; NaN without one."""
    while env is not None:
        queue = getattr(env, "return_queue", None)
        if queue is not None:
            return float(queue[-1]) if queue else float("nan")
        env = getattr(env, "env", None)
    return float("nan")
