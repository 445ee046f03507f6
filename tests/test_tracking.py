"""Parts of successive screens that are the same thing."""

import numpy as np
import pytest

from rlwatch.atari.foreground import Part
from rlwatch.atari.screen import Box
from rlwatch.atari.tracking import features, follow


def part(screen, x, y, w=8, h=8, colour=100.0):
    return Part(screen, Box(x, y, w, h), np.ones((h, w), bool), np.full(3, colour), stands=False)


def things(parts, screens, segment=None):
    segment = np.zeros(screens, int) if segment is None else segment
    raw = np.array([4 * (screen // 2) + screen % 2 for screen in range(screens)])
    return follow(sorted(parts, key=lambda one: (one.screen, one.box)), segment, raw)


def tracks(found):
    return sorted([(one.screen, one.box.x, one.box.y) for one in thing.parts] for thing in found)


def test_two_that_cross_each_other_keep_their_ways():
    raw = [4 * (i // 2) + i % 2 for i in range(20)]
    right = [part(i, 20 + 2 * time, 100) for i, time in enumerate(raw)]
    left = [part(i, 95 - 2 * time, 102) for i, time in enumerate(raw)]
    found = tracks(things([*right, *left], 20))
    assert found == sorted([[(one.screen, one.box.x, one.box.y) for one in way] for way in (right, left)])


def test_one_that_is_hidden_for_a_while_is_the_same_afterwards_and_after_longer_another():
    seen = [i for i in range(20) if i not in {5, 6, 7}]
    assert len(things([part(i, 20 + i, 100) for i in seen], 20)) == 1
    seen = [i for i in range(20) if i not in range(5, 12)]
    assert len(things([part(i, 20, 100) for i in seen], 20)) == 2


def test_a_thing_ends_with_its_segment():
    assert len(things([part(i, 20, 100) for i in range(8)], 8, np.array([0, 0, 0, 0, 1, 1, 1, 1]))) == 2


@pytest.mark.parametrize("other", [part(1, 80, 100), part(1, 20, 100, w=32)])
def test_a_part_far_off_or_of_quite_another_size_is_another_thing(other):
    assert len(things([part(0, 20, 100), other], 2)) == 2


def test_a_part_is_described_by_middle_size_and_colour():
    described = features([part(0, 10, 20, w=4, h=16, colour=51.0)])
    np.testing.assert_allclose(described, [[12, 28, 2, 4, 0.2, 0.2, 0.2]])


def test_a_bar_that_grows_on_one_side_goes_nowhere_and_a_digit_that_leaps_does_not_travel():
    (bar,) = things([part(i, 20, 100, w=8 + 2 * i) for i in range(12)], 12)
    assert bar.way < 0.1
    (digit,) = things([part(i, 20 if i < 6 else 32, 100) for i in range(12)], 12)
    assert digit.way == 12
    assert not digit.travels
    (walker,) = things([part(i, 20 + 2 * i, 100) for i in range(12)], 12)
    assert walker.travels
