"""One checkpoint after the other, on Breakout's probe."""

import logging
import math

import numpy as np
import pytest
import torch

from rlwatch import Probe, explain
from rlwatch.monitor.clips import ClipMaker
from rlwatch.monitor.examination import Examination
from rlwatch.pictures.heatmap import proposed_scale
from tests.fixtures.watched import Coarse, Nature, SeesOnePixel


@pytest.fixture(scope="module")
def probe():
    return Probe.load("breakout")


@pytest.fixture(scope="module")
def learning(probe):
    """The reports of an agent that comes to see one pixel of the wall between its first and its second checkpoint."""
    examination = Examination(Nature(), probe, method="epsilon")
    examination.comparison.baseline = examination.untrained_baseline()
    blind, seeing = Nature(), SeesOnePixel()
    return [report_of(examination, network, step) for step, network in ((0, blind), (10, seeing), (20, seeing))]


def report_of(examination, network, step):
    """The report of a network that has taken the place of the one before, as one that trains does."""
    examination.network = network
    return examination.report(step)


def test_what_an_agent_comes_to_look_at_is_found_and_dated_to_its_first_checkpoint(learning):
    assert not [finding for finding in learning[1].findings if finding.object == "walls"]
    found = [finding for finding in learning[2].findings if finding.object == "walls" and finding.target == "greedy"]
    assert [finding.step for finding in found] == [10]
    assert found[0].text.startswith("from step 10 the agent looks at the walls: lift")


def test_churn_and_drift_compare_with_the_checkpoint_before(learning):
    assert math.isnan(learning[0].q.churn)
    assert learning[2].q.churn == 0
    assert math.isnan(learning[0].targets["greedy"].drift_cosine)
    assert learning[2].targets["greedy"].drift_cosine == pytest.approx(1)
    assert learning[1].targets["greedy"].drift_cosine < 0.5


def test_the_baseline_is_of_fresh_copies_whatever_the_network_has_learnt(probe):
    torch.manual_seed(0)
    trained = SeesOnePixel()
    examination = Examination(trained, probe, method="epsilon", twins=2)
    examination.comparison.baseline = examination.untrained_baseline()
    paddle = examination.comparison.baseline["greedy"]["paddle"]
    assert 0 < paddle.low <= paddle.lift <= paddle.high
    assert examination.report(0).targets["greedy"].objects["paddle"].lift == 0


@pytest.mark.parametrize(("method", "options"), [("epsilon", {}), ("integrated_gradients", {"steps": 2})])
def test_a_look_made_of_batches_is_the_same_to_the_bit(probe, method, options):
    torch.manual_seed(0)
    examination = Examination(Nature(), probe, method=method, options={**options, "batch_size": 100})
    whole = examination.look()
    parts = examination.look(parts=[examination.part(begin) for begin in examination.batches])
    assert list(examination.batches) == [0, 100, 200]
    assert repr(parts.targets) == repr(whole.targets)
    for target, relevance in whole.maps.relevance.items():
        assert np.array_equal(parts.maps.relevance[target], relevance)
    assert parts.cost.keys() == whole.cost.keys()


def test_a_plain_function_is_examined_without_a_baseline(probe, caplog):
    network = Nature()
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        examination = Examination(network.forward, probe)
        examination.untrained_baseline()
    report = examination.report(0)
    assert "no untrained baseline" in caplog.text
    assert report.untrained == {}
    assert report.findings == ()
    assert report.rows("greedy")[0][3] == "-"


def test_the_full_action_set_is_taken_and_any_other_count_refused(probe):
    Examination(Nature(actions=18), probe)
    with pytest.raises(ValueError, match=r"has 4 actions .* the network has 7"):
        Examination(Nature(actions=7), probe)


def test_a_network_that_turns_into_another_shape_is_refused_with_what_was_expected(probe):
    examination = Examination(Nature(), probe)
    with pytest.raises(ValueError, match="the network has 6"):
        report_of(examination, Nature(actions=6), 1)


def test_greedy_actions_of_another_action_set_are_not_compared(probe):
    examination = Examination(Nature(), probe)
    first, other, again = (report_of(examination, Nature(actions=n), step) for step, n in enumerate((4, 18, 18)))
    assert math.isnan(other.q.churn)
    assert other.notes[0] == "the network has 18 actions, 4 at the checkpoint before: their churn is not known"
    assert not math.isnan(again.q.churn)
    assert not [note for note in (*first.notes, *again.notes) if "actions" in note]


def test_the_colour_scale_of_a_run_grows_and_never_shrinks(probe):
    clips, generator = ClipMaker(probe), np.random.default_rng(0)
    weak = generator.normal(size=(8, 84, 84)).astype(np.float32)
    first = clips._scale("greedy", weak)
    assert proposed_scale(weak) <= first < 2 * proposed_scale(weak)
    assert clips._scale("greedy", 100 * weak) > 50 * first
    assert clips._scale("greedy", weak) > 50 * first


def test_a_setting_that_is_given_per_frame_is_cut_for_every_action_and_for_the_checks(probe):
    torch.manual_seed(0)
    network, frames = Coarse(), torch.from_numpy(probe.observations())
    start = frames.float() / 510

    def examined(baseline):
        options = {"steps": 2, "baseline": baseline}
        return Examination(network, probe, method="integrated_gradients", options=options)

    each = examined(start)
    shown = torch.from_numpy(each.shown)
    right = explain(network, frames[shown], "integrated_gradients", "all", steps=2, baseline=start[shown])
    maps = each.every_action()
    for action in range(len(probe.actions)):
        assert maps.relevance[f"action={action}"] == pytest.approx(right.relevance[:, action].numpy(), abs=1e-7)
    figures, _ = each.figures()
    moved = start.clone()
    moved[np.setdiff1d(np.arange(len(probe)), each._sample.chosen)] = 0
    assert repr(examined(moved).figures()[0]) == repr(figures)
    assert repr(examined(0 * start).figures()[0]) != repr(figures)
