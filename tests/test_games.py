"""Games side by side are played and counted as gymnasium does it."""

import gymnasium
import numpy as np
import pytest
from ale_py import AtariEnv

from agents.games import Games
from tests.fixtures.agents import no_preference


def gymnasium_plays(game, no_ops, actions):
    """Frames and rewards of gymnasium's own preprocessing, begun as ALE's vector environment begins a game."""
    raw = AtariEnv(game, frameskip=1, repeat_action_probability=0.0)
    env = gymnasium.wrappers.AtariPreprocessing(raw, noop_max=0, frame_skip=4)
    env.reset(seed=0)
    meanings = raw.get_action_meanings()
    for action in [*([meanings.index("FIRE")] if "FIRE" in meanings else []), *[0] * no_ops]:
        raw.step(action)
    for action in actions:
        yield env.step(int(action))[:2]


@pytest.mark.real
@pytest.mark.parametrize("game", ["breakout", "ms_pacman"])
def test_frames_and_scores_are_those_of_gymnasiums_preprocessing(game):
    games = Games(game, 1, seed=3, threads=1)
    actions = np.random.default_rng(0).integers(len(games.meanings), size=150)
    frames, scores = [], []
    for action in actions:
        games.env.send(np.array([action]))
        games.receive()
        frames.append(games.stacks[0, -1].copy())
        scores.append(games.score[0])
    assert not games.over[0]
    assert scores[-1] > 0

    def agrees(no_ops):
        theirs = gymnasium_plays(game, no_ops, actions[:20])
        return all(np.array_equal(frame, ours) for (frame, _), ours in zip(theirs, frames[:20], strict=True))

    no_ops = next(count for count in range(30) if agrees(count))
    their_frames, their_rewards = zip(*gymnasium_plays(game, no_ops, actions), strict=True)
    np.testing.assert_array_equal(frames, their_frames)
    np.testing.assert_array_equal(scores, np.cumsum(their_rewards))


@pytest.mark.real
def test_losing_a_life_ends_an_episode_but_not_the_game_and_fire_follows():
    games, rng, lives = Games("breakout", 1, seed=0, threads=1), np.random.default_rng(0), []
    while not games.over[0]:
        actions = games.choose(no_preference, 1.0, rng)[2]
        fired = games.lost[0]
        assert not fired or games.meanings[actions[0]] == "FIRE"
        games.env.send(actions)
        came = games.receive()
        if came.done[0]:
            lives.append((int(games.lives[0]), bool(games.over[0])))
            assert not games.first[0]
    assert lives == [(4, False), (3, False), (2, False), (1, False), (0, True)]
    assert list(came.returns) == [0]
