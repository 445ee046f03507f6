"""Steps per second of agents/dqn.py beside Stable-Baselines3's DQN at the same hyperparameters.

    python -m tests.benchmarks.training [--envs 1 8] [--pairs 6] [--json]

Both learn Breakout in one process and take turns, a chunk of steps each, so that other work on the machine meets both.
The load at the end says whether others worked beside: with more threads than free cores, PyTorch's own threads (which
Stable-Baselines3 uses) wait for one another, and the ratio flatters agents/dqn.py. `make bench` installs
Stable-Baselines3.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from agents.dqn import Agent, Config, derived, train

WARM_UP = 200  # steps before learning starts, for both


@dataclass
class Turns:
    """Passed to `train` as `stopped`: lets the other program play a chunk whenever ours has played one."""

    agent: Agent
    other: object
    chunk: int
    pairs: int
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    began: float = 0.0
    next_turn: int = 2 * WARM_UP

    def __call__(self):
        if self.agent.step < self.next_turn:
            return 0
        if self.began:
            self.ours.append(self.chunk / (time.perf_counter() - self.began))
            self.theirs.append(self.other_chunk())
        else:
            self.other_chunk()
        self.next_turn = self.agent.step + self.chunk
        self.began = time.perf_counter()
        return int(len(self.ours) >= self.pairs)

    def other_chunk(self):
        torch.set_num_threads(self.agent.config.threads)
        began, before = time.perf_counter(), self.other.num_timesteps
        self.other.learn(self.chunk, reset_num_timesteps=False, log_interval=None)
        seconds = time.perf_counter() - began
        torch.set_num_threads(1)
        return (self.other.num_timesteps - before) / seconds


def stable_baselines(config):
    """Stable-Baselines3's DQN on its own Atari wrappers, with the config's hyperparameters."""
    import ale_py  # noqa: PLC0415 - registers the games
    import gymnasium  # noqa: PLC0415
    from stable_baselines3 import DQN  # noqa: PLC0415 - a peer, needed here only
    from stable_baselines3.common.env_util import make_atari_env  # noqa: PLC0415
    from stable_baselines3.common.vec_env import VecFrameStack  # noqa: PLC0415

    gymnasium.register_envs(ale_py)
    return DQN(
        "CnnPolicy",
        VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", config.envs, seed=config.seed), 4),
        learning_rate=config.learning_rate,
        buffer_size=config.replay,
        learning_starts=config.learning_starts,
        batch_size=config.batch,
        gamma=config.gamma,
        train_freq=max(config.train_every // config.envs, 1),
        gradient_steps=max(config.envs // config.train_every, 1),
        target_update_interval=config.target_every,
        exploration_initial_eps=config.epsilon_last,
        exploration_final_eps=config.epsilon_last,
        seed=config.seed,
        device="cpu",
    )


def measure(envs, pairs, chunk, threads):
    """Steps per second of both and their ratio, pair by pair."""
    with tempfile.TemporaryDirectory() as folder:
        never = 10**9
        settings = {
            "checkpoint_every": never,
            "evaluation_games": 1,
            "evaluation_frames": 40,
            "epsilon_steps": 1,
            "threads": threads,
        }
        config = Config(
            steps=never, replay=10_000, learning_starts=WARM_UP, target_every=1000, envs=envs, logdir=folder
        )
        agent = Agent(derived(Config(**(vars(config) | settings))))
        turns = Turns(agent, stable_baselines(agent.config), chunk, pairs)
        train(agent, stopped=turns)
        agent.run.close()
    ratios = np.array(turns.ours) / np.array(turns.theirs)
    return {
        "envs": envs,
        "train_every": agent.config.train_every,
        "batch": agent.config.batch,
        "precision": agent.config.precision,
        "threads": agent.config.threads,
        "load": round(os.getloadavg()[0], 1),
        "steps_per_second": round(float(np.median(turns.ours)), 1),
        "stable_baselines3": round(float(np.median(turns.theirs)), 1),
        "ratio": round(float(np.median(ratios)), 2),
        "lowest": round(float(ratios.min()), 2),
        "highest": round(float(ratios.max()), 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8], help="games side by side, for both programs")
    parser.add_argument("--pairs", type=int, default=6, help="chunks that each program plays")
    parser.add_argument("--chunk", type=int, default=480, help="steps in a chunk")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for each; 1 is fair on a busy machine")
    options = parser.parse_args()
    for envs in options.envs:
        found = measure(envs, options.pairs, options.chunk, options.threads)
        text = (
            "{envs} games: {steps_per_second} steps/s, Stable-Baselines3 {stable_baselines3}: "
            "{ratio} times as fast (pairs {lowest} to {highest}); {precision}, "
            "{threads} threads each; load {load}"
        )
        print(json.dumps(found) if options.json else text.format(**found), flush=True)


if __name__ == "__main__":
    main()
