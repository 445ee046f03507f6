import numpy as np
import pytest
from ale_py import ALEState

from rlwatch.atari.console import Console, short_name
from rlwatch.atari.recording import record
from rlwatch.atari.screen import pictures


@pytest.fixture(scope="module")
def breakout():
    return record("breakout", steps=1200, seed=0)


@pytest.mark.real
def test_the_same_seed_plays_the_same_and_another_one_does_not():
    first, again, other = (record("breakout", steps=300, seed=seed) for seed in (1, 1, 2))
    assert first.deflated == again.deflated
    np.testing.assert_array_equal(first.ram, again.ram)
    np.testing.assert_array_equal(first.action, again.action)
    assert not np.array_equal(first.ram, other.ram)


@pytest.mark.real
@pytest.mark.parametrize("repeat_action_probability", [0.0, 0.25])
def test_a_kept_state_leads_to_the_screens_and_the_memory_that_were_recorded(repeat_action_probability):
    recording = record("breakout", steps=120, seed=3, repeat_action_probability=repeat_action_probability)
    console = Console("breakout", seed=99, repeat_action_probability=repeat_action_probability)
    steps = np.arange(len(recording))
    for step, state, screens in zip(steps, recording.states(steps), recording.screens(steps), strict=True):
        console._ale.restoreState(ALEState(state))
        sight = console.advance(int(recording.led_by[step]), int(recording.held[step]))
        np.testing.assert_array_equal(sight.screens, screens)
        np.testing.assert_array_equal(sight.ram[-1], recording.ram[step, -1])


@pytest.mark.real
def test_the_last_two_memories_belong_to_the_two_screens(breakout):
    steps = np.flatnonzero(breakout.step > 0)[:200]
    console = Console("breakout", seed=0, repeat_action_probability=0.0)
    for step, state in zip(steps, breakout.states(steps), strict=True):
        console._ale.restoreState(ALEState(state))
        screens, rams = [], []
        for _ in range(4):
            console._ale.act(int(breakout.led_by[step]))
            screens.append(console._ale.getScreen())
            rams.append(console._ale.getRAM())
        np.testing.assert_array_equal(breakout.screens(np.array([step]))[0], screens[2:])
        np.testing.assert_array_equal(breakout.ram[step], rams[1:])


@pytest.mark.real
def test_episodes_run_to_game_over_or_to_where_they_are_cut_and_their_steps_count_on(breakout):
    starts = np.flatnonzero(breakout.step == 0)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(breakout.episode)) + 1, starts[1:])
    assert len(starts) >= 8
    assert breakout.step.max() == 149
    short = record("breakout", steps=100, seed=0, episode_steps=30)
    np.testing.assert_array_equal(np.bincount(short.episode), [30, 30, 30, 10])


@pytest.mark.real
def test_the_score_is_the_return_before_each_step(breakout):
    for episode in range(3):
        own = breakout.episode == episode
        np.testing.assert_array_equal(breakout.score[own], np.r_[0, np.cumsum(breakout.reward[own])[:-1]])
    assert breakout.reward.sum() > 0


@pytest.mark.real
def test_fire_is_pressed_at_the_start_and_after_each_lost_life_and_nowhere_else_by_a_policy_that_never_fires():
    recording = record("breakout", lambda _: 0, steps=300, seed=0, episode_steps=300)
    fire = recording.actions.index("FIRE")
    lost = np.flatnonzero(np.diff(recording.lives) < 0) + 1
    assert len(lost) >= 2
    expected = np.sort(np.r_[np.flatnonzero(recording.step == 0), lost])
    np.testing.assert_array_equal(np.flatnonzero(recording.action == fire), expected)


@pytest.mark.real
def test_a_policy_of_ones_own_sees_what_an_agent_sees():
    seen = []

    def policy(stack):
        seen.append(stack.copy())
        return len(seen) % 4

    recording = record("pong", policy, steps=60, seed=0)
    steps = np.arange(len(recording))
    expected = pictures(recording.screens(steps), recording.palette)[recording.stacks(steps)]
    np.testing.assert_array_equal(expected[recording.step > 0], seen)
    assert recording.metadata["policy"] == "policy"


@pytest.mark.real
def test_both_sides_score_when_the_scripted_player_plays_pong():
    recording = record("pong", steps=3000, seed=0)
    assert (recording.reward > 0).sum() >= 5
    assert (recording.reward < 0).sum() >= 5


@pytest.mark.real
def test_a_game_without_a_scripted_player_is_played_at_random_and_says_so():
    assert record("freeway", steps=8, seed=0).metadata["policy"] == "random"


@pytest.mark.real
def test_a_recording_takes_less_than_a_twentieth_of_its_raw_screens(breakout):
    assert 0 < breakout.nbytes < len(breakout) * 2 * 210 * 160 / 20


@pytest.mark.real
def test_the_background_is_the_commonest_colour_of_each_pixel(breakout):
    screens = breakout.screens(np.arange(len(breakout)))[:, 1]
    background = breakout.background(sample=len(breakout))
    for y, x in [(20, 80), (60, 40), (90, 100), (190, 80), (150, 4)]:
        assert background[y, x] == np.bincount(screens[:, y, x]).argmax()


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("breakout", "breakout"),
        ("ALE/Breakout-v5", "breakout"),
        ("BreakoutNoFrameskip-v4", "breakout"),
        ("ms_pacman", "ms_pacman"),
        ("MsPacman-ram-v0", "ms_pacman"),
        ("ALE/TicTacToe3D-v5", "tic_tac_toe_3d"),
    ],
)
def test_a_game_goes_by_its_short_name_and_by_its_environment_ids(name, short):
    assert short_name(name) == short


def test_an_unknown_game_is_refused_with_near_ones():
    with pytest.raises(ValueError, match="did you mean breakout"):
        record("brekout", steps=1, seed=0)


def test_a_game_whose_rom_the_emulator_refuses_is_refused():
    with pytest.raises(ValueError, match=r"combat.*take another"):
        record("combat", steps=1, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "clever"}, "scripted, random or a callable"),
        ({"steps": 0}, "at least 1, got 0"),
        ({"noops": 0}, "at least 1"),
        ({"repeat_action_probability": 1.0}, r"0\.25 is usual"),
    ],
)
def test_settings_that_make_no_recording_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        record("breakout", **{"steps": 1, "seed": 0, **settings})


@pytest.mark.real
def test_an_action_beyond_the_minimal_set_is_refused():
    with pytest.raises(ValueError, match=r"0 to 3 .*got 4: let it number the minimal action set"):
        record("breakout", lambda _: 4, steps=50, seed=0)
