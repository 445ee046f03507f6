import io

import numpy as np
import pytest
from PIL import Image

from rlwatch.pictures import heatmap, panel
from rlwatch.pictures.clip import encode_gif
from rlwatch.pictures.film import Caption, film
from rlwatch.pictures.lettering import fitted, width, write

ACTIONS = ["NOOP", "FIRE", "RIGHT", "LEFT"]
CAPTION = Caption("Breakout", 40_000, 23.4)


def pictures(frames=1, **changes):
    """A film of black screens without relevance, as colours; `changes` replace its parts."""
    parts = {
        "screens": np.zeros((frames, 210, 160, 3), np.uint8),
        "relevance": np.zeros((frames, 84, 84), np.float32),
        "scale": 1.0,
        "boxes": [{} for _ in range(frames)],
        "q_values": np.tile(np.array([1.0, 1.2, 0.9, 1.1], np.float32), (frames, 1)),
        "actions": ACTIONS,
        "caption": CAPTION,
    } | changes
    made = film(parts.pop("screens"), parts.pop("relevance"), **parts)
    return made.palette[np.stack(list(made.indices))]


def screen_of(picture):
    return picture[panel.HEADER : panel.HEADER + 630, panel.MARGIN : panel.MARGIN + 480]


def panel_of(picture):
    return picture[:, panel.MARGIN + 480 + panel.GAP :]


def test_a_pixel_of_relevance_covers_its_part_of_the_screen():
    relevance = np.zeros((1, 84, 84), np.float32)
    relevance[0, 40, 20] = 1.0

    red = (screen_of(pictures(relevance=relevance)[0]) == heatmap.FOR).all(axis=-1)

    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert red.sum() == len(rows) * len(columns)
    np.testing.assert_allclose([rows[0], rows[-1] + 1], [40 * 7.5, 41 * 7.5], atol=1)
    np.testing.assert_allclose([columns[0], columns[-1] + 1], [20 * 480 / 84, 21 * 480 / 84], atol=1)


def test_relevance_against_is_blue():
    relevance = np.full((1, 84, 84), -1.0, np.float32)

    assert (screen_of(pictures(relevance=relevance)[0]) == heatmap.AGAINST).all()


def test_relevance_of_stacked_frames_is_summed():
    stacked = np.zeros((1, 4, 84, 84), np.float32)
    stacked[0, :, 10, 10] = [0.5, 0.5, 0.0, 0.0]
    stacked[0, :, 60, 60] = [1.0, 0.0, 0.0, -1.0]
    summed = np.zeros((1, 84, 84), np.float32)
    summed[0, 10, 10] = 1.0

    np.testing.assert_array_equal(pictures(relevance=stacked), pictures(relevance=summed))


def test_the_screen_is_three_times_as_large_dimmed_and_grey():
    screens = np.zeros((1, 210, 160, 3), np.uint8)
    screens[0, 100, 50] = 255, 255, 255
    screens[0, 30, 50] = 200, 72, 72

    shown = screen_of(pictures(screens=screens)[0])

    white = shown[300:303, 150:153].reshape(-1, 3)
    assert (white == white[0, 0]).all()
    assert 100 < white[0, 0] < 200
    red = shown[91, 151]
    assert red[0] == red[1] == red[2]
    assert 0 < red[0] < white[0, 0]
    assert (shown[299:304, 149:154].reshape(-1, 3) > 0).all(axis=-1).sum() == 9


def test_an_outline_surrounds_its_object_and_leaves_it_as_it_is():
    plain = screen_of(pictures()[0])

    outlined = screen_of(pictures(boxes=[{"ball": ((50, 100, 2, 4),)}])[0])

    changed = (outlined != plain).any(axis=-1)
    assert not changed[300:312, 150:156].any()
    assert changed[298:314, 148:158].sum() == 16 * 10 - 12 * 6
    assert changed.sum() == 16 * 10 - 12 * 6


def test_boxes_that_touch_share_one_outline():
    apart = ((8, 57, 8, 6), (16, 57, 8, 6), (8, 63, 8, 6))

    outlined = screen_of(pictures(boxes=[{"bricks": apart}])[0])

    assert not (outlined == panel.OUTLINES[0]).all(axis=-1)[171:189, 24:72][:, :24].any()
    assert not (outlined == panel.OUTLINES[0]).all(axis=-1)[171:189, 24:72].any()


