"""Displays: what stands at the top or the foot of the screen and changes now and then."""

import numpy as np

from rlwatch.atari.displays import displays, written
from rlwatch.atari.foreground import Part
from rlwatch.atari.screen import Box

SCORE = np.arange(20) // 4 * 10.0


def part(screen, box):
    return Part(screen, box, np.ones((box.h, box.w), bool), np.zeros(3), stands=False)


def shown(at, colour):
    """Twenty screens with a patch whose colour is given for each."""
    screens = np.zeros((20, 210, 160), np.uint8)
    for screen, one in zip(screens, colour, strict=True):
        screen[at.y : at.y + at.h, at.x : at.x + at.w] = one
    return screens, [part(number, at) for number in range(20)]


def test_what_changes_with_the_score_is_the_score_and_what_changes_without_it_is_hud():
    plate = np.zeros((210, 160), np.uint8)
    score, clock = Box(20, 8, 12, 8), Box(100, 8, 12, 8)
    screens, signs = shown(score, SCORE.astype(int) + 50)
    ticking, more = shown(clock, 50 + np.arange(20) % 3)
    found = displays([*signs, *more], [], screens + ticking, plate, SCORE)
    assert found == {"score": (score,), "hud": (clock,)}


def test_in_the_middle_of_the_screen_there_is_no_display():
    screens, signs = shown(Box(20, 100, 12, 8), 50 + np.arange(20))
    assert displays(signs, [], screens, np.zeros((210, 160), np.uint8), SCORE) == {}


def test_a_line_that_things_move_through_holds_no_display():
    screens, signs = shown(Box(20, 8, 12, 8), 50 + np.arange(20))
    movers = [part(number, Box(60 + 4 * number, 10, 8, 8)) for number in range(20)]
    assert displays(signs, movers, screens, np.zeros((210, 160), np.uint8), SCORE) == {}


def test_a_display_takes_in_the_digits_that_never_changed_beside_it():
    plate = np.zeros((210, 160), np.uint8)
    plate[8:16, 35:43] = 50
    screens, signs = shown(Box(20, 8, 12, 8), np.where(np.arange(20) % 2, 50, 0))
    found = displays(signs, [], screens + plate, plate, np.full(20, np.nan))
    assert found == {"hud": (Box(20, 8, 23, 8),)}


def test_what_shifts_sideways_at_the_foot_is_no_display_and_a_bar_that_shrinks_is_one():
    at, plate, unknown = Box(20, 175, 60, 20), np.zeros((210, 160), np.uint8), np.full(20, np.nan)
    screens, signs = shown(at, np.zeros(20, int))
    screens[:, :, :18] = 90  # the edge of the playfield
    for number, screen in enumerate(screens):
        for floe in (25, 42, 59):
            screen[180:188, floe + number // 2 : floe + number // 2 + 8] = 50
    assert displays(signs, [], screens, plate, unknown) == {}
    screens[:, :, 18:] = 0
    for number, screen in enumerate(screens):
        screen[180:188, 25 : 75 - number] = 50
    assert displays(signs, [], screens, plate, unknown) == {"hud": (at,)}


def test_what_is_higher_than_the_strip_at_the_top_is_no_display():
    screens, signs = shown(Box(20, 166, 12, 40), 50 + np.arange(20) % 3)
    assert displays(signs, [], screens, np.zeros((210, 160), np.uint8), SCORE) == {}


def test_a_display_is_on_the_screens_on_which_something_is_written():
    at = Box(20, 8, 12, 8)
    screens, _ = shown(at, np.arange(20) % 2 * 50)
    assert written(at, screens).tolist() == [False, True] * 10
    screens[::2, 8:12, 20:24] = 90
    assert written(at, screens).all()
    screens[:, 8:16, 32:] = 50  # what it stands beside
    screens[:, 8:16, 20:32] = 0
    assert not written(at, screens).any()
