"""Nature DQN on any Atari game, in one file from top to bottom: options, games, network, replay, agent, loop.

    python -m agents.dqn --game breakout --steps 40000

A step is an agent step (4 emulator frames), counted over all games that are played side by side.
Departures from the paper: Adam for RMSProp; ε ends at 0.05; a lost life ends an episode and FIRE starts the next;
runs of less than a million steps learn faster and from more gradient steps, with schedules that shrink (see --help).
Source: Mnih et al. 2015, doi 10.1038/nature14236.
"""

import argparse
import copy
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that every PyTorch program uses
from ale_py.vector_env import AtariVectorEnv
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor, nn

import rlwatch
from agents.parts import (
    Display,
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
from rlwatch.atari.console import short_name

CHANGEABLE = ("steps", "checkpoint_every", "evaluation_games", "threads")  # by a resumed run
REFILL = 50_000
STACK = 4  # frames that the network sees
LONG = 1_000_000  # steps from which a run learns as in the paper
LARGEST_SEED = 1_000_000_000  # ALE's seeds have 31 bits; evaluation and resumed runs add to this one
EVALUATION_EPSILON, EVALUATION_SEED = 0.05, 1_000_000
AT_LEAST_ONE = ("steps", "envs", "batch", "evaluation_games", "evaluation_frames")
PARTS = ("sticky", "gamma", "epsilon_last")  # from 0 to 1


@dataclass(frozen=True)
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
    steps, game = config.steps, short_name(config.game)
    short = steps < LONG
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001  # no public name
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
    filled["precision"] = ("bf16" if native else "fp32") if config.precision == "auto" else config.precision
    return dataclasses.replace(config, game=game, **filled)


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

    def __init__(self, config: Config, count: int, seed: int, threads: int, most_frames: int = 108_000) -> None:
        self.env = AtariVectorEnv(
            config.game,
            count,
            reward_clipping=False,
            repeat_action_probability=config.sticky,
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


class QNetwork(nn.Module):
    """The network of Mnih et al. 2015; it takes uint8 stacks of four frames, oldest first."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(4, 32, 8, stride=4), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(64 * 7 * 7, 512), nn.ReLU()),
        )
        self.head = nn.Linear(512, actions)

    def forward(self, stacks: UInt8[Tensor, "batch stack y x"]) -> Float[Tensor, "batch actions"]:
        """Q-values in float32."""
        features: Tensor = self.features(stacks / 255)
        # Q-values of two actions often differ by less than bfloat16 can tell: the head stays in float32
        with torch.autocast("cpu", enabled=False):
            q_values: Tensor = self.head(features.float())
        return q_values


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

    def add(self, frames: np.ndarray, first: np.ndarray, actions: np.ndarray, played: Played) -> None:
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


def td_loss(
    network: Callable[[Tensor], Tensor], target_network: Callable[[Tensor], Tensor], batch: Batch, gamma: float
) -> tuple[Tensor, Tensor]:
    """Huber loss of the one-step temporal difference, and the mean Q-value of the actions taken."""
    with torch.no_grad():
        future = target_network(batch.frames[:, 1:]).amax(1)
        goal = batch.rewards + gamma * (1 - batch.done) * future
    taken = network(batch.frames[:, :4]).gather(1, batch.actions[:, None]).squeeze(1)
    return F.smooth_l1_loss(taken, goal), taken.detach().mean()


class Agent:
    """All that a run is besides the games being played: networks, optimiser, generator, step, and the run's folder.

    Raises: what Run raises.
    """

    def __init__(self, config: Config, step: int = 0) -> None:
        self.config, self.step, self.returns = config, step, float("nan")
        self.run = Run(config.logdir, step)
        self.run.describe(config, ["eval/return", "rlwatch/lift/greedy/ball"])
        torch.set_num_threads(1)  # the threads share out batches, see `learn`
        self.pool = ThreadPoolExecutor(config.threads, initializer=torch.set_num_threads, initargs=(1,))
        torch.manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.meanings = Games(config, 1, config.seed, threads=1).meanings
        self.q_network = QNetwork(len(self.meanings))
        self.target_network = copy.deepcopy(self.q_network)
        self.optimizer = torch.optim.Adam(self.q_network.parameters(), lr=config.learning_rate, fused=True)

    @property
    def epsilon(self) -> float:
        """The part of actions that are random: 1 at first, `epsilon_last` from `epsilon_steps` on."""
        return 1 - (1 - self.config.epsilon_last) * min(self.step / self.config.epsilon_steps, 1)

    def passed(self, every: int) -> bool:
        """Whether a multiple of `every` lies in the newest step of all games; true at step 0."""
        return self.step // every != (self.step - self.config.envs) // every

    def learn(self, replay: Replay) -> Tensor:
        """The loss and the mean Q-value of a batch before the gradient step on it.

        Each thread takes a share of the batch from end to end. PyTorch's own threads meet at every operator instead:
        on two idle cores that is no faster, and on busy ones up to forty times slower.
        """
        batch = replay.sample(self.config.batch, self.rng)
        first, *others = (Batch(*share) for share in zip(*(x.chunk(self.config.threads) for x in batch), strict=True))
        waiting = [self.pool.submit(self.gradients, share) for share in others]
        parts = [self.gradients(first), *(each.result() for each in waiting)]
        for parameter, *gradients in zip(self.q_network.parameters(), *(part[1:] for part in parts), strict=True):
            for gradient in gradients[1:]:
                gradients[0].add_(gradient)
            parameter.grad = gradients[0]
        self.optimizer.step()
        return torch.stack([part[0] for part in parts]).sum(0)

    def gradients(self, share: Batch) -> tuple[Tensor, ...]:
        """The share's part of (loss, mean Q-value) and of each parameter's gradient."""
        part = len(share.actions) / self.config.batch
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss, q_value = td_loss(self.q_network, self.target_network, share, self.config.gamma)
        gradients = torch.autograd.grad(part * loss, list(self.q_network.parameters()))
        return part * torch.stack([loss.detach(), q_value]), *gradients

    def evaluate(self) -> float:
        """Mean return of whole games at ε = 0.05, the same starts every time; nothing that training uses is touched."""
        config, rng, returns = self.config, np.random.default_rng((self.config.seed, self.step)), dict[int, float]()
        seed, count = config.seed + EVALUATION_SEED, config.evaluation_games
        games = Games(config, count, seed, threads=config.threads, most_frames=config.evaluation_frames)
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
            "target": self.target_network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
        agent.target_network.load_state_dict(saved["target"])
        agent.optimizer.load_state_dict(saved["optimizer"])
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
    config, run = agent.config, agent.run
    games, replay = Games(config, config.envs, config.seed + agent.step, threads=1), Replay(config.replay, config.envs)
    refill(agent, games, replay, stopped)
    display, losses, clock = Display(agent.step, config.steps), list[Tensor](), (agent.step, time.perf_counter())

    while agent.step < config.steps and not stopped():
        if agent.passed(config.checkpoint_every) and run.saved_step != agent.step:
            conclude(agent, watch)
        if watch is not None:
            watch(agent.step)

        seen, first, actions = games.choose(agent.q_network, agent.epsilon, agent.rng)
        games.env.send(actions)  # the emulators play on a thread of their own while the network learns
        if agent.step >= config.learning_starts and replay.size > STACK:
            for _ in range((agent.step + config.envs) // config.train_every - agent.step // config.train_every):
                losses.append(agent.learn(replay))
        played = games.receive()
        replay.add(seen, first, actions, played)
        agent.step += config.envs

        if agent.passed(config.target_every):
            agent.target_network.load_state_dict(agent.q_network.state_dict())
        if played.returns:
            run.log(agent.step, train_return=float(np.mean(list(played.returns.values()))))
        if losses and agent.passed(max(config.steps // 400, 1)):
            (loss, q), epsilon = torch.stack(losses).mean(0).tolist(), agent.epsilon
            speed = (agent.step - clock[0]) / (time.perf_counter() - clock[1])
            run.log(agent.step, train_loss=loss, train_q=q, train_epsilon=epsilon, train_steps_per_second=speed)
            facts = {"steps/s": speed, "return": agent.returns, "ε": epsilon, "loss": loss}
            display.update(agent.step, watch.finding if watch is not None else "", **facts)
            losses, clock = [], (agent.step, time.perf_counter())

    display.close()
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


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 when the run is finished, 2 when an option is wrong, 128 + the signal when it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = f"go on with a run; its replay is not saved: up to {REFILL:,} steps are played first, without learning"
    parser.add_argument("--resume", type=Path, metavar="RUN", help=told)
    add_watch_options(parser)
    add_options(parser, Config)
    options = vars(parser.parse_args(arguments))
    folder, without, probe = (options.pop(name) for name in ("resume", "no_watch", "probe"))
    settings = {name: options.pop(f"watch_{name}") for name in ("budget", "where")}
    with stop_signals() as stopped:
        try:
            game = read_resume(folder)["config"]["game"] if folder else derived(Config(**options)).game
            probe = None if without else probe_of(probe, game)
            agent = Agent.resumed(folder, options) if folder else Agent(derived(Config(**options)))
            watch = None if probe is None else watched(agent, probe, **settings)
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


def watched(agent: Agent, probe: rlwatch.Probe, **settings: Any) -> rlwatch.Watch:
    """The monitor on the agent's network; a resumed run goes on with what it found before.

    Raises: what Watch raises.
    """
    goes_on_from = agent.step + 1 if agent.step else None
    writer, steps = agent.run.writer, agent.config.steps
    return rlwatch.Watch(agent.q_network, probe, writer=writer, total_steps=steps, purge_step=goes_on_from, **settings)


if __name__ == "__main__":
    sys.exit(main())
