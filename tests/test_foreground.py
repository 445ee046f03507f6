"""What stands out from a background: scenes, and the connected parts that their plates do not hold."""

import numpy as np

from rlwatch.atari import foreground
from rlwatch.atari.foreground import UNSTEADY
from rlwatch.atari.screen import Box

PALETTE = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
PLATE = np.zeros((210, 160), np.uint8)


def boxes(screens, plate=PLATE):
    screens = np.stack(screens)
    scenery = foreground.scenes(screens, plate)
    found = foreground.parts(screens, scenery, np.zeros(len(screens), int), PALETTE)
    return [[tuple(part.box) for part in found if part.screen == number] for number in range(len(screens))]


def drawn(*shapes, on=PLATE):
    """A screen with rectangles (left, top, width, height, colour) on it."""
    screen = on.copy()
    for x, y, w, h, colour in shapes:
        screen[y : y + h, x : x + w] = colour
    return screen


def test_a_room_of_its_own_is_a_scene_of_its_own_and_what_comes_by_there_is_told_from_its_plate():
    room = np.full((210, 160), 77, np.uint8)
    screens = [drawn((8 * i, 100, 8, 8, 50)) for i in range(10)]
    screens += [drawn((8 * i % 152, 100, 8, 8, 50), on=room) for i in range(20)]
    scenery = foreground.scenes(np.stack(screens), PLATE)
    assert scenery.of.tolist() == [0] * 10 + [1] * 20
    np.testing.assert_array_equal(scenery.plates[1], room)
    assert boxes(screens)[12] == [(16, 100, 8, 8)]


def test_too_few_screens_of_a_scene_are_unsteady():
    flash = [np.full((210, 160), 200, np.uint8)] * 3
    scenery = foreground.scenes(np.stack([PLATE] * 20 + flash), PLATE)
    assert scenery.of.tolist() == [0] * 20 + [UNSTEADY] * 3


def test_a_ball_in_a_hole_of_a_wall_is_found_even_in_the_colour_of_the_bricks():
    wall = drawn((8, 57, 144, 36, 70))
    hole = (40, 57, 40, 20, 0)
    screens = [drawn(hole, (44 + 2 * i, 60, 2, 4, 70), on=wall) for i in range(12)]
    assert boxes(screens, wall) == [[(40, 57, 40, 20), (44 + 2 * i, 60, 2, 4)] for i in range(12)]


def test_a_thing_that_creeps_is_not_torn_into_a_core_that_stands_and_a_rim_that_moves():
    screens = [drawn((40 + i // 6, 100, 12, 12, 50)) for i in range(24)]
    assert boxes(screens) == [[(40 + i // 6, 100, 12, 12)] for i in range(24)]


def test_a_ball_that_touches_a_bat_of_another_colour_is_cut_from_it():
    free = [drawn((140, 20 + 16 * i, 4, 16, 80), (100 + 4 * i, 4, 2, 4, 236)) for i in range(9)]
    touching = drawn((140, 100, 4, 16, 80), (138, 104, 2, 4, 236))
    assert sorted(boxes([*free, touching])[9]) == [(138, 104, 2, 4), (140, 100, 4, 16)]


def test_a_figure_of_several_colours_stays_one_part():
    screens = [drawn((8 * i, 100, 8, 4, 50), (8 * i, 104, 8, 4, 90)) for i in range(10)]
    assert boxes(screens) == [[(8 * i, 100, 8, 8)] for i in range(10)]


def test_a_line_that_changes_over_most_of_its_width_belongs_to_nothing():
    screens = [drawn((0, 100, 160, 1 + i % 3, i + 20), (8 * i, 90, 8, 30, 90)) for i in range(10)]
    assert all(box[0] == 8 * i and box[2] == 8 for i, found in enumerate(boxes(screens)) for box in found)


def test_a_part_holds_its_pixels_and_their_mean_colour():
    screen = drawn((10, 20, 4, 2, 40), (10, 22, 2, 2, 100))
    scenery = foreground.scenes(np.stack([screen, PLATE, PLATE]), PLATE)
    (part,) = foreground.parts(np.stack([screen, PLATE, PLATE]), scenery, np.zeros(3, int), PALETTE)
    assert part.box == Box(10, 20, 4, 4)
    np.testing.assert_array_equal(part.pixels, [[1, 1, 1, 1]] * 2 + [[1, 1, 0, 0]] * 2)
    assert part.colour.tolist() == [60.0] * 3


def test_where_the_plate_holds_a_thing_that_is_elsewhere_there_is_no_part():
    plate = drawn((40, 100, 8, 8, 50))
    assert boxes([drawn((8 * i, 150, 8, 8, 50)) for i in range(10)], plate) == [[(8 * i, 150, 8, 8)] for i in range(10)]


def test_a_floe_that_the_plate_holds_is_found_whole_when_it_comes_back():
    plate = drawn((60, 100, 24, 8, 50))
    ways = [*range(30, 100, 2), *range(100, 30, -2)]
    assert boxes([drawn((x, 100, 24, 8, 50)) for x in ways], plate) == [[(x, 100, 24, 8)] for x in ways]
