import io

import numpy as np
import pytest
from PIL import Image

from rlwatch.pictures.clip import encode_gif


def decoded(gif):
    image = Image.open(io.BytesIO(gif))
    frames, durations = [], []
    for index in range(image.n_frames):
        image.seek(index)
        frames.append(np.asarray(image.convert("RGB")))
        durations.append(image.info["duration"])
    return np.stack(frames), durations, image.info.get("loop")


def noise(shape, colours, seed=0):
    generator = np.random.default_rng(seed)
    indices = generator.integers(0, colours, shape).astype(np.uint8)
    return indices, generator.integers(0, 256, (colours, 3)).astype(np.uint8)


@pytest.mark.parametrize("colours", [1, 2, 17, 255])
def test_every_pixel_comes_back_as_it_was(colours):
    indices, palette = noise((6, 45, 38), colours)

    frames, _, _ = decoded(encode_gif(indices, palette))

    np.testing.assert_array_equal(frames, palette[indices])


def test_a_large_clip_with_small_changes_comes_back_as_it_was():
    indices, palette = noise((1, 300, 200), 255)
    indices = np.repeat(indices, 8, axis=0)
    for index in range(1, 8):
        indices[index:, 10 * index : 10 * index + 3, 190 - index :] = index
        indices[index:, 299, 0] = index

    frames, _, _ = decoded(encode_gif(indices, palette))

    np.testing.assert_array_equal(frames, palette[indices])


def test_a_clip_repeats_for_ever_at_its_pace():
    indices, palette = noise((3, 5, 5), 9)

    _, durations, loop = decoded(encode_gif(indices, palette, milliseconds=70))

    assert durations == [70, 70, 70]
    assert loop == 0


def test_a_frame_that_repeats_the_one_before_keeps_its_time():
    indices, palette = noise((3, 12, 9), 9)
    indices[1] = indices[0]

    frames, durations, _ = decoded(encode_gif(indices, palette))

    assert len(durations) == 3
    np.testing.assert_array_equal(frames, palette[indices])


def test_what_does_not_change_costs_next_to_nothing():
    indices, palette = noise((1, 200, 200), 255)
    still = encode_gif(indices, palette)
    indices = np.repeat(indices, 30, axis=0)
    indices[np.arange(30), 0, np.arange(30)] = 3
    indices[np.arange(30), 199, np.arange(170, 200)] = 3

    assert len(encode_gif(indices, palette)) < len(still) + 30 * 700


def test_frames_may_be_drawn_as_they_are_read():
    indices, palette = noise((4, 20, 20), 50)

    assert encode_gif(iter(list(indices)), palette) == encode_gif(indices, palette)


def test_colours_beyond_255_are_refused():
    with pytest.raises(ValueError, match="at most 255 colours, got 256: use fewer"):
        encode_gif(np.zeros((1, 2, 2), np.uint8), np.zeros((256, 3), np.uint8))


def test_an_entry_without_a_colour_is_refused():
    with pytest.raises(ValueError, match="entries of the 3 colours, got 3"):
        encode_gif(np.array([[[0, 1]], [[2, 3]]], np.uint8), np.zeros((3, 3), np.uint8))


def test_frames_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r"one size, \(2, 2\), got \(2, 3\)"):
        encode_gif([np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)], np.zeros((1, 3), np.uint8))


@pytest.mark.parametrize("frames", [np.zeros((0, 2, 2), np.uint8), np.zeros((1, 0, 2), np.uint8)])
def test_a_clip_without_pixels_is_refused(frames):
    with pytest.raises(ValueError, match="frames must"):
        encode_gif(frames, np.zeros((1, 3), np.uint8))


def test_a_pace_that_browsers_do_not_keep_is_refused():
    with pytest.raises(ValueError, match="at least 20, got 10"):
        encode_gif(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 3), np.uint8), milliseconds=10)
