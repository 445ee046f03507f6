"""The map of Pong against the screen, over 5,000 agent steps of the scripted player.

In the field each object has a colour of its own: what has the ball's colour is the ball, wherever the map says it is.
"""

import numpy as np
import pytest

from rlwatch.atari.choose import probe_of
from rlwatch.atari.objects import pong
from rlwatch.atari.recording import record
from rlwatch.atari.screen import Box, pictures

BALL, PLAYER, ENEMY, FIELD = 14, 200, 56, 34
LENGTH = 16


@pytest.fixture(scope="module")
def recording():
    return record("pong", steps=5000, seed=3)


def shown(screen, colour, top=34, bottom=194):
    """The smallest box around a colour between two lines; None where there is none."""
    y, x = np.nonzero(screen[top:bottom] == colour)
    if len(y) == 0:
        return None
    return Box(int(x.min()), int(y.min()) + top, int(np.ptp(x)) + 1, int(np.ptp(y)) + 1)


@pytest.fixture(scope="module")
def frames(recording):
    """Screen and boxes of each raw frame that a picture is pooled from."""
    return [
        (screen, pong.boxes(ram))
        for step in range(len(recording))
        for screen, ram in zip(recording.screens(np.array([step]))[0], recording.ram[step, 1:], strict=True)
    ]


@pytest.mark.real
@pytest.mark.parametrize(("name", "colour"), [("player", PLAYER), ("enemy", ENEMY)])
def test_a_bat_is_exactly_in_its_box(frames, name, colour):
    seen = [(shown(screen, colour), boxes[name]) for screen, boxes in frames]
    assert all(boxes == (() if box is None else (box,)) for box, boxes in seen)
    assert len(set(seen)) > 50


@pytest.mark.real
def test_the_ball_is_visible_exactly_when_it_has_a_box(frames):
    visible = [(shown(screen, BALL) is not None, bool(boxes["ball"])) for screen, boxes in frames]
    assert set(visible) == {(True, True), (False, False)}


@pytest.mark.real
def test_the_balls_box_holds_it_with_its_columns_exact_and_its_top_in_97_of_100_frames(frames):
    balls = [(shown(screen, BALL), *boxes["ball"]) for screen, boxes in frames if boxes["ball"]]
    for ball, box in balls:
        assert (ball.x, ball.w) == (box.x, box.w)
        assert box.y <= ball.y <= box.y + 1
        assert ball.y + ball.h <= box.y + box.h <= ball.y + ball.h + 1
    assert np.mean([ball.y == box.y for ball, box in balls]) >= 0.97
    assert len(balls) > 7000


@pytest.mark.real
@pytest.mark.parametrize(("name", "colour"), [("player_score", PLAYER), ("enemy_score", ENEMY)])
def test_a_score_lies_in_its_box(frames, name, colour):
    widths = set()
    for screen, boxes in frames[::20]:
        digits, box = shown(screen, colour, 0, 24), boxes[name][0]
        assert box.x <= digits.x < digits.x + digits.w <= box.x + box.w
        assert box.y <= digits.y < digits.y + digits.h <= box.y + box.h
        widths.add(box.w)
    assert 12 in widths


@pytest.mark.real
def test_undilated_masks_cover_all_of_the_balls_signal_in_every_stacked_frame(recording):
    starts = np.arange(0, len(recording) - LENGTH + 1, LENGTH)
    starts = starts[recording.episode[starts] == recording.episode[starts + LENGTH - 1]]
    signals = 0
    for chunk in np.array_split(starts, 5):
        probe = probe_of(recording, chunk, LENGTH, ("",) * len(chunk))
        without = probe.screens.copy()
        field = without[:, :, 34:194]
        field[field == BALL] = FIELD
        signal = probe.observations() != pictures(without, probe.palette)[probe.stack]
        assert not (signal & ~probe.masks(dilation=0)["ball"]).any()
        signals += signal.any(axis=(2, 3)).sum()
    assert signals > 4 * 3500


def test_two_digits_take_the_place_before_the_one():
    ram = np.zeros(128, np.uint8)
    ram[pong.ENEMY_SCORE], ram[pong.PLAYER_SCORE] = 9, 10
    assert pong.boxes(ram)["enemy_score"] == (Box(36, 1, 12, 20),)
    assert pong.boxes(ram)["player_score"] == (Box(100, 1, 28, 20),)