def test_a_box_that_leaves_the_screen_is_cut_off():
    boxes = [{"paddle": ((-4, 189, 16, 4), (155, 189, 16, 4), (0, -9, 5, 4))}]

    picture = pictures(boxes=boxes)[0]

    assert (screen_of(picture)[567 + 6, 36] == panel.OUTLINES[0]).all()
    assert not (screen_of(picture)[567:579, :36] == panel.OUTLINES[0]).all(axis=-1).any()
    assert not (picture[:, : panel.MARGIN] == panel.OUTLINES[0]).all(axis=-1).any()


def test_objects_keep_their_colours_over_the_frames():
    boxes = [{"ball": ((50, 100, 2, 4),), "paddle": ((50, 189, 16, 4),)}, {"paddle": ((50, 189, 16, 4),)}]

    shown = [screen_of(picture) for picture in pictures(frames=2, boxes=boxes)]

    np.testing.assert_array_equal(shown[0][500:], shown[1][500:])
    assert (shown[0][298, 150] == panel.OUTLINES[0]).all()
    assert (shown[0][565, 150] == panel.OUTLINES[1]).all()


def test_only_the_best_action_is_white_and_its_bar_is_the_longest():
    shown = panel_of(pictures()[0])[panel.HEADER + 80 : panel.HEADER + 80 + 4 * 34 + 8]

    white = (shown[:, 100:200] == (244, 245, 247)).all(axis=-1).sum(axis=1)
    grey = (shown[:, 100:200] == (150, 155, 165)).all(axis=-1).sum(axis=1)
    rows = np.flatnonzero(white > 60)
    assert 24 <= len(rows) <= 34
    assert rows[-1] - rows[0] == len(rows) - 1
    assert white.max() > grey.max()
    assert grey[: rows[0]].max() > 0
    assert grey[rows[-1] + 1 :].max() > 0


def test_every_one_of_eighteen_actions_has_a_row_above_the_colour_scale():
    names = [f"ACTION{index}" for index in range(18)]
    q_values = np.linspace(1, 2, 18, dtype=np.float32)[None]
    boxes = [{f"object {index}": ((index, index, 4, 4),) for index in range(8)}]

    shown = panel_of(pictures(q_values=q_values, actions=names, boxes=boxes)[0])

    left = panel.Bars(names, 1.0, 2.0, 18).left
    ink = shown[168 : 168 + 18 * 18 + 1, left : left + 4]
    bar = (ink == (150, 155, 165)).all(axis=(1, 2)) | (ink == (244, 245, 247)).all(axis=(1, 2))
    assert (np.diff(bar.astype(int)) == 1).sum() == 18
    assert len(shown) > panel.HEADER + 630 + panel.MARGIN


@pytest.mark.parametrize("name", ["FIRE", "UPRIGHTFIRE", "DOWNRIGHTFIRE", "A VERY LONG NAME OF AN ACTION"])
def test_the_name_of_the_best_action_leaves_the_heading_of_the_bars_as_it_is(name):
    line, heading = slice(panel.HEADER + 40, panel.HEADER + 72), slice(0, width("Q-values", 24))
    actions = ["NOOP", name, "RIGHT", "LEFT"]

    named, plain = (panel_of(pictures(actions=one)[0])[line] for one in (actions, ACTIONS))

    np.testing.assert_array_equal(named[:, heading], plain[:, heading])
    assert (named[:, heading.stop + 12 :] != named[0, 0]).any()


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [(-0.016, -0.002, ("-0.016", "-0.002")), (-0.0004, 0.1, ("0.000", "0.100")), (-2.0, 1.5, ("-2.00", "1.50"))],
)
def test_the_ends_of_the_bars_have_the_decimals_of_the_bars(low, high, ends):
    bars = panel.Bars(ACTIONS, low, high, 34)

    assert (bars.words(low), bars.words(high)) == ends


def test_a_bar_ends_before_a_long_number():
    for q_values in ([0.0, 1234.5, 3.0, 4.0], [-123.45, -124.0, -123.5, -123.9]):
        bars = panel.Bars(ACTIONS, min(q_values), max(q_values), 34)
        page = np.zeros((panel.HEADER + 400, panel.PANEL), np.uint8)

        bars.draw(page, np.array(q_values))

        full = panel.BRIGHT + 7
        best = page[panel.HEADER + 84 + 34 * int(np.argmax(q_values)) + 3]
        assert np.flatnonzero(best == full).max() < panel.PANEL - width(bars.words(max(q_values)), bars.size)


