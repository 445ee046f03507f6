"""Scenes that scroll: nearly all that moves goes the same way."""

import numpy as np

from rlwatch.atari.foreground import Part
from rlwatch.atari.screen import Box
from rlwatch.atari.scrolling import scrolling
from rlwatch.atari.tracking import follow

FRAMES = 10


def part(screen, x, y, w=8, h=8, colour=100.0):
    return Part(screen, Box(x, y, w, h), np.ones((h, w), bool), np.full(3, colour), stands=False)


def share(*ways, clipped=False):
    """The part of frames that scroll where, side by side, a thing goes each of the ways (pixels a raw frame)."""
    raw = np.array([4 * (screen // 2) + screen % 2 for screen in range(2 * FRAMES)])
    parts = []
    for index, (across, down) in enumerate(ways):
        for screen, time in enumerate(raw):
            height = 30 - time // 2 if clipped and index == 0 else 8
            top = 0 if clipped and index == 0 else 90 + down * time // 2
            parts.append(part(screen, 4 + 40 * index + across * time // 2, top, h=height))
    parts.sort(key=lambda one: (one.screen, one.box))
    return scrolling(follow(parts, np.zeros(2 * FRAMES, int), raw), FRAMES)


def test_things_that_go_one_way_scroll_even_past_one_that_does_not():
    assert share((0, -1), (0, -1), (0, -1)) == 0.9  # the last frame has none after it
    assert share((0, -1), (0, -1), (0, -1), (1, 0)) == 0.9


def test_things_that_go_their_own_ways_do_not_scroll_nor_do_two_nor_what_stands():
    assert share((0, -1), (1, 0), (0, 1), (-1, 0)) == 0
    assert share((0, -1), (0, -1)) == 0
    assert share((0, 0), (0, 0), (0, 0)) == 0


def test_a_thing_that_leaves_the_screen_goes_with_its_inner_edge():
    assert share((0, -1), (0, -1), (0, -1), clipped=True) == 0.9
