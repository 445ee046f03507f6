"""Sums over maps against masks and float64, however many frames are read at a time."""

import itertools

import numpy as np
import pytest

from rlwatch.measures import sums as module
from rlwatch.measures.sums import joined, pixels, pixels_on, sums

GENERATOR = np.random.default_rng(0)
MAPS = GENERATOR.normal(size=(7, 3, 6, 5)).astype(np.float32)
MASKS = {
    "often": GENERATOR.random(MAPS.shape) < 0.3,
    "overlapping": GENERATOR.random(MAPS.shape) < 0.5,
    "rare": (GENERATOR.random(MAPS.shape) < 0.3) & np.isin(np.arange(7), [0, 3, 4])[:, None, None, None],
    "never": np.zeros(MAPS.shape, bool),
}


@pytest.mark.parametrize("frames_at_once", [1, 2, 3, 7, 100])
def test_they_are_those_of_masked_maps_in_double_precision(monkeypatch, frames_at_once):
    monkeypatch.setattr(module, "AT_ONCE", frames_at_once * MAPS[0].nbytes)
    found = sums(MAPS, pixels(MASKS))
    positive, negative = np.maximum(MAPS, 0).astype(np.float64), np.maximum(-MAPS, 0).astype(np.float64)
    assert found.positive == pytest.approx(positive.sum(axis=(2, 3)), rel=1e-6)
    assert found.negative == pytest.approx(negative.sum(axis=(1, 2, 3)), rel=1e-6)
    assert found.picture == pytest.approx(positive.sum(axis=(0, 1)), rel=1e-6)
    beside = positive * ~np.any(list(MASKS.values()), axis=0)
    assert found.beside == pytest.approx(beside.sum(axis=(0, 1)), rel=1e-6)
    for name, mask in MASKS.items():
        assert found.on[name] == pytest.approx((positive * mask).sum(axis=(1, 2, 3)), rel=1e-6)
        assert found.against[name] == pytest.approx((negative * mask).sum(axis=(1, 2, 3)), rel=1e-6)


def test_maps_stay_as_they_are():
    maps = MAPS.copy()
    sums(maps, pixels(MASKS))
    assert np.array_equal(maps, MAPS)


def test_maps_in_another_order_of_memory_have_the_same():
    found, right = (sums(maps, pixels(MASKS)) for maps in (np.asfortranarray(MAPS), MAPS))
    assert found.on["often"] == pytest.approx(right.on["often"])
    assert found.beside == pytest.approx(right.beside)


@pytest.mark.parametrize("cuts", [(0, 3, 7), (0, 1, 2, 7), (0, 7)])
def test_those_of_parts_of_a_probe_make_up_those_of_all(cuts):
    objects = pixels(MASKS)
    parts = [sums(MAPS[one:other], objects, begin=one) for one, other in itertools.pairwise(cuts)]
    found, right = joined(parts), sums(MAPS, objects)
    for name in ("positive", "negative", "picture", "beside"):
        assert getattr(found, name) == pytest.approx(getattr(right, name)), name
    for name in MASKS:
        assert found.on[name] == pytest.approx(right.on[name])
        assert found.against[name] == pytest.approx(right.against[name])


def test_no_frames_have_none():
    assert sums(MAPS[:0], {}).positive.shape == (0, 3)


@pytest.mark.parametrize("frames", [[0, 3, 6], [2], [], range(7)])
def test_pixels_on_some_frames_are_those_of_a_probe_of_these_alone(frames):
    frames = np.array(frames, int)
    right = pixels({name: mask[frames] for name, mask in MASKS.items()})
    for name, where in pixels(MASKS).items():
        found = pixels_on(where, frames, MAPS[0].size)
        assert found.index.tolist() == right[name].index.tolist()
        assert found.area.tolist() == right[name].area.tolist()
