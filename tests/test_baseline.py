import math

import numpy as np
import pytest
import torch

from rlwatch.atari.probe import Probe
from rlwatch.attribution.explain import explain
from rlwatch.attribution.randomise import untrained
from rlwatch.measures.onset import threshold
from rlwatch.measures.relevance import ObjectRelevance, object_relevance
from rlwatch.measures.sums import pixels
from rlwatch.monitor.baseline import merged, part_of_probe
from rlwatch.monitor.examination import Examination
from rlwatch.offline import explain_checkpoints
from tests.fixtures.saved import save_checkpoints, save_two_kinds, small_probe, without_cost
from tests.fixtures.watched import Nature


def masks(seen, frames=80, generator=None):
    """A mask of two to five pixels in each of the frames in `seen`."""
    generator = generator or np.random.default_rng(0)
    mask = np.zeros((frames, 2, 3, 4), bool)
    for frame in seen:
        mask[frame].reshape(-1)[generator.integers(24, size=5)] = True
    return mask


def test_the_baseline_is_of_every_fourth_frame_and_of_all_with_an_object_that_few_of_these_show():
    often, rare = masks(range(80)), masks([1, 2, 8])
    frames, objects = part_of_probe(pixels({"often": often, "rare": rare}), often.shape)
    assert frames.tolist() == sorted({*range(0, 80, 4), 1, 2, 8})
    for name, mask in {"often": often, "rare": rare}.items():
        assert np.array_equal(objects[name].index, np.flatnonzero(mask[frames]))
        assert np.array_equal(objects[name].area, mask[frames].sum(axis=(1, 2, 3)))


def test_of_a_short_probe_it_is_of_all_frames():
    frames, _ = part_of_probe(pixels({"often": masks(range(40), frames=40)}), (40, 2, 3, 4))
    assert frames.tolist() == list(range(40))


def test_without_objects_it_is_of_every_fourth_frame():
    assert part_of_probe({}, (8, 2, 3, 4))[0].tolist() == [0, 4]


def drawn(lift, share):
    """What one freshly drawn network says of one object."""
    return {"greedy": {"ball": ObjectRelevance(lift, math.nan, math.nan, share, 0.5, 2.0, 10)}}


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_fresh_network_whose_maps_hold_nothing_positive_does_not_take_the_baseline_from_the_others(order):
    twins = [drawn(math.nan, math.nan), drawn(3.0, 0.2), drawn(5.0, 0.4)]
    ball = merged([twins[one] for one in order])["greedy"]["ball"]
    assert (ball.lift, ball.low, ball.high) == (4, 3, 5)
    assert ball.share == pytest.approx(0.3)
    assert threshold(ball) == 10
    nothing = merged([drawn(math.nan, math.nan)] * 3)["greedy"]["ball"]
    assert np.isnan([nothing.lift, nothing.low, nothing.high, nothing.share]).all()


@pytest.mark.parametrize("game", ["breakout", "pong"])
def test_what_a_twin_says_is_what_explain_says_of_these_frames_of_it(game):
    probe = Probe.load(game)
    network = Nature(actions=len(probe.actions))
    found = Examination(network, probe, method="epsilon").twin(1)["greedy"]
    shown = dict(probe.each_mask(dilation=1))
    frames, _ = part_of_probe(pixels(shown), (*probe.stack.shape, *probe.size))
    observations = torch.from_numpy(probe.observations()[frames])
    relevance = explain(untrained(network, 1), observations, method="epsilon").relevance
    objects = pixels({name: mask[frames] for name, mask in shown.items()})
    right = object_relevance(relevance.numpy(), objects, probe.episode[frames], np.random.default_rng(0))
    assert len(frames) < len(probe) / 3
    for name, one in right.items():
        assert found[name].lift == pytest.approx(one.lift, rel=1e-4)
        assert found[name].frames == one.frames


def test_a_setting_that_is_given_per_frame_is_cut_to_these_frames():
    probe = Probe.load("breakout")
    start = torch.from_numpy(probe.observations()).float() / 510
    settings = {"method": "integrated_gradients", "twins": 1}
    each = Examination(Nature(), probe, options={"steps": 2, "baseline": start}, **settings)
    frames, _ = part_of_probe(each.objects, (*probe.stack.shape, *probe.size))
    moved = start.clone()
    moved[np.setdiff1d(np.arange(len(probe)), frames)] = 0
    other = Examination(each.network, probe, options={"steps": 2, "baseline": moved}, **settings)
    assert repr(other.twin(0)) == repr(each.twin(0))
    moved[frames] = 0
    assert repr(other.twin(0)) != repr(each.twin(0))


def test_each_of_several_trainings_is_held_against_fresh_networks_of_its_own_kind(tmp_path):
    folders, settings = save_two_kinds(tmp_path), {"probe": small_probe(tmp_path), "method": "epsilon"}
    apart = [without_cost(explain_checkpoints([one], **settings)) for one in folders]
    assert without_cost(explain_checkpoints(folders, **settings)) == apart[0] + apart[1]
    assert apart[0][0]["untrained"] != apart[1][0]["untrained"]


def test_trainings_of_one_kind_of_network_share_its_fresh_networks(tmp_path, monkeypatch):
    folders = [save_checkpoints(tmp_path / name, 1) for name in ("one", "two")]
    drawn, draw = [], Examination.untrained_baseline
    monkeypatch.setattr(Examination, "untrained_baseline", lambda *asked: drawn.append(asked) or draw(*asked))
    told = without_cost(explain_checkpoints(folders, probe=small_probe(tmp_path), method="epsilon"))
    assert len(drawn) == 1
    assert told[0]["untrained"] == told[1]["untrained"]
