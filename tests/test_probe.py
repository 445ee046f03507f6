"""A probe holds what was recorded, and says where its objects are."""

import numpy as np
import pytest

from rlwatch.atari import objects, screen
from rlwatch.atari.choose import choose, record_probe
from rlwatch.atari.probe import Probe


@pytest.mark.real
def test_the_same_arguments_make_the_same_probe_and_another_seed_another():
    made, again, other = (
        record_probe("pong", steps=1200, seed=seed, segments=4, length=8).digest for seed in (0, 0, 1)
    )
    assert made == again
    assert made != other


@pytest.mark.real
def test_segments_are_runs_of_one_episode_and_no_episode_gives_more_than_an_eighth(probe):
    assert len(probe) == 64
    for segment in range(8):
        own = probe.segment == segment
        assert own.sum() == 8
        assert len(set(probe.episode[own])) == 1
        assert (np.diff(probe.step[own]) == 1).all()
    assert len(set(probe.episode)) == 8
    assert repr(probe) == "<Probe of breakout: 64 observations in 8 segments>"


@pytest.mark.real
def test_a_probe_holds_what_the_recording_holds_at_its_steps(recording, probe):
    steps = [
        int(np.flatnonzero((recording.episode == episode) & (recording.step == step))[0])
        for episode, step in zip(probe.episode, probe.step, strict=True)
    ]
    for name in ("action", "reward", "score", "lives"):
        np.testing.assert_array_equal(getattr(probe, name), getattr(recording, name)[steps])
    stacked = recording.stacks(np.array(steps))
    np.testing.assert_array_equal(
        probe.screens[probe.stack].reshape(-1, 2, 210, 160), recording.screens(stacked.ravel())
    )
    np.testing.assert_array_equal(probe.ram[probe.stack], recording.ram[stacked])
    assert [bytes(state) for state in probe.states[probe.stack[:, -1]]] == recording.states(np.array(steps))


@pytest.mark.real
def test_a_recording_that_is_too_short_is_refused(recording):
    with pytest.raises(ValueError, match=r"expected 500 stretches of 16 steps.*record more steps"):
        choose(recording, segments=500, length=16, generator=np.random.default_rng(0))


@pytest.mark.real
def test_a_mask_is_the_union_over_both_pooled_raw_frames_of_its_own_stacked_frame(probe):
    masks = probe.masks(dilation=1)
    mapped = objects.find("breakout")
    for index, channel in [(0, 0), (5, 3), (20, 1), (40, 2), (63, 3)]:
        frame = probe.stack[index, channel]
        for name in ("ball", "paddle", "bricks"):
            both = [box for raw in (1, 2) for box in mapped.boxes(probe.ram[frame, raw])[name]]
            np.testing.assert_array_equal(masks[name][index, channel], screen.mask(both, 210, dilation=1))
    moving = masks["ball"][:, 0] != masks["ball"][:, 3]
    assert moving.any(axis=(1, 2)).mean() > 0.9


@pytest.mark.real
def test_boxes_are_those_of_the_newest_raw_frame(probe):
    for boxes, frame in zip(probe.boxes(), probe.stack[:, -1], strict=True):
        assert boxes == objects.find("breakout").boxes(probe.ram[frame, 2])


@pytest.mark.real
def test_an_object_is_visible_where_a_stacked_frame_holds_a_pixel_of_it(probe):
    masks = probe.masks(dilation=0)
    assert probe.visible() == {name: int(mask.any(axis=(1, 2, 3)).sum()) for name, mask in masks.items()}


@pytest.mark.real
def test_a_game_without_a_map_has_the_objects_that_stand_out_from_its_background():
    probe = record_probe("freeway", steps=400, segments=4, length=8)
    assert {"moving-1", "moving-2"} <= set(probe.masks())
    assert all(set(boxes) == set(probe.masks()) for boxes in probe.boxes())
    assert probe.visible() == {name: int(mask.any(axis=(1, 2, 3)).sum()) for name, mask in probe.masks().items()}
    assert probe.contact_sheet().ndim == 3


@pytest.mark.real
def test_a_probe_of_a_taller_screen_works(tmp_path):
    probe = record_probe("journey_escape", steps=400, segments=4, length=8)
    probe.save(tmp_path / "tall.npz")
    assert Probe.load(tmp_path / "tall.npz").rgb().shape == (32, 230, 160, 3)


@pytest.mark.real
def test_arrays_are_read_only(probe):
    for name, array in probe.arrays().items():
        assert not array.flags.writeable, name
