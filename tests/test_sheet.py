"""The contact sheet of a probe."""

import numpy as np
import pytest

from rlwatch.atari import screen, sheet
from rlwatch.atari.probe import Probe


def test_no_two_objects_of_a_sheet_share_a_colour_and_a_name_stands_at_its_box():
    assert len({sheet.colour_of(index) for index in range(40)}) == 40
    black = np.zeros((1, 210, 160, 3), np.uint8)
    boxes = {
        "ball": (screen.Box(40, 50, 2, 4),),
        "paddle": (screen.Box(40, 60, 16, 4),),
        "tiny": (screen.Box(41, 56, 1, 1),),
    }
    drawn = sheet.draw("title", black, [boxes], ["label"], dict.fromkeys(boxes, 1))[110 : 110 + 420, 16 : 16 + 320]
    for index, (_, (box,)) in enumerate(boxes.items()):
        above, below = drawn[2 * box.y - 11 : 2 * box.y - 3], drawn[2 * (box.y + box.h) + 3 : 2 * (box.y + box.h) + 12]
        beside = [(part[:, 2 * box.x :] == sheet.PAPER).all(axis=2).any() for part in (above, below)]
        assert any(beside) == (index < 2)


def test_the_legend_says_what_its_numbers_are(monkeypatch):
    written = []
    monkeypatch.setattr(sheet, "_write", lambda _pen, _at, text, _colour: written.append(text))
    sheet.draw("title", np.zeros((1, 210, 160, 3), np.uint8), [{}], ["label"], {"ball": 7, "big_wall": 256})
    assert written == ["title", "observations with:", "ball 7", "big wall 256", "label"]


def test_a_title_too_long_for_a_line_takes_two():
    black = np.zeros((1, 210, 160, 3), np.uint8)
    short, long = (sheet.draw("word " * words, black, [{}], ["label"], {"ball": 1}) for words in (10, 60))
    assert len(long) == len(short) + sheet.LINE
    margin = long[: 3 * sheet.LINE, -sheet.EDGE :]
    assert (margin == sheet.PAPER).all()


@pytest.mark.real
def test_the_contact_sheet_shows_each_segments_screen_with_its_outlines():
    probe = Probe.load("breakout")
    drawn = probe.contact_sheet()
    middle = int(np.median(np.flatnonzero(probe.segment == 0)))
    ball = probe.boxes()[middle]["ball"][0]
    picture = drawn[110 : 110 + 420, 16 : 16 + 320]
    colours = screen.rgb(probe.screens[probe.stack[middle, -1], 1], probe.palette)
    np.testing.assert_array_equal(picture[2 * ball.y, 2 * ball.x], colours[ball.y, ball.x])
    np.testing.assert_array_equal(
        picture[2 * ball.y - 1, 2 * ball.x - 1], sheet.colour_of(list(probe.visible()).index("ball"))
    )
    np.testing.assert_array_equal(picture[300, 100], colours[150, 50])
