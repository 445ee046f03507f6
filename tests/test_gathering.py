"""What is kept of maps that come batch after batch is what all of them at once would give."""

import numpy as np
import pytest
import torch

from rlwatch import Probe, explain
from rlwatch.attribution.explain import explain_batches
from rlwatch.measures.drift import traced
from rlwatch.measures.relevance import target_relevance
from rlwatch.measures.sums import pixels, sums
from rlwatch.monitor.gathering import EVERY, Gathering, above_rounding, shown_frames
from tests.fixtures.saved import beginning
from tests.fixtures.watched import Nature


@pytest.fixture(scope="module")
def probe():
    return beginning(Probe.load("breakout"), segments=3)


def asked(probe):
    torch.manual_seed(0)
    return Nature(), torch.from_numpy(probe.observations())


@pytest.mark.parametrize("batch_size", [1, 5, 8, 64])
def test_what_batches_leave_is_what_the_whole_probe_would(probe, batch_size):
    network, observations = asked(probe)
    objects, shown = pixels(dict(probe.each_mask())), np.array([0, 3, 17, len(probe) - 1])
    gathered = Gathering(objects, shown)
    for explained in explain_batches(network, observations, ("contrast",), "epsilon", batch_size=batch_size):
        gathered.add(explained["contrast"])
    whole = explain(network, observations, "epsilon", "contrast")
    relevance, score = above_rounding(whole), whole.score.numpy()
    some, draw = relevance[::EVERY], lambda: np.random.default_rng(1)
    right = target_relevance(sums(relevance, objects), some, score, objects, probe.episode, draw())
    found = gathered.measured(probe.episode, draw())
    for name, one in right.objects.items():
        assert vars(found.objects[name]) == pytest.approx(vars(one), rel=1e-4, nan_ok=True)
    for name in ("stack", "gini", "entropy", "centre", "conservation", "absorbed", "score", "unnamed"):
        assert getattr(found, name) == pytest.approx(getattr(right, name), rel=1e-4), name
    assert vars(found.spot) == pytest.approx(vars(right.spot), rel=1e-4)
    assert gathered.relevance == pytest.approx(relevance[shown], abs=1e-6)
    assert gathered.trace.summed == pytest.approx(traced(some).summed, abs=1e-6)
    assert len(gathered.trace.ranks) == -(-len(probe) // EVERY)


def test_nothing_is_kept_where_no_frame_is_shown(probe):
    network, observations = asked(probe)
    gathered = Gathering({}, np.arange(0))
    gathered.add(explain(network, observations[:4], "epsilon"))
    assert gathered.relevance.shape == (0, 4, 84, 84)


def test_of_a_probe_that_ships_whole_segments_are_shown_from_early_to_late():
    probe = Probe.load("breakout")
    shown = shown_frames(probe)
    assert len(shown) == 48
    assert {0, 15} <= set(probe.segment[shown].tolist())
    assert all((probe.segment[shown] == one).sum() == (probe.segment == one).sum() for one in probe.segment[shown])


@pytest.mark.parametrize(("method", "adds_up"), [("gradient_x_input", True), ("sensitivity", False)])
def test_biases_take_nothing_of_a_score_that_maps_do_not_add_up_to(probe, method, adds_up):
    network, observations = asked(probe)
    gathered, explained = Gathering({}, np.arange(0)), explain(network, observations, method)
    gathered.add(explained)
    absorbed = gathered.measured(probe.episode, np.random.default_rng(0)).absorbed
    assert absorbed == pytest.approx(float(explained.absorbed.mean()), rel=1e-4, nan_ok=True)
    assert np.isnan(absorbed) != adds_up
