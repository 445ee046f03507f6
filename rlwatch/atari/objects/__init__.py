"""Where a game's objects stand on the screen, read from the console's memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from rlwatch.atari.objects import breakout, pong
from rlwatch.atari.screen import Box

Boxes = Mapping[str, tuple[Box, ...]]


@dataclass(frozen=True)
class ObjectMap:
    """What is known of one game.

    `boxes`: from the memory after a raw frame to each object's boxes on the screen, empty where it is not visible;
    every object has its entry in every frame. `situations`: from the memories of many steps to the words for what
    goes on in them, by aspect, "" where there is nothing to say; the aspect "stage" labels a stretch of play.
    """

    boxes: Callable[[UInt8[np.ndarray, "128"]], Boxes]
    situations: Callable[[UInt8[np.ndarray, "step 128"]], dict[str, np.ndarray]]


MAPS = {
    "breakout": ObjectMap(breakout.boxes, breakout.situations),
    "pong": ObjectMap(pong.boxes, pong.situations),
}


def find(game: str) -> ObjectMap | None:
    """The map of a game by its short name; None where nobody has made one."""
    return MAPS.get(game)
