"""How alike the maps of two checkpoints are, by hand and by SciPy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from rlwatch.measures.drift import drift, traced


def test_drift_is_signed_and_agrees_with_scipy():
    generator = np.random.default_rng(0)
    now, then = (generator.normal(size=(3, 2, 5, 5)).astype(np.float32) for _ in range(2))
    spearman, cosine = drift(traced(now), traced(then))
    maps = [(a.sum(axis=0).ravel(), b.sum(axis=0).ravel()) for a, b in zip(now, then, strict=True)]
    assert spearman == pytest.approx(np.mean([spearmanr(a, b).statistic for a, b in maps]))
    assert cosine == pytest.approx(np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in maps]), rel=1e-5)
    assert drift(traced(now), traced(-now)) == pytest.approx((-1, -1))


def test_drift_of_a_constant_map_is_not_a_number():
    nowhere, one_pixel = np.zeros((1, 1, 3, 3), np.float32), np.eye(9, dtype=np.float32)[4].reshape(1, 1, 3, 3)
    assert np.isnan(drift(traced(nowhere), traced(one_pixel))).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_drift_is_the_same_at_every_scale(scale):
    generator = np.random.default_rng(0)
    one, other = (traced((scale * generator.normal(size=(8, 4, 6, 6))).astype(np.float32)) for _ in range(2))
    assert drift(one, one) == pytest.approx((1, 1))
    assert abs(drift(one, other)[1]) < 0.9
