"""The map of Breakout against the screen, over 5,000 agent steps of the scripted player.

The screen is compared with a plate that is painted without looking at it: walls, and the bricks and the paddle that the
memory tells of. What differs from the plate is the ball, wherever the map says that it is.
"""

import numpy as np
import pytest

from rlwatch.atari.choose import probe_of
from rlwatch.atari.objects import breakout
from rlwatch.atari.recording import record
from rlwatch.atari.screen import Box, pictures

ROW_COLOURS = np.array([70, 54, 38, 22, 198, 134], np.uint8)
WALL, FOOT_LEFT, FOOT_RIGHT, PADDLE = 6, 182, 70, 70
LENGTH = 16
BELOW_SCORE = np.arange(210)[:, None] >= 17


@pytest.fixture(scope="module")
def recording():
    return record("breakout", steps=5000, seed=9, episode_steps=2500)


def area(box):
    return np.s_[box.y : box.y + box.h, box.x : box.x + box.w]


def plate(ram):
    """The screen below the score as the memory tells of it, but for the ball."""
    painted = np.zeros((210, 160), np.uint8)
    for wall in (Box(0, 17, 160, 15), Box(0, 32, 8, 157), Box(152, 32, 8, 157)):
        painted[area(wall)] = WALL
    painted[189:196, :8], painted[189:195, 152:] = FOOT_LEFT, FOOT_RIGHT
    rows = breakout.bricks(ram) * ROW_COLOURS[:, None]
    painted[57:93, 8:152] = rows.repeat(6, axis=0).repeat(8, axis=1)
    painted[area(breakout.boxes(ram)["paddle"][0])] = PADDLE
    return painted


def raw_frames(recording, every=1):
    """Screen, memory and plate of each raw frame that a picture is pooled from."""
    for step in range(0, len(recording), every):
        for screen, ram in zip(recording.screens(np.array([step]))[0], recording.ram[step, 1:], strict=True):
            yield screen, ram, plate(ram)


@pytest.fixture(scope="module")
def differences(recording):
    """For each raw frame the pixels that differ from the plate, the plate and the boxes."""
    return [
        (np.argwhere((screen != painted) & BELOW_SCORE), painted, breakout.boxes(ram))
        for screen, ram, painted in raw_frames(recording)
    ]


@pytest.mark.real
def test_the_recording_holds_what_the_map_must_get_right(recording):
    situations = breakout.situations(recording.ram[:, -1])
    assert {"early", "mid", "late", "tunnel"} <= set(situations["stage"])
    assert {"0", "1", "2", "3", ""} <= set(situations["height"])
    assert {"6", "8"} <= set(situations["width"])


@pytest.mark.real
def test_the_scripted_player_loses_some_episodes_early_and_digs_a_tunnel_in_others(recording):
    lengths = np.bincount(recording.episode)
    assert lengths[0] < 400
    assert lengths.max() > 1500


@pytest.mark.real
def test_below_the_score_all_is_walls_bricks_paddle_or_within_the_balls_box(differences):
    for pixels, _, boxes in differences:
        for y, x in pixels:
            assert any(b.y <= y < b.y + b.h and b.x <= x < b.x + b.w for b in boxes["ball"]), (y, x, boxes["ball"])


@pytest.mark.real
def test_the_ball_fills_its_box_exactly_wherever_nothing_stands_in_its_way(differences):
    unobstructed = [
        (pixels, ball)
        for pixels, painted, boxes in differences
        for ball in boxes["ball"]
        if not painted[area(ball)].any() and ball.y + ball.h < breakout.FLOOR
    ]
    assert len(unobstructed) > 9000
    for pixels, ball in unobstructed:
        assert len(pixels) == ball.w * ball.h


@pytest.mark.real
def test_score_lives_and_player_lie_in_their_boxes(recording):
    for screen, ram, _ in raw_frames(recording, every=50):
        boxes = breakout.boxes(ram)
        outside = screen[:17] != 0
        for name in ("score", "lives", "player"):
            assert outside[area(boxes[name][0])].any()
        for name in ("score", "lives", "player"):
            outside[area(boxes[name][0])] = False
        assert not outside.any()


@pytest.mark.real
def test_bricks_and_tunnels_tile_the_wall(recording):
    for ram in recording.ram[::100, -1]:
        covered = np.zeros((210, 160), int)
        boxes = breakout.boxes(ram)
        for box in (*boxes["bricks"], *boxes["tunnel"]):
            covered[area(box)] += 1
        assert covered.max() == 1
        standing = breakout.bricks(ram)
        assert len(boxes["bricks"]) == standing.sum()
        assert len(boxes["tunnel"]) == (~standing.any(axis=0)).sum()


@pytest.mark.real
def test_undilated_masks_cover_all_of_the_balls_signal_in_every_stacked_frame(recording):
    starts = np.arange(0, len(recording) - LENGTH + 1, LENGTH)
    starts = starts[recording.episode[starts] == recording.episode[starts + LENGTH - 1]]
    signals = 0
    for chunk in np.array_split(starts, 5):
        probe = probe_of(recording, chunk, LENGTH, ("",) * len(chunk))
        plates = probe.screens.copy()
        for frame, raw in np.ndindex(plates.shape[:2]):
            plates[frame, raw, 17:] = plate(probe.ram[frame, 1 + raw])[17:]
        signal = probe.observations() != pictures(plates, probe.palette)[probe.stack]
        assert not (signal & ~probe.masks(dilation=0)["ball"]).any()
        signals += signal.any(axis=(2, 3)).sum()
    assert signals > 4 * 4500


def test_without_a_ball_in_play_there_is_no_box_for_it():
    assert breakout.boxes(np.zeros(128, np.uint8))["ball"] == ()
