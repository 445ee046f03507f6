"""Played episodes with everything that a probe can be made of."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlwatch.atari.console import Console, Sight
from rlwatch.atari.players import PLAYERS, Player
from rlwatch.atari.screen import SKIP, STACK, WIDTH, commonest, pictures, stacks

Policy = Callable[[UInt8[np.ndarray, "stack 84 84"]], int]
"""From what an agent sees to the number of its action in the game's minimal action set."""

EPISODES = 8
"""Episodes that a recording has at least, unless it is told where to cut them off."""

_Decide = Callable[[list[Sight]], int]
"""The same, from the four last sights, oldest first."""


class Deflated(NamedTuple):
    """Screens and emulator's state of one step, deflated."""

    screens: bytes
    state: bytes


@dataclass(frozen=True)
class Recording:
    """What an agent saw at each of its steps, and what it takes to come back there.

    `palette`: red, green, blue and grey of every colour index that was shown. `ram`: the memory after the last three
    raw frames; the last two belong to the two screens. `action` was chosen upon that sight and earned `reward`; `score`
    is the return before. `led_by` is the emulator's number of the action that led here, held for `held` raw frames from
    the emulator's state. Screens and states are kept deflated: see `nbytes`.
    """

    game: str
    actions: tuple[str, ...]
    metadata: dict[str, str]
    palette: UInt8[np.ndarray, "256 4"]
    lines: int
    ram: UInt8[np.ndarray, "step 3 128"]
    episode: Int[np.ndarray, " step"]
    step: Int[np.ndarray, " step"]
    lives: Int[np.ndarray, " step"]
    score: Float[np.ndarray, " step"]
    action: Int[np.ndarray, " step"]
    reward: Float[np.ndarray, " step"]
    led_by: Int[np.ndarray, " step"]
    held: Int[np.ndarray, " step"]
    deflated: tuple[Deflated, ...]
    dictionary: bytes

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes, but for the overhead of Python's objects; 2 kB a step in Breakout."""
        return self.ram.nbytes + sum(len(one.screens) + len(one.state) for one in self.deflated)

    def screens(self, steps: Int[np.ndarray, " some"]) -> UInt8[np.ndarray, "some 2 y x"]:
        """The two raw screens, as palette indices, that each step's picture is pooled from."""
        inflated = b"".join(zlib.decompress(self.deflated[step].screens) for step in steps)
        return np.frombuffer(inflated, np.uint8).reshape(len(steps), 2, self.lines, WIDTH)

    def states(self, steps: Int[np.ndarray, " some"]) -> list[bytes]:
        """The emulator's serialised states from which `led_by`, held for `held` raw frames, leads to the screens."""
        return [zlib.decompressobj(zdict=self.dictionary).decompress(self.deflated[step].state) for step in steps]

    def stacks(self, steps: Int[np.ndarray, " some"]) -> Int[np.ndarray, "some stack"]:
        """The steps whose pictures an agent saw at each of `steps`, oldest first, never of the episode before."""
        return stacks(steps, steps - self.step[steps])

    def background(self, *, sample: int = 512) -> UInt8[np.ndarray, "y x"]:
        """The commonest colour index of each pixel, over `sample` steps spread evenly."""
        return commonest(self.screens(np.unique(np.linspace(0, len(self) - 1, sample).astype(int)))[:, 1])


