import json
import struct
import zlib

import ale_py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlwatch.atari import screen
from rlwatch.atari.probe import Probe
from rlwatch.monitor.clips import ClipMaker
from rlwatch.monitor.comparison import Maps
from rlwatch.monitor.gathering import shown_frames
from rlwatch.pictures import heatmap
from rlwatch.tensorboard import blobs
from tests.fixtures.blobs import decode_frames, decode_maps, pairs_of


def probe_maps(probe):
    """Relevance about as sparse and long-tailed as a trained network's, on the frames that are shown."""
    generator, frames = np.random.default_rng(0), len(shown_frames(probe))
    drawn = generator.standard_normal((frames, 4, 84, 84), np.float32)
    return Maps(
        generator.normal(size=(frames, len(probe.actions))),
        {"greedy": 0.001 * drawn * (drawn > 2), "contrast": 0.0001 * drawn * (drawn < -1)},
    )


@pytest.fixture(scope="module")
def breakout():
    return Probe.load("breakout")


@pytest.fixture(scope="module")
def maps(breakout):
    return probe_maps(breakout)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
amounts = st.floats(-8, 8, width=32)


@settings(max_examples=60, deadline=None)
@given(relevance=hnp.arrays(np.float32, shapes, elements=amounts), scale=st.sampled_from([0.25, 1.0, 3.0]))
def test_maps_come_back_to_a_level_their_sums_to_half_a_level_and_beyond_full_colour_at_full_colour(relevance, scale):
    q_values = np.zeros((len(relevance), 2))
    read = decode_maps(blobs.encode_maps({"greedy": relevance}, {"greedy": scale}, q_values))
    step = scale / read.top
    off = read.levels["greedy"] * step - np.clip(relevance, -scale, scale)
    assert np.abs(off).max() <= step * (1 + 1e-5)
    assert np.abs(off.sum(axis=1)).max() <= step / 2 * (1 + 1e-5)
    assert read.scale == {"greedy": scale}
    assert read.q_values == q_values.tolist()


@settings(max_examples=60, deadline=None)
@given(
    screens=hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.just(3))),
    data=st.data(),
)
def test_frames_come_back_as_they_were(screens, data):
    stacked = data.draw(hnp.arrays(np.int64, (3, 4), elements=st.integers(0, len(screens) - 1)))
    meta = {"indices": [0, 1, 2], "stack": 4, "height": screens.shape[1], "width": screens.shape[2]}
    assert np.array_equal(decode_frames(blobs.encode_frames(screens, stacked), meta), screens[stacked])


def test_of_more_than_256_colours_the_rarest_become_their_nearest():
    shades = np.arange(256, dtype=np.uint8)
    common = np.stack([shades, shades, shades], axis=1)
    rare = np.array([[250, 250, 251]], np.uint8)
    screens = np.concatenate([common, common, rare])[None, :, None]
    meta = {"indices": [0], "stack": 1, "height": screens.shape[1], "width": 1}
    shown = decode_frames(blobs.encode_frames(screens, np.zeros((1, 1), np.int64)), meta)[0, 0, :, 0]
    assert np.array_equal(shown[:-1], screens[0, :-1, 0])
    assert shown[-1].tolist() == [250, 250, 250]


def test_maps_that_would_take_too_much_room_get_fewer_levels_and_never_fewer_than_a_heatmap():
    noise = np.random.default_rng(0).normal(size=(48, 4, 84, 84)).astype(np.float32)
    quiet = noise * (np.abs(noise) > 3)
    q_values = np.zeros((48, 1))
    assert decode_maps(blobs.encode_maps({"quiet": quiet}, {"quiet": 3.0}, q_values)).top == 21
    read = decode_maps(blobs.encode_maps({"loud": noise, "quiet": quiet}, {"loud": 3.0, "quiet": 3.0}, q_values))
    assert read.top == heatmap.LEVELS // 2
    near = np.abs(noise).max(axis=1) < 3
    off = read.levels["loud"].sum(axis=1) * 3 / 7 - noise.sum(axis=1)
    assert np.abs(off[near]).max() <= 3 / 7 / 2 * (1 + 1e-5)


