"""What the adapters share: the game of an environment, the form of its frames, an end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gymnasium import spaces

from rlwatch.atari.probe import Probe
from rlwatch.attribution.inputs import Observe, View
from rlwatch.monitor.matching import seen_as
from rlwatch.watch import Watch

IMAGE = 3
"""Axes of stacked frames."""

OTHERS = "hand its Q-values to rlwatch.Watch as a function of the observations"
"""What to do about an agent that an adapter does not know."""

RAW = View("float in [0, 255]", 1.0, False)
"""What a framework makes of bytes where nothing scales them."""


@contextmanager
def finishing(watch: Watch, last_step: Callable[[], int]) -> Iterator[None]:
    """Makes the last checkpoint at the end of the block, where `last_step()` is the step, and closes the log.

    A training that ends with an exception gets no last checkpoint.
    """
    with watch:
        yield
        watch.finish(last_step())


def probe_of(probe: Any, game: str | None) -> Any:
    """The probe that was given, else the one of the game.

    Raises: ValueError when neither is known.
    """
    if probe is None and game is None:
        raise ValueError("the environment does not say its game: give probe=GAME or probe=FILE")
    return game if probe is None else probe


def game_of(env: Any) -> str | None:
    """ALE's name of the game, however the environment is wrapped and registered; None where it is no Atari game."""
    game = getattr(getattr(env, "unwrapped", env), "_game", None)
    return game if isinstance(game, str) else None


def observe_of(space: Any) -> Observe | None:
    """From the probe's frames to those of an observation space; None where it says too little and trial must find out.

    Bytes stay bytes, since whoever trains on them scales them in the network or not at all.
    """
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        return None
    last = _channels_last(space)
    if space.dtype.kind in "ui":
        return View("uint8", None, last)
    low, high = float(space.low.min()), float(space.high.max())
    known = low == 0 and high in {1.0, 255.0}
    return View(f"float in [0, {high:g}]", high / 255, last) if known else None


def seen_in(probe: Any, space: Any) -> Probe:
    """The probe as the frames of an observation space show it; as it stands where the space is not of frames.

    Raises: as Probe.load and `seen_as` do.
    """
    whole: Probe = probe if isinstance(probe, Probe) else Probe.load(probe)
    if not isinstance(space, spaces.Box) or len(space.shape) != IMAGE:
        return whole
    shape = (space.shape[2], *space.shape[:2]) if _channels_last(space) else space.shape
    return seen_as(whole, shape[0], (shape[1], shape[2]))


def _channels_last(space: spaces.Box) -> bool:
    return space.shape[-1] < space.shape[0]


def tell_return(watch: Watch, env: Any, step: int) -> None:
    """Tell the monitor the newest return that gymnasium's RecordEpisodeStatistics has noted, where there is one."""
    while env is not None:
        noted = getattr(env, "return_queue", None)
        if noted:
            watch.returns(step, float(noted[-1]))
        env = None if noted is not None else getattr(env, "env", None)