def record(
    game: str,
    policy: str | Policy = "scripted",
    *,
    steps: int,
    seed: int,
    repeat_action_probability: float = 0.0,
    noops: int = 30,
    episode_steps: int | None = None,
) -> Recording:
    """`steps` agent steps of play, episode after episode up to game over.

    `policy`: "random"; "scripted", which is the game's scripted player, and random where there is none; or a callable.
    A game with a fire button gets it pressed at an episode's start and after each lost life. `noops`: an episode begins
    with 1 to so many idle raw frames. `episode_steps`: where an episode is cut off (default: after an eighth of
    `steps`, so that there are eight at least). The same seed plays the same.

    Raises: ValueError on an unknown game or policy, or settings out of range.
    """
    _check(policy, steps, noops, repeat_action_probability)
    generator = np.random.default_rng(seed)
    console = Console(game, seed=int(generator.integers(2**31)), repeat_action_probability=repeat_action_probability)
    who, decider = _decider(policy, console, generator)
    longest = episode_steps or -(-steps // EPISODES)
    episodes = (
        islice(_episode(console, decider(), console.reset(int(generator.integers(1, noops + 1))), episode), longest)
        for episode in count()
    )
    metadata = {
        "policy": who,
        "seed": str(seed),
        "steps": str(steps),
        "repeat_action_probability": str(repeat_action_probability),
        "ale_py": version("ale-py"),
        "rom_md5": console.rom_md5,
    }
    return _gather(islice(chain.from_iterable(episodes), steps), console, metadata)


class _Moment(NamedTuple):
    """One agent step: what was seen, and what was done upon it."""

    sight: Sight
    episode: int
    step: int
    score: float
    action: int
    reward: float


def _episode(console: Console, decide: _Decide, sight: Sight, episode: int) -> Iterator[_Moment]:
    """The moments of one episode from its first sight on, each as soon as its reward is known."""
    fire = console.actions.index("FIRE") if "FIRE" in console.actions else None
    score, lives, stack = 0.0, sight.lives + 1, [sight] * STACK
    for step in count():
        if sight.over:
            return
        action = fire if fire is not None and sight.lives < lives else decide(stack)
        after = console.advance(console.number(action), SKIP)
        yield _Moment(sight, episode, step, score, action, after.reward)
        score, lives, sight = score + after.reward, sight.lives, after
        stack = [*stack[1:], sight]


def _decider(
    policy: str | Policy, console: Console, generator: np.random.Generator
) -> tuple[str, Callable[[], _Decide]]:
    """The name of who plays, and what makes, for each episode, the one who chooses the actions."""
    if callable(policy):
        return getattr(policy, "__name__", "callable"), lambda: lambda stack: _seen(policy, console, stack)
    if policy == "scripted" and console.game in PLAYERS:
        return "scripted", lambda: _scripted(PLAYERS[console.game](generator), console)
    return "random", lambda: lambda _: int(generator.integers(len(console.actions)))


def _seen(policy: Policy, console: Console, stack: list[Sight]) -> int:
    """The action of a policy that sees what an agent sees."""
    action = int(policy(pictures(np.stack([sight.screens for sight in stack]), console.palette)))
    if not 0 <= action < len(console.actions):
        raise ValueError(
            f"policy must choose an action from 0 to {len(console.actions) - 1} "
            f"({', '.join(console.actions)}), got {action}: let it number the minimal action set"
        )
    return action


def _scripted(player: Player, console: Console) -> _Decide:
    return lambda stack: console.actions.index(player(stack[-1].ram[-1]))


def _gather(moments: Iterator[_Moment], console: Console, metadata: dict[str, str]) -> Recording:
    """The recording of some moments; what is large is deflated as it comes."""
    rows, deflated, dictionary, lines = [], [], b"", 0
    for moment in moments:
        sight = moment.sight
        dictionary, lines = dictionary or sight.state, sight.screens.shape[1]
        deflated.append(_deflate(sight, dictionary))
        rows.append(moment._replace(sight=sight._replace(screens=sight.screens[:, :0], state=b"")))
    return Recording(
        game=console.game,
        actions=console.actions,
        metadata=metadata,
        palette=console.palette,
        lines=lines,
        ram=np.array([row.sight.ram for row in rows]),
        episode=np.array([row.episode for row in rows]),
        step=np.array([row.step for row in rows]),
        lives=np.array([row.sight.lives for row in rows]),
        score=np.array([row.score for row in rows]),
        action=np.array([row.action for row in rows]),
        reward=np.array([row.reward for row in rows]),
        led_by=np.array([row.sight.action for row in rows]),
        held=np.array([row.sight.held for row in rows]),
        deflated=tuple(deflated),
        dictionary=dictionary,
    )


def _deflate(sight: Sight, dictionary: bytes) -> Deflated:
    """Screens and state, small: a state differs from the recording's first in few places."""
    press = zlib.compressobj(level=1, zdict=dictionary)
    return Deflated(zlib.compress(sight.screens.tobytes(), 1), press.compress(sight.state) + press.flush())


def _check(policy: str | Policy, steps: int, noops: int, repeat_action_probability: float) -> None:
    if isinstance(policy, str) and policy not in {"scripted", "random"}:
        raise ValueError(f"expected the policy scripted, random or a callable, got {policy!r}")
    if steps < 1 or noops < 1:
        raise ValueError(f"steps and noops must be at least 1, got {steps} and {noops}")
    if not 0 <= repeat_action_probability < 1:
        raise ValueError(
            f"repeat_action_probability must lie in [0, 1), got {repeat_action_probability}: 0.25 is usual"
        )
