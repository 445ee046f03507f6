"""Pong: ball, player (right), enemy (left) and both scores, each where the screen shows it.

Found by changing the console's memory byte by byte and comparing the screen; the tests compare every box with it.
"""

import numpy as np
from jaxtyping import UInt8

from rlwatch.atari.screen import Box

FIELD_TOP, FIELD_BOTTOM = 34, 194
PLAYER_X, ENEMY_X = 140, 16
BALL_X, BALL_Y = 49, 54
ENEMY_Y, PLAYER_Y = 50, 51
ON_THE_RIGHT, BEHIND_PLAYER = 174, 198
"""Values of the ball's x from which on it may be drawn one line higher: with an odd y, and with any."""
ENEMY_SCORE, PLAYER_SCORE = 13, 14


def boxes(ram: UInt8[np.ndarray, "128"]) -> dict[str, tuple[Box, ...]]:
    """Each object's boxes after one raw frame, empty where it is not visible."""
    return {
        "ball": _ball(ram),
        "player": _bat(PLAYER_X, 2 * ((int(ram[PLAYER_Y]) - 13) // 2)),
        "enemy": _bat(ENEMY_X, int(ram[ENEMY_Y]) - 15),
        "player_score": (_digits(ram[PLAYER_SCORE], 116),),
        "enemy_score": (_digits(ram[ENEMY_SCORE], 36),),
    }


def situations(ram: UInt8[np.ndarray, "step 128"]) -> dict[str, np.ndarray]:
    """Words for the stage of the match, who leads, the ball's place, and how far the player is from it."""
    x, y = ram[:, BALL_X].astype(int) - 49, ram[:, BALL_Y].astype(int) - 14
    played = np.array([bool(_ball(one)) for one in ram])
    enemy, player = ram[:, ENEMY_SCORE].astype(int), ram[:, PLAYER_SCORE].astype(int)
    distance = 2 * ((ram[:, PLAYER_Y].astype(int) - 13) // 2) + 8 - (y + 2)
    return {
        "stage": np.array(["early", "mid", "late"])[np.digitize(enemy + player, (6, 14))],
        "lead": np.array(["behind", "even", "ahead"])[np.sign(player - enemy) + 1],
        "height": np.where(played, np.digitize(y, (87, 140)).astype(str), ""),
        "side": np.where(played, np.digitize(x, (48, 112)).astype(str), ""),
        "aim": np.where(played, np.digitize(distance, (-12, 12)).astype(str), ""),
    }


def _ball(ram: UInt8[np.ndarray, "128"]) -> tuple[Box, ...]:
    """Four lines; on the right, where the beam may come to the ball after it is switched on for the next line, five."""
    x, y = int(ram[BALL_X]), int(ram[BALL_Y])
    early = x >= BEHIND_PLAYER or (x >= ON_THE_RIGHT and y % 2 == 1)
    return _in_field(x - 49, y - 14 - early, 2, 4 + early) if y > 0 else ()


def _bat(x: int, y: int) -> tuple[Box, ...]:
    return _in_field(x, y, 4, 16)


def _in_field(x: int, y: int, w: int, h: int) -> tuple[Box, ...]:
    """The part of a box between the two borders."""
    top, bottom = max(y, FIELD_TOP), min(y + h, FIELD_BOTTOM)
    return (Box(x, top, w, bottom - top),) if top < bottom else ()


def _digits(points: np.uint8, ones: int) -> Box:
    """The box of one digit at `ones`, or of two that begin one place before it."""
    return Box(ones, 1, 12, 20) if points < 10 else Box(ones - 16, 1, 28, 20)  # noqa: PLR2004 - two digits
