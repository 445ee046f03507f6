"""Loops in the manner of CleanRL on Breakout, watched by their one line."""

import pytest

from tests.frameworks import cleanrl_style
from tests.frameworks.events import check_run, small


@pytest.mark.parametrize("name", cleanrl_style.OFF_POLICY)
def test_a_loop_with_a_replay_is_watched(tmp_path, name):
    cleanrl_style.train_off_policy(name, tmp_path, 400, probe=small("breakout"), every=150)
    assert check_run(tmp_path, last=400) == [0, 150, 300, 400]


def test_a_loop_over_several_games_without_a_replay_is_watched(tmp_path):
    cleanrl_style.train_pqn(tmp_path, 384, probe=small("breakout"), every=150)
    assert check_run(tmp_path, last=384) == [0, 160, 320, 384]
