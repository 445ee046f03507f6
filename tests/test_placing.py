"""Objects on the screens: pieces become masks of the agent's picture."""

import numpy as np
import pytest

from rlwatch.atari import background, placing, screen
from rlwatch.atari.foreground import Part
from rlwatch.atari.placing import Shape
from rlwatch.atari.screen import Box


def part(number, box, pixels=None):
    return Part(number, box, np.ones((box.h, box.w), bool) if pixels is None else pixels, np.zeros(3), stands=False)


@pytest.mark.parametrize("dilation", [0, 1, 2])
@pytest.mark.parametrize("box", [Box(0, 0, 1, 1), Box(37, 101, 2, 4), Box(150, 200, 10, 10), Box(8, 57, 144, 36)])
def test_a_piece_that_fills_its_box_has_the_mask_of_the_box(box, dilation):
    full = Shape(box, np.ones((box.h, box.w), bool))
    drawn = placing.masks({"box": [(Shape(box),), ()], "pixels": [(full,), ()]}, 210, dilation=dilation)
    np.testing.assert_array_equal(drawn["pixels"], drawn["box"])
    np.testing.assert_array_equal(drawn["box"][0], screen.mask([box], 210, dilation=dilation))


def test_a_mask_holds_both_screens_of_its_frame_and_nothing_of_the_next():
    first, second, third = Shape(Box(0, 0, 8, 10)), Shape(Box(80, 100, 8, 10)), Shape(Box(0, 200, 8, 10))
    drawn = placing.masks({"ball": [(first,), (second,), (), (third,)]}, 210, dilation=0)["ball"]
    np.testing.assert_array_equal(drawn[0], screen.mask([first.box, second.box], 210, dilation=0))
    np.testing.assert_array_equal(drawn[1], screen.mask([third.box], 210, dilation=0))


def test_a_hollow_piece_leaves_its_middle_free():
    ring = np.ones((100, 100), bool)
    ring[10:90, 10:90] = False
    drawn = placing.masks({"ring": [(Shape(Box(30, 50, 100, 100), ring),), ()]}, 210, dilation=0)["ring"][0]
    assert drawn.any()
    assert not drawn[40, 42]


def test_what_was_found_stands_on_its_own_screens_and_so_do_displays():
    found = background.Found(
        parts={"moving-1": [part(1, Box(5, 5, 4, 4))]},
        displays={"score": [(Box(0, 0, 20, 8),), (), (), (Box(0, 0, 20, 8),)]},
        sureness={"moving-1": background.Sureness(1.0, 1.0)},
        steady=1.0,
        named=0.5,
    )
    placed = placing.by_background(found, 4)
    assert [len(pieces) for pieces in placed.shapes["moving-1"]] == [0, 1, 0, 0]
    assert [[piece.box for piece in pieces] for pieces in placed.shapes["score"]] == [
        [Box(0, 0, 20, 8)],
        [],
        [],
        [Box(0, 0, 20, 8)],
    ]
    assert "they are 50 % of" in str(placed)
    assert "scrolls" not in str(placed)


def test_a_scene_that_scrolls_is_said_to():
    found = background.Found({}, {}, {}, steady=1.0, named=0.9, scrolling=0.8)
    assert "the scene scrolls (80 % of the frames)" in str(placing.by_background(found, 4))
