import ale_py
import cv2
import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from rlwatch.atari import screen
from rlwatch.atari.console import Console
from rlwatch.atari.recording import record
from rlwatch.atari.screen import Box

gymnasium.register_envs(ale_py)


def gymnasium_env(game):
    env = gymnasium.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=0.0)
    return FrameStackObservation(AtariPreprocessing(env, noop_max=1), 4)


def changed(box, lines):
    whole = np.zeros((lines, 160), np.uint8)
    whole[box.y : box.y + box.h, box.x : box.x + box.w] = 255
    return cv2.resize(whole, (84, 84), interpolation=cv2.INTER_AREA) > 0


@pytest.mark.real
@pytest.mark.parametrize("game", ["Breakout", "Pong", "MsPacman", "Seaquest", "JourneyEscape"])
def test_pictures_and_stacks_are_gymnasiums_bit_for_bit(game):
    recording = record(game, "random", steps=240, seed=5, noops=1)
    steps = np.arange(len(recording))
    seen = screen.pictures(recording.screens(steps), recording.palette)[recording.stacks(steps)]
    env = gymnasium_env(game)
    for step in steps:
        if recording.step[step] == 0:
            observation, _ = env.reset()
        np.testing.assert_array_equal(seen[step], observation)
        observation, reward, *_ = env.step(recording.action[step])
        assert reward == recording.reward[step]


@pytest.mark.real
@pytest.mark.parametrize("game", ["breakout", "pong", "seaquest", "air_raid", "laser_gates", "pooyan"])
def test_colours_and_greys_are_the_emulators_own(game):
    console = Console(game, seed=0, repeat_action_probability=0.0)
    console.reset(5)
    generator = np.random.default_rng(0)
    for _ in range(60):
        shown = console.advance(console.number(int(generator.integers(len(console.actions)))), 4).screens[1]
        np.testing.assert_array_equal(screen.rgb(shown, console.palette), console._ale.getScreenRGB())
        np.testing.assert_array_equal(screen.grey(shown, console.palette), console._ale.getScreenGrayscale())


def test_pooling_takes_the_brighter_of_both_raw_frames_in_each_channel():
    palette = np.zeros((256, 4), np.uint8)
    palette[1], palette[2] = (200, 10, 0, 60), (10, 200, 0, 120)
    screens = np.array([[[[1] * 160] * 210, [[2] * 160] * 210]], np.uint8)
    assert (screen.pooled_rgb(screens, palette) == (200, 200, 0)).all()
    assert (screen.pictures(screens, palette) == 120).all()


@pytest.mark.parametrize("lines", [210, 214, 250])
def test_an_undilated_mask_holds_each_pixel_that_a_box_changes_in_the_resized_picture(lines):
    generator = np.random.default_rng(0)
    for _ in range(300):
        x, y = int(generator.integers(160)), int(generator.integers(lines))
        box = Box(x, y, int(generator.integers(1, 161 - x)), int(generator.integers(1, lines + 1 - y)))
        assert (screen.mask([box], lines, dilation=0) >= changed(box, lines)).all()


@pytest.mark.parametrize("lines", [210, 214, 250])
def test_an_undilated_mask_holds_no_row_and_no_column_that_its_box_leaves_unchanged(lines):
    boxes = [*(Box(0, y, 160, 1) for y in range(lines)), *(Box(x, 0, 1, lines) for x in range(160))]
    for box in boxes:
        np.testing.assert_array_equal(screen.mask([box], lines, dilation=0), changed(box, lines))


@pytest.mark.parametrize("dilation", [1, 2])
def test_dilation_grows_a_mask_by_so_many_pixels_on_each_side(dilation):
    boxes = [Box(0, 0, 3, 4), Box(70, 100, 2, 4), Box(150, 200, 10, 10)]
    grown = cv2.dilate(screen.mask(boxes, 210, dilation=0).astype(np.uint8), np.ones((3, 3)), iterations=dilation)
    np.testing.assert_array_equal(screen.mask(boxes, 210, dilation=dilation), grown > 0)


def test_a_box_beyond_the_screen_has_no_pixel_and_one_across_its_edge_is_cut():
    assert not screen.mask([Box(160, 0, 4, 4), Box(-9, 5, 9, 9), Box(0, 210, 4, 4)], 210).any()
    np.testing.assert_array_equal(screen.mask([Box(-5, -5, 10, 10)], 210), screen.mask([Box(0, 0, 5, 5)], 210))


def test_a_stack_repeats_the_first_picture_of_an_episode_and_never_reaches_beyond_it():
    stacks = screen.stacks(np.array([7, 8, 12]), np.array([7, 7, 7]))
    np.testing.assert_array_equal(stacks, [[7, 7, 7, 7], [7, 7, 7, 8], [9, 10, 11, 12]])
