"""Objects of any game, found without a map: against the exact maps of Breakout and Pong, and on planted scenes."""

from dataclasses import replace

import numpy as np
import pytest

from rlwatch.atari import background, objects
from rlwatch.atari.choose import choose, record_probe
from rlwatch.atari.probe import Probe
from rlwatch.atari.recording import record
from rlwatch.monitor.examination import Examination
from tests.fixtures.watched import Nature

AIMS = {
    "breakout": {"ball": 0.92, "paddle": 0.995},
    "pong": {"ball": 0.98, "enemy": 0.995, "player": 0.995},
}
PALETTE = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = (min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    both = max(width, 0) * max(height, 0)
    return both / (a.w * a.h + b.w * b.h - both)


def recall(probe, placed, truth):
    """In which part of the screens that show an object the name that fits it best has a box on it."""
    mapped, hits, shown = objects.find(probe.game), dict.fromkeys(placed.shapes, 0), 0
    for screen in range(2 * len(probe.ram)):
        for box in mapped.boxes(probe.ram[screen // 2, 1 + screen % 2])[truth]:
            shown += 1
            for name, shapes in placed.shapes.items():
                hits[name] += any(overlap(box, piece.box) >= 0.5 for piece in shapes[screen])
    return max(hits.values()) / shown


@pytest.fixture(scope="module", params=[(game, source) for game in AIMS for source in ("shipped", "played")])
def known(request):
    """A probe of a game whose objects are known, and its objects as they are found without that knowledge."""
    game, source = request.param
    if source == "shipped":
        probe = Probe.load(game)
    else:
        probe = choose(record(game, steps=2500, seed=1), generator=np.random.default_rng(1))
    return probe, probe._found()


@pytest.mark.real
def test_balls_bats_and_paddle_are_found_under_one_name_each(known):
    probe, placed = known
    for name, aim in AIMS[probe.game].items():
        assert recall(probe, placed, name) >= aim, name


@pytest.mark.real
def test_names_are_few_and_what_stands_out_has_one(known):
    _, placed = known
    assert list(placed.shapes)[:2] == ["moving-1", "moving-2"]
    assert len(placed.shapes) <= 6
    assert placed.named > 0.9
    assert placed.steady == 1


@pytest.mark.real
def test_the_score_is_found_where_it_stands(known):
    probe, placed = known
    true = objects.find(probe.game).boxes(probe.ram[0, 2])
    boxes = [box for name in ("score", "player_score", "enemy_score") for box in true.get(name, ())]
    assert any(overlap(piece.box, box) > 0.5 for piece in placed.shapes["score"][0] for box in boxes)


def screens(frames, draw, lines=210):
    """Two screens a frame, on each of which something is drawn by its raw frame's number."""
    drawn = np.zeros((frames, 2, lines, 160), np.uint8)
    for frame, raw in np.ndindex(frames, 2):
        draw(drawn[frame, raw], 4 * frame + raw)
    return drawn


def found(drawn, segments=2):
    segment = np.arange(len(drawn)) * segments // len(drawn)
    return background.find(drawn, np.zeros(drawn.shape[2:], np.uint8), PALETTE, segment, np.zeros(len(drawn)))


def test_a_square_that_moves_and_one_that_stands_get_their_names_and_exact_boxes():
    def draw(screen, time):
        screen[100:108, time : time + 8] = 50
        screen[60:64, 20:30] = 90

    objects_found = found(screens(20, draw))
    assert set(objects_found.parts) == {"moving-1", "static-1"}
    assert [tuple(part.box) for part in objects_found.parts["moving-1"][:2]] == [(0, 100, 8, 8), (1, 100, 8, 8)]
    assert {tuple(part.box) for part in objects_found.parts["static-1"]} == {(20, 60, 10, 4)}
    assert objects_found.sureness["moving-1"] == background.Sureness(tracked=1.0, whole=1.0)
    assert objects_found.named == 1


def test_where_nothing_moves_there_are_static_things_only_and_where_nothing_changes_nothing():
    def draw(screen, _):
        screen[60:64, 20:30] = 90

    assert set(found(screens(20, draw)).parts) == {"static-1"}
    assert found(np.zeros((20, 2, 210, 160), np.uint8)).parts == {}


def test_two_that_look_different_and_are_seen_together_get_two_names_and_twins_get_one():
    def draw(screen, time):
        screen[100:108, time : time + 8] = 50
        screen[150:158, 150 - time : 158 - time] = 100

    assert set(found(screens(20, draw)).parts) == {"moving-1", "moving-2"}

    def twins(screen, time):
        screen[100:108, time : time + 8] = 50
        screen[150:158, 150 - time : 158 - time] = 50

    assert set(found(screens(20, twins)).parts) == {"moving-1"}


def test_what_looks_different_shares_no_name_however_much_there_is():
    colours = {y: 20 + 25 * index for index, y in enumerate(range(50, 190, 14))}

    def draw(screen, time):
        for index, (y, colour) in enumerate(colours.items()):
            screen[y : y + 4 + index % 2 * 6, 2 * index + time : 2 * index + time + 8] = colour

    objects_found = found(screens(20, draw))
    assert list(objects_found.parts) == [f"moving-{number}" for number in range(1, 8)]
    for parts in objects_found.parts.values():
        assert len({(part.box.y, *part.colour) for part in parts}) == 1
    assert 0.5 < objects_found.named < 0.9


def test_a_display_has_a_box_only_where_something_is_written():
    def draw(screen, time):
        screen[100:108, time : time + 8] = 50
        if time < 40:
            screen[8:16, 20:24] = screen[8:16, 28 : 30 + time // 20] = 90

    objects_found = found(screens(20, draw))
    assert [len(boxes) for boxes in objects_found.displays["hud"]] == [1] * 20 + [0] * 20


def test_things_that_pass_by_over_plain_ground_are_found_and_the_scene_is_said_to_scroll():
    def draw(screen, time):
        for x, y in ((20, 150), (60, 120), (100, 170)):
            screen[y - time : y - time + 8, x : x + 8] = 50 + x
        screen[100:108, 140:148] = 200

    passing = found(screens(20, draw))
    assert passing.scrolling > 0.8
    assert passing.parts


def test_a_thing_that_changes_its_colour_from_segment_to_segment_stays_one():
    def draw(screen, time):
        screen[100:108, time : time + 8] = 120 if time < 40 else 180

    assert set(found(screens(20, draw)).parts) == {"moving-1"}


def test_a_thing_that_is_seen_every_other_screen_only_is_less_sure():
    def draw(screen, time):
        if time % 4 == 0:
            screen[100:108, time : time + 8] = 50

    assert found(screens(20, draw)).sureness["moving-1"].tracked == pytest.approx(0.5, abs=0.05)


def test_a_background_that_scrolls_has_no_objects_and_says_so():
    stripes = np.random.default_rng(0).integers(256, size=(400, 160), dtype=np.uint8)

    def draw(screen, time):
        screen[:] = stripes[time : time + 210]

    scrolling = found(screens(20, draw))
    assert scrolling.parts == {}
    assert scrolling.displays == {}
    assert scrolling.reason == "the background moves: no objects found reliably"
    assert scrolling.steady < 0.5


def test_a_flash_of_the_whole_screen_has_no_objects_and_harms_none():
    def draw(screen, time):
        screen[100:108, time : time + 8] = 50
        if time in {20, 21}:
            screen[:] = 200

    flashing = found(screens(20, draw))
    assert flashing.steady == pytest.approx(38 / 40)
    assert {part.screen for part in flashing.parts["moving-1"]} == set(range(40)) - {10, 11}
    assert max(part.pixels.sum() for part in flashing.parts["moving-1"]) == 64


@pytest.mark.real
@pytest.mark.parametrize("game", ["ms_pacman", "riverraid", "tetris"])
def test_a_probe_of_any_kind_of_game_has_objects_that_explain_measures(game):
    probe = record_probe(game, policy="random", steps=600, segments=4, length=8)
    masks, again = probe.masks(), replace(probe).masks()
    assert probe.placed.how == "background"
    assert 2 <= len(masks) <= 9
    assert all(np.array_equal(mask, again[name]) for name, mask in masks.items())
    assert all(mask.mean() < 0.25 for mask in masks.values())
    report = Examination(Nature(len(probe.actions)), probe).report(0)
    assert set(report.targets["greedy"].objects) == set(masks)


@pytest.mark.real
def test_enduro_whose_road_sways_says_that_nothing_is_found_reliably():
    probe = record_probe("enduro", policy="random", steps=600, segments=4, length=8)
    assert probe.masks() == {}
    assert "the background moves: no objects found reliably" in str(probe.placed)
