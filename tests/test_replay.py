"""The replay gives back what was played."""

import numpy as np
import pytest

from agents.games import Games
from agents.replay import Replay
from tests.fixtures.agents import Streams, no_preference, played


def seen_in(batch):
    pixels = batch.frames.flatten(2)[:, :, :2].int()
    numbers = (pixels[..., 0] * 256 + pixels[..., 1]).tolist()
    rest = zip(batch.actions.tolist(), batch.rewards.tolist(), batch.done.tolist(), strict=True)
    return {(tuple(five[:4]), tuple(five[1:]), *each) for five, each in zip(numbers, rest, strict=True)}


@pytest.mark.parametrize(("games", "steps"), [(1, 9), (3, 12), (3, 16), (3, 61), (2, 40)])
def test_replay_draws_exactly_the_transitions_that_a_list_of_whole_stacks_holds(games, steps):
    streams, replay = Streams(games, np.random.default_rng(steps)), Replay(16 * games, games)
    for _ in range(steps):
        streams.step(replay)
    full = steps >= 16
    expected = set(streams.transitions(steps - 16 + 3 if full else 0))
    assert seen_in(replay.sample(3000, np.random.default_rng(0))) == expected


@pytest.mark.real
def test_replay_gives_back_the_stacks_that_real_games_showed_across_their_ends():
    games, replay, rng = Games("breakout", 3, 0, threads=1), Replay(3 * 400, 3), np.random.default_rng(0)
    shown, ended = {}, 0
    for _ in range(380):
        stacks = games.stacks.copy()
        seen, first, actions = games.choose(no_preference, 1.0, rng)
        games.env.send(actions)
        came = games.receive()
        replay.add(seen, first, actions, came)
        ended += len(came.returns)
        for game in range(3):
            whole = np.concatenate([stacks[game], games.stacks[game, -1:]]).tobytes()
            shown[whole, int(actions[game]), float(came.reward[game]), float(came.done[game])] = bool(games.first[game])
    assert ended >= 3
    for _ in range(20):
        batch = replay.sample(100, rng)
        for five, *rest in zip(*(column.numpy() for column in batch), strict=True):
            assert shown[(five.tobytes(), *(each.item() for each in rest))] is False


def test_a_replay_says_nothing_about_a_game_before_it_began():
    replay = Replay(64, 1)
    for number in range(1, 9):
        frame = np.full((1, 84, 84), number, np.uint8)
        replay.add(frame, np.array([number in {1, 5}]), np.zeros(1, int), played([0], [False]))
    found = {tuple(five) for five in replay.sample(200, np.random.default_rng(0)).frames[:, :, 0, 0].tolist()}
    assert found == {
        (0, 0, 0, 1, 2),
        (0, 0, 1, 2, 3),
        (0, 1, 2, 3, 4),
        (0, 0, 0, 5, 6),
        (0, 0, 5, 6, 7),
        (0, 5, 6, 7, 8),
    }
