"""Nature DQN on any Atari game: the options of a run, the agent, the loop.

    python -m agents.dqn --game breakout --steps 40000

A step is an agent step (4 emulator frames), counted over all games that are played side by side.
Departures from the paper: Adam for RMSProp; ε ends at 0.05; a lost life ends an episode and FIRE starts the next;
runs of less than a million steps learn faster and from more gradient steps, with schedules that shrink (see --help).
Source: Mnih et al. 2015, doi 10.1038/nature14236.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rlwatch
from agents.games import Games
from agents.learner import Learner, QNetwork, multiplies_bfloat16
from agents.parts import (
    Run,
    add_options,
    add_watch_options,
    changed,
    check_ranges,
    option,
    probe_of,
    read_resume,
    stop_signals,
    tell,
)
from agents.progress import Progress
from agents.replay import STACK, Replay
from rlwatch.atari.console import short_name
from rlwatch.commands.terminal import escape_missing_letters

CHANGEABLE = ("steps", "checkpoint_every", "evaluation_games", "threads")  # by a resumed run
REFILL = 50_000  # steps, at most, that a resumed run plays to fill its replay
LONG = 1_000_000  # steps from which a run learns as in the paper
LARGEST_SEED = 1_000_000_000  # ALE's seeds have 31 bits; evaluation and resumed runs add to this one
EVALUATION_EPSILON, EVALUATION_SEED = 0.05, 1_000_000
AT_LEAST_ONE = ("steps", "envs", "batch", "evaluation_games", "evaluation_frames")
PARTS = ("sticky", "gamma", "epsilon_last")  # from 0 to 1


@dataclasses.dataclass(frozen=True)
class Config:
    """What makes a run; 0 and "" stand for "derive it from the number of steps" until `derived` has filled them in."""

    game: str = option("breakout", 'any ALE game: "breakout", "ms_pacman", "ALE/Breakout-v5"')
    steps: int = option(40_000, "agent steps (4 emulator frames each), counted over all games side by side")
    seed: int = option(1, "the same seed, thread count and machine give the same run, bit for bit")
    logdir: str = option("", "folder of the run (default: runs/GAME-DATE-seedN)")
    checkpoint_every: int = option(0, "steps between checkpoints and evaluations (default: a tenth of the steps)")
    evaluation_games: int = option(8, "games played at ε = 0.05 for eval/return")
    evaluation_frames: int = option(18_000, "emulator frames after which an evaluation game ends: 5 minutes")
    envs: int = option(8, "games played side by side")
    sticky: float = option(0.0, "probability that the emulator repeats the last action (0.25: Machado et al. 2018)")
    learning_rate: float = option(0.0, "of Adam (default: 2.5e-4, from a million steps 1e-4)")
    batch: int = option(32, "transitions per gradient step")
    gamma: float = option(0.99, "discount")
    train_every: int = option(0, "steps per gradient step (default: 2, from a million steps 4 as in the paper)")
    learning_starts: int = option(0, "steps played before learning (default: steps/20, at most 50,000)")
    replay: int = option(0, "frames kept, 7 kB each (default: the steps, at most 1,000,000)")
    target_every: int = option(0, "steps between copies to the target network (default: steps/80 in 100…10,000)")
    epsilon_last: float = option(0.05, "ε at the end of its linear decay from 1")
    epsilon_steps: int = option(0, "steps of that decay (default: steps/4, at most 250,000: a million frames)")
    precision: str = option("auto", "fp32, bf16 (autocast), or auto: bf16 where the processor multiplies it natively")
    threads: int = option(0, "threads that share out each batch (default: the cores, at most 4)")


def derived(config: Config) -> Config:
    """The config with every 0 and "" filled in and the game's name in ALE's spelling.

    Raises: ValueError for an unknown game or a number that cannot be.
    """
    check_ranges(config, at_least_one=AT_LEAST_ONE, parts=PARTS)
    if not 0 <= config.seed < LARGEST_SEED:
        raise ValueError(f"--seed must be from 0 to {LARGEST_SEED - 1:,}, got {config.seed}")
    if config.precision not in {"auto", "bf16", "fp32"}:
        raise ValueError(f"--precision must be auto, bf16 or fp32, got {config.precision!r}")
    steps, game, short = config.steps, short_name(config.game), config.steps < LONG
    defaults = {
        "logdir": f"runs/{game}-{time.strftime('%Y%m%d-%H%M%S')}-seed{config.seed}",
        "checkpoint_every": max(steps // 10, 1),
        "learning_rate": 2.5e-4 if short else 1e-4,
        "train_every": 2 if short else 4,
        "learning_starts": min(steps // 20, 50_000),
        "replay": min(steps, 1_000_000),
        "target_every": min(max(steps // 80, 100), 10_000),
        "epsilon_steps": max(min(steps // 4, 250_000), 1),
        "threads": min(os.cpu_count() or 1, 4),
    }
    filled: dict[str, Any] = {name: getattr(config, name) or value for name, value in defaults.items()}
    precision = config.precision if config.precision != "auto" else "bf16" if multiplies_bfloat16() else "fp32"
    return dataclasses.replace(config, game=game, precision=precision, **filled)


class Agent:
    """All that a run is besides the games being played: network, learner, generator, step, and the run's folder.

    Raises: what Run raises.
    """

    def __init__(self, config: Config, step: int = 0) -> None:
        self.config, self.step, self.returns = config, step, float("nan")
        self.run = Run(config.logdir, step)
        self.run.describe(config, ["eval/return", "rlwatch/lift/greedy/ball"])
        torch.manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.meanings = Games(config.game, 1, config.seed, threads=1).meanings
        self.q_network = QNetwork(len(self.meanings))
        self.learner = Learner(
            self.q_network,
            learning_rate=config.learning_rate,
            gamma=config.gamma,
            threads=config.threads,
            bfloat16=config.precision == "bf16",
        )

    @property
    def epsilon(self) -> float:
        """The part of actions that are random: 1 at first, `epsilon_last` from `epsilon_steps` on."""
        return 1 - (1 - self.config.epsilon_last) * min(self.step / self.config.epsilon_steps, 1)

    def passed(self, every: int) -> bool:
        """Whether a multiple of `every` lies in the newest step of all games; true at step 0."""
        return self.step // every != (self.step - self.config.envs) // every

    def updates_due(self, replay: Replay) -> int:
        """How many gradient steps belong to the step of all games that is being played."""
        config = self.config
        if self.step < config.learning_starts or replay.size <= STACK:
            return 0
        return (self.step + config.envs) // config.train_every - self.step // config.train_every

    def evaluate(self) -> float:
        """Mean return of whole games at ε = 0.05, the same starts every time; nothing that training uses is touched."""
        config, rng, returns = self.config, np.random.default_rng((self.config.seed, self.step)), dict[int, float]()
        count, limits = config.evaluation_games, {"threads": config.threads, "most_frames": config.evaluation_frames}
        games = Games(config.game, count, config.seed + EVALUATION_SEED, sticky=config.sticky, **limits)
        while len(returns) < count:
            games.env.send(games.choose(self.q_network, EVALUATION_EPSILON, rng)[2])
            returns = games.receive().returns | returns  # a game's first return counts
        return float(np.mean(list(returns.values())))

    def save(self) -> None:
        """Write a checkpoint and what the run needs to go on."""
        checkpoint = {
            "model": self.q_network.state_dict(),
            "step": self.step,
            "game": self.config.game,
            "actions": self.meanings,
            "seed": self.config.seed,
            "returns": self.returns,
        }
        training = {
            "config": dataclasses.asdict(self.config),
            "target": self.learner.target_network.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "numpy": json.dumps(self.rng.bit_generator.state),
            "torch": torch.get_rng_state(),
        }
        self.run.save(self.step, checkpoint, training)

    @classmethod
    def resumed(cls, folder: Path, changes: dict[str, Any]) -> "Agent":
        """The agent that was saved in `folder`; of the options given anew only CHANGEABLE may differ.

        Raises: FileNotFoundError, ValueError as `read_resume` and `changed`; ValueError when the run is finished.
        """
        saved = read_resume(folder)
        config = changed(Config(**saved["config"]), changes, CHANGEABLE)
        if saved["step"] >= config.steps:
            raise ValueError(f"--steps must exceed the {saved['step']:,} that {folder} has, got {config.steps:,}")
        agent = cls(derived(dataclasses.replace(config, logdir=str(folder))), saved["step"])
        agent.returns = saved["returns"]
        agent.q_network.load_state_dict(saved["model"])
        agent.learner.target_network.load_state_dict(saved["target"])
        agent.learner.optimizer.load_state_dict(saved["optimizer"])
        agent.rng.bit_generator.state = json.loads(saved["numpy"])
        torch.set_rng_state(saved["torch"])
        return agent


def refill(agent: Agent, games: Games, replay: Replay, stopped: Callable[[], int]) -> None:
    """Play again, at the present ε, as many frames as a resumed run had (at most REFILL): they are not saved."""
    missing = min(agent.step, agent.config.replay, REFILL)
    if missing:
        print(f"resumed at step {agent.step:,}: playing {missing:,} steps to fill the replay", flush=True)
    for _ in range(missing // agent.config.envs):
        if stopped():
            return
        seen, first, actions = games.choose(agent.q_network, agent.epsilon, agent.rng)
        games.env.send(actions)
        replay.add(seen, first, actions, games.receive())


def train(agent: Agent, watch: Any = None, stopped: Callable[[], int] = lambda: 0) -> None:
    """Train until the last step or until `stopped()`; `watch`, if any, is called every step and told the returns."""
    config = agent.config
    games = Games(config.game, config.envs, config.seed + agent.step, threads=1, sticky=config.sticky)
    replay = Replay(config.replay, config.envs)
    refill(agent, games, replay, stopped)
    progress = Progress(agent, watch)

    while agent.step < config.steps and not stopped():
        if agent.passed(config.checkpoint_every) and agent.run.saved_step != agent.step:
            conclude(agent, watch)
        if watch is not None:
            watch(agent.step)

        seen, first, actions = games.choose(agent.q_network, agent.epsilon, agent.rng)
        games.env.send(actions)  # the emulators play on a thread of their own while the network learns
        for _ in range(agent.updates_due(replay)):
            progress.learnt(agent.learner.update(replay.sample(config.batch, agent.rng)))
        played = games.receive()
        replay.add(seen, first, actions, played)
        agent.step += config.envs

        if agent.passed(config.target_every):
            agent.learner.copy_to_target()
        progress.stepped(played.returns)

    progress.close()
    agent.save() if stopped() else conclude(agent, watch)


def conclude(agent: Agent, watch: Any) -> None:
    """Evaluate, tell the monitor, save; the last time, the monitor gives its last checkpoint."""
    agent.returns = agent.evaluate()
    agent.run.log(agent.step, eval_return=agent.returns)
    if watch is not None:
        watch.returns(agent.step, agent.returns)
    agent.save()
    if watch is not None and agent.step >= agent.config.steps:
        watch.finish(agent.step)


def command_line() -> argparse.ArgumentParser:
    """The program's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = f"go on with a run; its replay is not saved: up to {REFILL:,} steps are played first, without learning"
    parser.add_argument("--resume", type=Path, metavar="RUN", help=told)
    add_watch_options(parser)
    add_options(parser, Config)
    return parser