def test_levels_stand_behind_their_counts_of_zeros_those_of_a_pixel_one_after_the_other():
    one, other = np.zeros((2, 3, 2, 2, 2), np.float32)
    one[:, 1, 0, 1] = 1, -1, 1 / 3
    other[1, 1, 0, 1] = 1
    data = blobs.encode_maps({"one": one, "other": other}, {"one": 1.0, "other": 1.0}, np.zeros((3, 1)))
    y, x, stack = 0, 1, 1
    assert pairs_of(data) == ([((y * 2 + x) * 2 + stack) * 2 * 3, 0, 0, 1], [21, -21, 7, 21])


@pytest.mark.parametrize("zeros", [0, 255, 256, 257, 511, 512, 700])
def test_long_runs_of_zeros_come_back(zeros):
    relevance = np.zeros((1, 1, 1, 1000), np.float32)
    relevance[..., zeros] = -1
    read = decode_maps(blobs.encode_maps({"greedy": relevance}, {"greedy": 1.0}, np.zeros((1, 1))))
    assert np.flatnonzero(read.levels["greedy"]).tolist() == [zeros]
    assert read.levels["greedy"].min() == -21


def test_weak_relevance_that_adds_up_over_the_stack_shows_where_it_is_strongest():
    relevance = np.array([0.2, 0.45, 0.4, 0.2], np.float32).reshape(1, 4, 1, 1)
    read = decode_maps(blobs.encode_maps({"greedy": relevance}, {"greedy": 21.0}, np.zeros((1, 1))))
    assert read.levels["greedy"].ravel().tolist() == [0, 1, 0, 0]


def header_of(data):
    (length,) = struct.unpack_from("<I", data)
    return json.loads(data[4 : 4 + length]), data[4 + length :]


