"""What was played, kept to learn from."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from agents.games import Played

STACK = 4  # frames that the network sees


class Batch(NamedTuple):
    """Transitions: five frames each (the stack is the first four, the next stack the last four)."""

    frames: UInt8[Tensor, "batch five y x"]
    actions: Int64[Tensor, " batch"]
    rewards: Float32[Tensor, " batch"]
    done: Float32[Tensor, " batch"]


class Replay:
    """A ring of each game's newest frames, every frame stored once; `size` of `length` rows are filled.

    A row holds the frame that was seen, what was done there, and what came of it. Stacks are put together from rows;
    frames from before the game began are black, as ALE has them.
    """

    def __init__(self, capacity: int, games: int) -> None:
        self.length, self.games, self.size, self.row = max(capacity // games, 8), games, 0, 0
        self.frames = np.zeros((self.length, games, 84, 84), np.uint8)  # untouched pages take no memory yet
        self.actions = np.zeros((self.length, games), np.int64)
        self.rewards = np.zeros((self.length, games), np.float32)
        self.done = np.zeros((self.length, games), np.float32)
        self.first = np.zeros((self.length, games), bool)

    def add(
        self,
        frames: UInt8[np.ndarray, "games y x"],
        first: Bool[np.ndarray, " games"],
        actions: Int64[np.ndarray, " games"],
        played: Played,
    ) -> None:
        """Append a row: what `Games.choose` gave, and what came of it."""
        self.frames[self.row], self.first[self.row], self.actions[self.row] = frames, first, actions
        self.rewards[self.row], self.done[self.row] = played.reward, played.done
        self.row, self.size = (self.row + 1) % self.length, min(self.size + 1, self.length)

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """Transitions drawn uniformly from all that are whole: none leads from one game into the next."""
        oldest = 3 if self.size == self.length else 0  # the frames before these rows have been overwritten
        rows, games = self._draw(count, oldest, rng)
        while (bad := self.first[(rows + 1) % self.length, games]).any():
            rows[bad], games[bad] = self._draw(int(bad.sum()), oldest, rng)
        five = (rows[:, None] + np.arange(-3, 2)) % self.length
        frames, began = self.frames[five, games[:, None]], self.first[five, games[:, None]]
        for age in (2, 1, 0):  # a game that begins at a later frame of the stack has nothing before it
            frames[began[:, age + 1 : 4].any(1), age] = 0
        columns = (self.actions[rows, games], self.rewards[rows, games], self.done[rows, games])
        return Batch(*map(torch.from_numpy, (frames, *columns)))

    def _draw(self, count: int, oldest: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ages = rng.integers(oldest, self.size - 1, size=count)
        return (self.row - self.size + ages) % self.length, rng.integers(self.games, size=count)