def prepared(options: dict[str, Any]) -> tuple[Agent, rlwatch.Watch | None]:
    """The agent that the options ask for, new or resumed, and its monitor; no folder is made for a wrong probe.

    Raises: OSError, ValueError when an option is wrong.
    """
    folder, without, probe = (options.pop(name) for name in ("resume", "no_watch", "probe"))
    settings = {name: options.pop(f"watch_{name}") for name in ("budget", "where")}
    game = read_resume(folder)["config"]["game"] if folder else derived(Config(**options)).game
    probe = None if without else probe_of(probe, game)
    agent = Agent.resumed(folder, options) if folder else Agent(derived(Config(**options)))
    return agent, None if probe is None else watched(agent, probe, **settings)


def watched(agent: Agent, probe: rlwatch.Probe, **settings: Any) -> rlwatch.Watch:
    """The monitor on the agent's network; a resumed run goes on with what it found before.

    Raises: what Watch raises.
    """
    goes_on_from = agent.step + 1 if agent.step else None
    writer, steps = agent.run.writer, agent.config.steps
    return rlwatch.Watch(agent.q_network, probe, writer=writer, total_steps=steps, purge_step=goes_on_from, **settings)


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 when the run is finished, 2 when an option is wrong, 128 + the signal when it was stopped."""
    escape_missing_letters()
    parser = command_line()
    options = vars(parser.parse_args(arguments))
    with stop_signals() as stopped:
        try:
            agent, watch = prepared(options)
        except (OSError, ValueError) as problem:
            parser.exit(2, f"error: {problem}\n")
        config, memory = agent.config, agent.config.replay * 84 * 84 / 1e6
        print(f"{config.game} in {agent.run.folder}: {config.steps:,} steps, a replay of up to {memory:,.0f} MB")
        train(agent, watch, stopped)
        if watch is not None:
            watch.close()
        agent.run.close()
        tell(agent, watch, stopped())
        return 128 + stopped() if stopped() else 0


if __name__ == "__main__":
    sys.exit(main())