def with_header(data, **changes):
    header, rest = header_of(data)
    words = json.dumps(header | changes).encode()
    return struct.pack("<I", len(words)) + words + rest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema 1, got 2: upgrade"),
        ({"schema": None}, "schema 1, got None"),
        ({"shape": [1, 1, 2]}, "shape of four"),
        ({"shape": [1 << 20, 4, 84, 84]}, "shape of four"),
        ({"shape": [True, 4, 84, 84]}, "shape of four"),
        ({"shape": "1111"}, "shape of four"),
        ({"pairs": 5}, "one pair for each"),
        ({"pairs": -1}, "one pair for each"),
        ({"pairs": [1]}, "one pair for each"),
        ({"targets": ["greedy", "greedy"]}, "name their targets"),
        ({"targets": [[]]}, "name their targets"),
        ({"scale": {"greedy": 0}}, "name their targets"),
        ({"scale": []}, "name their targets"),
        ({"top": {"greedy": 7}}, "name their targets"),
        ({"top": 0}, "name their targets"),
        ({"coding": "time stack y x"}, "coded as.* another version"),
        ({"q_values": [float("nan")]}, "finite"),
    ],
)
def test_maps_that_are_not_as_they_should_be_are_refused(changes, message):
    data = blobs.encode_maps({"greedy": np.ones((1, 1, 2, 2), np.float32)}, {"greedy": 1.0}, np.zeros((1, 1)))
    with pytest.raises(ValueError, match=message):
        blobs.read_header(with_header(data, **changes))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff\xff\xff\xff{}", b"\x02\x00\x00\x00{}", b"\x04\x00\x00\x00[[[["])
def test_bytes_that_are_no_maps_are_refused(data):
    with pytest.raises(ValueError, match=r"maps must|record"):
        blobs.read_header(data)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"schema":1,"a":NaN}',
        b'{"schema":1,"a":-Infinity}',
        b'{"schema":1,"a":1e999}',
        b'{"schema":1,"a":[ -1.5E+0999]}',
        b'{"schema":1,"a":\n1e999}',
        b'{"schema":1,"a":-%d.0}' % 10**310,
        '{"schema":1}'.encode("utf-16"),
        b"\xff",
        b"1",
        b"",
    ],
)
def test_what_is_no_json_object_with_finite_numbers_is_refused(text):
    with pytest.raises(ValueError, match="a record must be"):
        blobs.parse(text)


def test_words_come_back_and_damaged_or_endless_ones_are_refused():
    words = blobs.encode_words({"schema": 1, "game": "pong"})
    assert blobs.read_words(words) == b'{"schema":1,"game":"pong"}'
    for data, message in [
        (b'{"schema":1}', "another version of rlwatch"),
        (b"no zlib", "packed by zlib"),
        (words[:-9], "a record must be"),
        (zlib.compress(b" " * (1 << 25) + b'{"schema":1}'), "a record must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            blobs.read_words(data)


def test_large_numbers_and_words_like_them_are_read():
    assert blobs.parse(b'{"schema":1,"a":1e300,"b":"1e999"}') == {"schema": 1, "a": 1e300, "b": "1e999"}


def test_maps_with_nan_are_refused():
    ones = np.ones((1, 1, 2, 2), np.float32)
    with pytest.raises(ValueError, match="finite"):
        blobs.encode_maps({"greedy": ones * np.nan}, {"greedy": 1.0}, np.zeros((1, 1)))
    with pytest.raises(ValueError, match="q_values"):
        blobs.encode_maps({"greedy": ones}, {"greedy": 1.0}, np.full((1, 1), np.inf))


def test_fractions_keep_five_digits_and_whole_numbers_all():
    assert blobs.rounded({"a": [1.23456789, 123456789, None, "x"], "b": (1e-9,)}) == {
        "a": [1.2346, 123456789, None, "x"],
        "b": [1e-9],
    }


def test_the_tab_gets_the_frames_of_the_clip_and_what_is_on_them(breakout, maps):
    words, frames = ClipMaker(breakout).blobs(maps).probe
    meta = json.loads(blobs.read_words(words))
    shown = meta["indices"]
    assert len(shown) == 48
    assert (meta["game"], meta["digest"], meta["actions"]) == ("breakout", breakout.digest, list(breakout.actions))
    assert meta["step"] == breakout.step[shown].tolist()
    assert meta["objects"] == list(breakout.masks())
    boxes = breakout.boxes()
    assert [tuple(map(tuple, frame["ball"])) for frame in meta["boxes"]] == [boxes[index]["ball"] for index in shown]
    assert all(some for frame in meta["boxes"] for some in frame.values())
    pooled = screen.pooled_rgb(breakout.screens, breakout.palette)
    assert np.array_equal(decode_frames(frames, meta), pooled[breakout.stack[shown]])


def test_a_network_with_the_full_action_set_gets_the_names_of_the_emulator(breakout, maps):
    full = Maps(np.zeros((len(maps.q_values), 18)), maps.relevance)
    words, _ = ClipMaker(breakout).blobs(full).probe
    assert json.loads(blobs.read_words(words))["actions"] == [action.name for action in ale_py.Action]


def test_the_tab_gets_the_relevance_of_the_clip_on_its_colour_scale(breakout, maps):
    made = ClipMaker(breakout).blobs(maps)
    read = decode_maps(made.maps)
    assert json.loads(blobs.read_words(made.probe[0]))["indices"] == shown_frames(breakout).tolist()
    for target, relevance in maps.relevance.items():
        scale = read.scale[target]
        assert scale == 2.0 ** np.ceil(np.log2(heatmap.proposed_scale(relevance.sum(axis=1))))
        step = scale / read.top
        off = read.levels[target] * step - np.clip(relevance, -scale, scale)
        assert np.abs(off).max() <= step * (1 + 1e-5)
        assert np.abs(off.sum(axis=1)).max() <= step / 2 * (1 + 1e-5)
    assert np.allclose(read.q_values, maps.q_values, rtol=1e-4)


def test_the_scale_of_the_tab_never_shrinks_either(breakout, maps):
    clips = ClipMaker(breakout)
    first = decode_maps(clips.blobs(maps).maps).scale
    faded = Maps(maps.q_values, {name: one * np.float32(0.01) for name, one in maps.relevance.items()})
    assert decode_maps(clips.blobs(faded).maps).scale == first
