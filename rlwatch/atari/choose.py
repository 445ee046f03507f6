"""The choice of a probe from a recording: few stretches of play that show as much as possible of what there is."""

from collections import Counter

import numpy as np
from jaxtyping import Float, Int

from rlwatch.atari import objects
from rlwatch.atari.probe import Probe
from rlwatch.atari.recording import EPISODES, Policy, Recording, record
from rlwatch.atari.screen import SKIP

STEPS = 20_000
"""Agent steps that are played for a probe: in Breakout some twenty episodes, several of them up to the tunnel."""


def record_probe(
    game: str,
    *,
    policy: str | Policy = "scripted",
    steps: int | None = None,
    seed: int = 0,
    repeat_action_probability: float = 0.0,
    segments: int = 16,
    length: int = 16,
) -> Probe:
    """A probe of a game that is played for it; the same arguments make the same probe.

    Raises: ValueError on an unknown game or policy, or when `steps` (default 20,000) are too few for the segments.
    """
    recording = record(
        game,
        policy,
        steps=STEPS if steps is None else steps,
        seed=seed,
        repeat_action_probability=repeat_action_probability,
    )
    return choose(recording, segments=segments, length=length, generator=np.random.default_rng(seed))


def choose(recording: Recording, *, generator: np.random.Generator, segments: int = 16, length: int = 16) -> Probe:
    """`segments` stretches of `length` consecutive steps, which together show each situation as evenly as may be.

    Greedy: each time the stretch that adds most of what was shown least. An episode gives at most an eighth of the
    segments, so that they come from eight or more. They stand in the order of their steps in the game.

    Raises: ValueError when the recording has too few such stretches.
    """
    situations = _situations(recording)
    starts = _candidates(recording, length)
    starts = generator.permutation(starts)
    chosen = _greedy(_shares(situations, starts, length), starts, recording.episode[starts], segments, length)
    chosen = chosen[np.argsort(recording.step[chosen], kind="stable")]
    stages = [situations["stage"][start : start + length] for start in chosen]
    words = tuple(str(Counter(stage).most_common(1)[0][0]) for stage in stages)
    return probe_of(recording, chosen, length, words)


def _situations(recording: Recording) -> dict[str, np.ndarray]:
    """Words for what goes on at each step, by aspect; time and success for a game that nobody has mapped."""
    mapped = objects.find(recording.game)
    if mapped is not None:
        return mapped.situations(recording.ram[:, -1])
    third = np.quantile(recording.step, (1 / 3, 2 / 3))
    quarters = np.quantile(recording.score, (0.25, 0.5, 0.75))
    return {
        "stage": np.array(["early", "mid", "late"])[np.digitize(recording.step, third)],
        "score": np.digitize(recording.score, quarters).astype(str),
        "lives": recording.lives.astype(str),
        "reward": np.sign(recording.reward).astype(str),
    }


def _candidates(recording: Recording, length: int) -> Int[np.ndarray, " start"]:
    """The steps at which a stretch may begin: every fourth of those that have enough of their episode before them."""
    starts = np.arange(0, len(recording) - length + 1, SKIP)
    whole: Int[np.ndarray, " start"] = starts[recording.episode[starts] == recording.episode[starts + length - 1]]
    return whole


def _greedy(
    shares: Float[np.ndarray, "start word"],
    starts: Int[np.ndarray, " start"],
    episodes: Int[np.ndarray, " start"],
    segments: int,
    length: int,
) -> Int[np.ndarray, " segment"]:
    """The starts of the segments that are chosen, in that order."""
    most = -(-segments // EPISODES)
    shown = np.zeros(shares.shape[1])
    free = np.ones(len(starts), bool)
    chosen: list[int] = []
    while free.any() and len(chosen) < segments:
        best = int(np.where(free, (shares / (0.5 + shown)).sum(axis=1), -1.0).argmax())
        chosen.append(best)
        shown += shares[best]
        free &= np.abs(starts - starts[best]) >= 2 * length
        if (episodes[chosen] == episodes[best]).sum() == most:
            free &= episodes != episodes[best]
    if len(chosen) < segments:
        raise ValueError(
            f"expected {segments} stretches of {length} steps, {most} an episode at most, got {len(chosen)}: "
            f"record more steps (--steps, else {STEPS:,})"
        )
    return starts[chosen]


def _shares(situations: dict[str, np.ndarray], starts: np.ndarray, length: int) -> np.ndarray:
    """For each stretch, in which part of its steps each word of each aspect holds; "" is no word."""
    window = starts[:, None] + np.arange(length)
    columns = [
        (words[window] == word).mean(axis=1) for words in situations.values() for word in np.unique(words) if word
    ]
    return np.stack(columns, axis=1)


def probe_of(recording: Recording, starts: Int[np.ndarray, " segment"], length: int, words: tuple[str, ...]) -> Probe:
    """The probe of the stretches of `length` steps that begin at `starts`, with a word for each."""
    steps = (starts[:, None] + np.arange(length)).ravel()
    frames, stack = np.unique(recording.stacks(steps), return_inverse=True)
    states = recording.states(frames)
    longest = max(map(len, states))
    return Probe(
        game=recording.game,
        actions=recording.actions,
        situations=words,
        metadata=recording.metadata,
        palette=recording.palette,
        background=recording.background(),
        screens=recording.screens(frames),
        ram=recording.ram[frames],
        states=np.stack([np.frombuffer(state.ljust(longest, b"\0"), np.uint8) for state in states]),
        led_by=recording.led_by[frames],
        held=recording.held[frames],
        stack=stack.reshape(len(steps), -1),
        episode=recording.episode[steps],
        step=recording.step[steps],
        segment=np.repeat(np.arange(len(starts)), length),
        lives=recording.lives[steps],
        action=recording.action[steps],
        reward=recording.reward[steps],
        score=recording.score[steps],
    )
