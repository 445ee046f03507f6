"""Players that read the console's memory: good enough for the late game, and different from episode to episode."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from rlwatch.atari.objects import breakout, pong

Player = Callable[[UInt8[np.ndarray, "128"]], str]
"""From the memory before an agent step to the name of the action to take."""

TOP_SPEED = 20
"""Pixels that a ball moves in one agent step at most; what jumps further is a new ball."""
HALF, NEAR, AT_LAST = 11.0, 6.0, 1.2
"""What it may be off, in pixels, before it pushes: half a push, and less within so many agent steps of the ball."""
COAST = {"RIGHT": 12, "LEFT": -12}
"""Pixels that Breakout's paddle still moves in the agent step after the one that pushed it."""


@dataclass
class BreakoutPlayer:
    """Goes where the ball comes down, with an aim of its own each time, and now and then to the wrong place.

    `misses`: the chance of that at each fall. `aim`: from the ball to the paddle's middle, in pixels. One push moves
    the paddle by 23 pixels within two steps, so it rests at every 23rd only; a push one step before the ball comes
    down reaches the places halfway.
    """

    generator: np.random.Generator
    misses: float
    aim: float = 0.0
    before: tuple[int, int] = (0, 0)
    falling: bool = False
    push: str = "NOOP"

    def __call__(self, ram: UInt8[np.ndarray, "128"]) -> str:
        """The name of the action to take."""
        if not breakout.boxes(ram)["ball"]:
            return "FIRE"
        x, y = int(ram[breakout.BALL_X]) - 48, int(ram[breakout.BALL_Y]) + 9
        dx, dy = x - self.before[0], y - self.before[1]
        if dy > 0 and not self.falling:
            missed = self.generator.random() < self.misses
            self.aim = self.generator.choice([-28, 28]) if missed else self.generator.uniform(-4, 4)
        self.before, self.falling = (x, y), dy > 0
        goal, slack = float(x), HALF
        if 0 < dy <= TOP_SPEED and abs(dx) <= TOP_SPEED:
            left = (breakout.PADDLE_Y - 4 - y) / dy
            slack = HALF if left > AT_LAST else NEAR
            goal = _reflected(x + dx * left, breakout.BRICKS.x + 1, breakout.BRICKS.w - 2)
        paddle = int(ram[breakout.PADDLE_X]) - 47 + int(ram[breakout.PADDLE_HALF])
        self.push = _towards(goal + self.aim - paddle - COAST.get(self.push, 0), "RIGHT", "LEFT", slack)
        return self.push


@dataclass
class PongPlayer:
    """Goes where the ball will pass it, from a certain column on, with an aim of its own each time.

    `sight`: that column; the further right, the less it reaches. `spread`: by how many pixels it aims off at most.
    """

    generator: np.random.Generator
    sight: int
    spread: int
    aim: float = 0.0
    before: tuple[int, int] = (0, 0)
    coming: bool = False
    push: str = "NOOP"

    def __call__(self, ram: UInt8[np.ndarray, "128"]) -> str:
        """The name of the action to take."""
        x, y = int(ram[pong.BALL_X]) - 48, int(ram[pong.BALL_Y]) - 12
        dx, dy = x - self.before[0], y - self.before[1]
        was_coming, self.coming, self.before = self.coming, dx > 0 and x > self.sight, (x, y)
        if self.coming and not was_coming:
            self.aim = self.generator.choice([-1, 1]) * self.generator.uniform(4, self.spread)
        if not (self.coming and pong.boxes(ram)["ball"] and dx <= TOP_SPEED and abs(dy) <= TOP_SPEED):
            self.push = "NOOP"
            return "FIRE" if self.generator.random() < 0.1 else "NOOP"  # noqa: PLR2004 - it serves now and then
        left = (pong.PLAYER_X - x) / dx
        goal = _reflected(y + dy * left, pong.FIELD_TOP + 2, pong.FIELD_BOTTOM - pong.FIELD_TOP - 4)
        bat = 2 * ((int(ram[pong.PLAYER_Y]) - 13) // 2) + 8
        coast = 1.5 * COAST.get(self.push, 0)
        self.push = _towards(goal + self.aim - bat + coast, "LEFT", "RIGHT", HALF if left > AT_LAST else NEAR)
        return self.push


def play_breakout(generator: np.random.Generator) -> Player:
    """A player for one episode, of a skill drawn for it."""
    return BreakoutPlayer(generator, misses=float(generator.choice([0.0, 0.0, 0.05, 0.2, 0.5])))


def play_pong(generator: np.random.Generator) -> Player:
    """A player for one episode, of a skill drawn for it."""
    return PongPlayer(
        generator, sight=int(generator.choice([40, 80, 105])), spread=int(generator.choice([8, 10, 14, 20]))
    )


PLAYERS: dict[str, Callable[[np.random.Generator], Player]] = {"breakout": play_breakout, "pong": play_pong}


def _reflected(x: float, left: int, width: int) -> float:
    """Where a ball that flies to x ends between two walls, `width` apart."""
    folded = (x - left) % (2 * width)
    return left + min(folded, 2 * width - folded)


def _towards(distance: float, more: str, less: str, slack: float) -> str:
    """The action that lessens the distance; none where it is within the slack."""
    if abs(distance) <= slack:
        return "NOOP"
    return more if distance > 0 else less
