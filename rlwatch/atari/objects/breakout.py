"""Breakout: ball, paddle, bricks, tunnel, score, lives, player and walls, each where the screen shows it.

Found by changing the console's memory byte by byte and comparing the screen; the tests compare every box with it.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, UInt8

from rlwatch.atari.screen import Box

ROWS, COLUMNS = 6, 18
BRICKS = Box(8, 57, 144, 36)
PADDLE_Y = 189
FLOOR = 196
"""The line from which on nothing is drawn: a ball there is lost."""
FIELD = Box(8, 32, 144, FLOOR - 32)
"""What the walls leave of the screen; a ball behind them is hidden."""
WALLS = (Box(0, 17, 160, 15), Box(0, 32, 8, 164), Box(152, 32, 8, 163))
SCORE, LIVES, PLAYER = Box(36, 5, 44, 10), Box(100, 5, 12, 10), Box(132, 5, 12, 10)

BALL_X, BALL_Y, BALL_SPEED_Y = 99, 101, 103
PADDLE_X, PADDLE_HALF = 72, 108
LIVES_LEFT = 57
LAST_HIGHER = 84
"""The last value of the ball's y that draws it one line higher than the values from there on."""

_HALVES = (
    *((5, bit) for bit in (6, 7)),
    *((4, bit) for bit in range(7, -1, -1)),
    *((3, bit) for bit in range(8)),
    *((2, bit) for bit in range(4, 8)),
    *((1, bit) for bit in range(7, -1, -1)),
    *((0, bit) for bit in range(6)),
)
"""Left to right, the group of six bytes and the bit that each half of a brick is drawn from."""
_BYTES = np.array([[6 * group + ROWS - 1 - row for group, _ in _HALVES] for row in range(ROWS)])
_BITS = np.array([bit for _, bit in _HALVES], np.uint8)


def boxes(ram: UInt8[np.ndarray, "128"]) -> dict[str, tuple[Box, ...]]:
    """Each object's boxes after one raw frame, empty where it is not visible; a tunnel is a column without bricks."""
    standing, tunnel = _brick_boxes(ram[: 6 * ROWS].tobytes())
    return {
        "ball": _ball(ram),
        "paddle": (Box(int(ram[PADDLE_X]) - 47, PADDLE_Y, 2 * int(ram[PADDLE_HALF]), 4),),
        "bricks": standing,
        "tunnel": tunnel,
        "score": (SCORE,),
        "lives": (LIVES,),
        "player": (PLAYER,),
        "walls": WALLS,
    }


def bricks(ram: UInt8[np.ndarray, "*step 128"]) -> Bool[np.ndarray, "*step row column"]:
    """Which bricks stand, rows from the top and columns from the left."""
    halves = (ram[..., _BYTES] >> _BITS) & 1
    standing: Bool[np.ndarray, "*step row column"] = halves.reshape(*halves.shape[:-1], COLUMNS, 2).max(-1) > 0
    return standing


def falling(ram: UInt8[np.ndarray, "*step 128"]) -> Bool[np.ndarray, "*step"]:
    """Whether the ball's speed points down."""
    down: Bool[np.ndarray, "*step"] = ram[..., BALL_SPEED_Y].view(np.int8) > 0
    return down


def situations(ram: UInt8[np.ndarray, "step 128"]) -> dict[str, np.ndarray]:
    """Words for the wall of bricks, the ball's place and way, the paddle's place, and the lives left."""
    standing = bricks(ram)
    x, y = ram[:, BALL_X].astype(int) - 49, ram[:, BALL_Y].astype(int) + 9
    played = np.array([bool(_ball(one)) for one in ram])
    tunnel = standing.max(axis=1).min(axis=1) == 0
    return {
        "stage": np.where(tunnel, "tunnel", _stage(1 - standing.mean(axis=(1, 2)))),
        "height": np.where(played, np.digitize(y, (BRICKS.y, 93, 150)).astype(str), ""),
        "side": np.where(played, np.digitize(x, (56, 104)).astype(str), ""),
        "way": np.where(played, np.where(falling(ram), "down", "up"), ""),
        "paddle": np.digitize(ram[:, PADDLE_X].astype(int) - 47, (48, 96)).astype(str),
        "width": ram[:, PADDLE_HALF].astype(str),
        "lives": ram[:, LIVES_LEFT].astype(str),
    }


def _stage(gone: np.ndarray) -> np.ndarray:
    """The stage of the game by the part of the bricks that are gone."""
    words: np.ndarray = np.array(["early", "mid", "late"])[np.digitize(gone, (0.15, 0.4))]
    return words


def _ball(ram: UInt8[np.ndarray, "128"]) -> tuple[Box, ...]:
    """Four lines, drawn one line higher among the bricks and above them than below; five where it crosses over."""
    x, y = int(ram[BALL_X]) - 49, int(ram[BALL_Y])
    left, right = max(x, FIELD.x), min(x + 2, FIELD.x + FIELD.w)
    top, bottom = y + (8 if y <= LAST_HIGHER else 9), min(y + (12 if y <= LAST_HIGHER - 4 else 13), FLOOR)
    return (Box(left, top, right - left, bottom - top),) if y > 0 and left < right and top < bottom else ()


@lru_cache(maxsize=4096)
def _brick_boxes(memory: bytes) -> tuple[tuple[Box, ...], tuple[Box, ...]]:
    """The boxes of the bricks that stand, and of the columns where none does; few patterns come again and again."""
    standing = bricks(np.frombuffer(memory.ljust(128, b"\0"), np.uint8))
    width, height = BRICKS.w // COLUMNS, BRICKS.h // ROWS
    return (
        tuple(
            Box(BRICKS.x + width * int(column), BRICKS.y + height * int(row), width, height)
            for row, column in np.argwhere(standing)
        ),
        tuple(
            Box(BRICKS.x + width * int(column), BRICKS.y, width, BRICKS.h)
            for column in np.flatnonzero(~standing.any(axis=0))
        ),
    )