def test_equal_q_values_are_drawn():
    pictures(q_values=np.ones((1, 4), np.float32))


def test_the_words_of_the_caption_are_on_every_frame():
    without = pictures(frames=2)
    header = slice(0, panel.HEADER)

    for changed in (
        Caption("Pong", 40_000, 23.4),
        Caption("Breakout", 50_000, 23.4),
        Caption("Breakout", 40_000, 23.5),
        Caption("Breakout", 40_000, 23.4, explains="the choice"),
    ):
        shown = pictures(frames=2, caption=changed)
        assert (shown[0, header] != without[0, header]).any()
        np.testing.assert_array_equal(shown[0, header], shown[1, header])


def test_an_unknown_return_is_left_out():

    unknown = pictures(caption=Caption("Breakout", 40_000))[0]

    paper = unknown[0, 0]
    inked = np.flatnonzero((unknown[:48] != paper).any(axis=(0, 2)))
    inked_known = np.flatnonzero((pictures()[0, :48] != paper).any(axis=(0, 2)))

    assert inked[-1] < inked_known[-1] - 100


def test_each_frame_names_its_situation():
    caption = Caption("Breakout", 0, situations=["early game", "late game"])

    first, second = (
        panel_of(picture)[panel.HEADER : panel.HEADER + 26, :180] for picture in pictures(2, caption=caption)
    )

    assert (first != second).any()


def test_what_is_stronger_than_the_scale_is_told():
    relevance = np.zeros((1, 84, 84), np.float32)
    relevance[0, 0, :42] = 2.0
    blank, foot = Caption("Breakout", 0), slice(-40, None)
    parts = {"boxes": [{}], "q_values": np.ones((1, 4), np.float32), "actions": ACTIONS, "caption": blank}

    made = film(np.zeros((1, 210, 160, 3), np.uint8), relevance, scale=1.0, **parts)

    assert made.saturated == pytest.approx(42 / 7056)
    told, silent = pictures(relevance=relevance), pictures(relevance=np.minimum(relevance, 1.0))
    assert (panel_of(told[0])[foot] != panel_of(silent[0])[foot]).any()


def test_a_film_is_read_back_from_its_gif():
    generator = np.random.default_rng(0)
    screens = generator.integers(0, 256, (3, 210, 160, 3)).astype(np.uint8)
    relevance = generator.normal(size=(3, 4, 84, 84)).astype(np.float32)
    boxes = [{"ball": ((50 + index, 100, 2, 4),)} for index in range(3)]
    parts = {"scale": 2.0, "boxes": boxes, "q_values": generator.normal(size=(3, 4)), "actions": ACTIONS}
    expected = pictures(frames=3, screens=screens, relevance=relevance, **parts)

    made = film(screens, relevance, caption=CAPTION, **parts)
    image = Image.open(io.BytesIO(encode_gif(made.indices, made.palette)))

    assert image.size == (806, 728)
    for index in range(3):
        image.seek(index)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), expected[index])


def test_the_palette_leaves_an_entry_for_what_stays_the_same():
    assert len(panel.palette()) <= 255


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [{}, {}]}, "every part must have one entry per frame"),
        ({"caption": Caption("Pong", 0, situations=["a", "b"])}, "every part must have one entry per frame"),
        ({"actions": ["NOOP"]}, "a column for each of 1 actions, got 4"),
        ({"q_values": np.array([[1.0, np.nan, 1.0, 1.0]], np.float32)}, "q_values must be finite"),
        ({"relevance": np.full((1, 84, 84), np.nan, np.float32)}, "relevance must be finite"),
        ({"scale": 0.0}, "scale must be a positive"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        pictures(**changes)


def test_a_text_that_is_too_long_ends_in_an_ellipsis():
    assert fitted("paddle", 24, 300) == "paddle"
    short = fitted("a very long name of an object", 24, 120)
    assert short.endswith("…")
    assert width(short, 24) <= 120
    assert len(short) > 5


def test_numbers_have_one_width_so_that_they_do_not_tremble():
    assert width("1.11", 24) == width("8.88", 24)


def test_a_line_of_letters_leaves_those_above_it_whole():
    picture = np.zeros((60, 120), np.uint8)
    write(picture, "gypsy", (0, 16), size=24, ramp=100)
    above = picture.copy()
    write(picture, "gypsy", (0, 44), size=24, ramp=100)
    np.testing.assert_array_equal(picture[above > 0], above[above > 0])
