"""Ghosts: a background that holds what is not there."""

import numpy as np
import pytest

from rlwatch.atari.ghosts import bared, ghosts


def square(colour, at=10, side=8, on=0):
    picture = np.full((60, 60), on, np.uint8)
    picture[at : at + side, at : at + side] = colour
    return picture


def numbered(*places, side=8):
    labels = np.zeros((60, 60), int)
    for number, at in enumerate(places, 1):
        labels[at : at + side, at : at + side] = number
    return labels


def test_the_place_that_a_thing_of_the_plate_left_is_a_ghost_and_the_thing_where_it_went_is_none():
    screen, plate = square(70, at=30), square(70, at=10)
    assert ghosts(numbered(10, 30), screen, plate).tolist() == [False, True, False]


def test_a_thing_that_covers_another_is_no_ghost():
    assert not ghosts(numbered(10), square(70), square(90)).any()


def test_a_hole_in_the_midst_of_a_wall_is_no_ghost_and_a_wall_gone_altogether_is():
    wall = square(70, at=10, side=24)
    hole = wall.copy()
    hole[18:26, 18:26] = 0
    assert not ghosts(numbered(18), hole, wall).any()
    assert ghosts(numbered(10, side=24), np.zeros((60, 60), np.uint8), wall).tolist() == [False, True]


def test_the_rim_of_a_thing_at_the_edge_of_the_screen_is_counted_within_it():
    assert ghosts(numbered(0), square(0), square(70, at=0)).tolist() == [False, True]
    assert not ghosts(numbered(0), square(70, at=0), square(0)).any()


@pytest.mark.parametrize(("there", "ground"), [(4, 0), (1, 70), (0, 70)])
def test_the_plate_is_bared_of_what_comes_back_for_long_and_of_nothing_else(there, ground):
    plate, empty = square(70), square(0)
    screens = np.stack([plate] + [empty] * 10 + [plate] * there + [empty] * 10)
    bare = bared(plate, screens, screens != plate, np.zeros(len(screens), int))
    assert bare[12, 12] == ground
    assert bare[40, 40] == 0


def test_what_is_there_again_in_another_segment_has_not_come_back():
    plate, empty = square(70), square(0)
    screens = np.stack([empty] * 20 + [plate] * 10)
    segment = np.repeat([0, 1], [20, 10])
    np.testing.assert_array_equal(bared(plate, screens, screens != plate, segment), plate)
