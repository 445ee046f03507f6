"""Several copies of one Atari game, played side by side."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor


class Played(NamedTuple):
    """What one step of all games gave: clipped reward, end of life or game, and the returns of games that ended."""

    reward: Float32[np.ndarray, " games"]
    done: Bool[np.ndarray, " games"]
    returns: dict[int, float]


class Games:
    """Several copies of one game, stepped by ALE's own threads, preprocessed as gymnasium's AtariPreprocessing does.

    Losing a life ends an episode for learning but not the game; FIRE starts the next life. Returns are of whole games
    and unclipped. After the last frame of a game ALE resets instead of playing: `first` marks the frame that follows.
    """

    def __init__(
        self, game: str, count: int, seed: int, *, threads: int, sticky: float = 0.0, most_frames: int = 108_000
    ) -> None:
        self.env = AtariVectorEnv(
            game,
            count,
            reward_clipping=False,
            repeat_action_probability=sticky,
            max_num_frames_per_episode=most_frames,
            num_threads=threads,
        )
        self.meanings = [action.name for action in self.env.ale.get_action_set()]
        self.fire = self.meanings.index("FIRE") if "FIRE" in self.meanings else None
        self.stacks, info = self.env.reset(seed=seed)
        self.lives = info["lives"]
        self.lost, self.over = np.zeros(count, bool), np.zeros(count, bool)
        self.first = np.ones(count, bool)
        self.score = np.zeros(count)

    def choose(
        self, network: Callable[[Tensor], Tensor], epsilon: float, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "games y x"], Bool[np.ndarray, " games"], Int64[np.ndarray, " games"]]:
        """Each game's newest frame, whether a game begins with it, and an ε-greedy action."""
        with torch.no_grad():
            actions = network(torch.from_numpy(self.stacks)).argmax(1).numpy()
        explore = rng.random(len(actions)) < epsilon
        actions = np.where(explore, rng.integers(len(self.meanings), size=len(actions)), actions)
        if self.fire is not None:
            actions[self.lost] = self.fire
        return self.stacks[:, -1], self.first, actions

    def receive(self) -> Played:
        """Wait for the step that `env.send` began; `stacks` and `first` then belong to the step that comes."""
        self.stacks, reward, terminated, truncated, info = self.env.recv()
        self.first, self.over = self.over, terminated | truncated
        self.lost = (info["lives"] < self.lives) & ~self.over
        self.lives = info["lives"]
        self.score += reward
        returns = {int(game): float(self.score[game]) for game in np.flatnonzero(self.over)}
        self.score[self.over] = 0
        return Played(np.clip(reward, -1, 1).astype(np.float32), terminated | self.lost, returns)
