"""What a report says where names and lifts do not tell it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rlwatch import Probe, Watch
from rlwatch.measures.drift import traced
from rlwatch.measures.relevance import beside_objects, target_relevance
from rlwatch.measures.sums import pixels, sums
from rlwatch.monitor.comparison import Comparison, Look, Maps
from rlwatch.tensorboard.plugin.still import write_report
from tests.fixtures.browser import wait
from tests.fixtures.saved import small_probe


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    return Probe.load(small_probe(tmp_path_factory.mktemp("notes"), segments=3))


class Small(nn.Module):
    """A network that sees what lies under a mask."""

    def __init__(self, rows=slice(None), columns=slice(None)):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Flatten(), nn.Linear(3200, 4))
        self.rows, self.columns = rows, columns

    def forward(self, x):
        mask = torch.zeros_like(x, dtype=torch.float32)
        mask[..., self.rows, self.columns] = 1
        return self.body((x.float() / 255 + 0.2) * mask)


def reported(network, probe, folder, **settings):
    watch = Watch(network, probe, logdir=folder, every=1, **settings)
    reports = [watch(0)]
    with torch.no_grad():
        network.body[3].bias.add_(0.1)
    reports.append(watch(1))
    watch.close()
    return reports[-1]


def test_a_clever_hans_that_reads_a_place_without_a_name_is_told(tmp_path, probe):
    report = reported(Small(slice(46, 58), slice(34, 46)), probe, tmp_path)
    greedy = report.targets["greedy"]
    assert greedy.unnamed > 0.9
    assert max(one.lift for one in greedy.objects.values()) < 2
    assert greedy.spot.share > 1 / 3
    assert 46 <= greedy.spot.y < 58
    assert 34 <= greedy.spot.x < 46
    assert "belongs to no object, around line 5" in report.notes[0]
    assert report.notes[0] in report.markdown()
    assert "rlwatch/map/greedy/unnamed" in report.scalars()


def test_the_tab_says_it_in_its_first_sentence(tmp_path, probe, browser):
    reported(Small(slice(46, 58), slice(34, 46)), probe, tmp_path / "log")
    out = tmp_path / "report.html"
    write_report(tmp_path / "log", out)
    browser.get(out.as_uri())
    told = wait(lambda: [one.text for one in browser.find_elements("css selector", ".headline") if "step" in one.text])
    assert "the value rests on a place that belongs to no object: " in told[0]
    assert "around line 5" in told[0]


def test_a_network_that_stands_still_is_told_as_one_that_is_not_trained_any_more(tmp_path, probe):
    network = Small()
    watch = Watch(network, probe, logdir=tmp_path, every=1)
    notes = [watch(step).notes for step in (0, 1000)]
    network.load_state_dict({name: 0.9 * value for name, value in network.state_dict().items()})
    notes.append(watch(2000).notes)
    watch.close()
    assert [len(told) for told in notes] == [0, 1, 0]
    assert "no Q-value has changed since step 0:" in notes[1][0]


def test_a_network_that_looks_everywhere_has_no_such_note(tmp_path, probe):
    assert reported(Small(), probe, tmp_path).notes == ()


def test_q_values_that_nothing_in_the_frames_raises_are_told(tmp_path, probe):
    network = Small()
    nn.init.zeros_(network.body[3].weight)
    report = reported(network, probe, tmp_path)
    assert report.notes[0].startswith("no map of the value holds positive relevance")
    assert "nan" not in report.markdown()


def test_a_choice_between_equal_actions_rests_on_nothing(tmp_path, probe):
    network = Small()
    with torch.no_grad():
        network.body[3].weight[:] = network.body[3].weight[0].abs()
        network.body[3].bias[:] = 0.1
    report = reported(network, probe, tmp_path)
    assert all(math.isnan(one.lift) for one in report.targets["contrast"].objects.values())
    assert not [finding for finding in report.findings if finding.target == "contrast"]
    assert report.notes == (
        "no map of the choice holds positive relevance: nothing in the frames speaks for the best action",
    )


def test_maps_by_another_method_say_why_and_a_resumed_run_goes_on_from_them(tmp_path, probe):
    class Odd(Small):
        def forward(self, x):
            return torch.erf(super().forward(x))

    options = {"fallback": "gradient_x_input"}
    with pytest.warns(RuntimeWarning, match="erf"):
        report = reported(Odd(), probe, tmp_path, options=options)
    assert report.method == "gradient_x_input"
    assert "erf" in report.notes[0]
    with pytest.warns(RuntimeWarning, match="erf"):
        Watch(Odd(), probe, logdir=tmp_path, options=options, purge_step=2).close()


@pytest.mark.parametrize("strength", [0, 1])
def test_positive_relevance_in_any_frame_is_enough_for_maps_not_to_be_called_silent(strength):
    relevance, table = np.zeros((3, 1, 14, 14), np.float32), np.ones((3, 2), np.float32)
    relevance[2, 0, 4] = strength
    generator, episodes = np.random.default_rng(0), np.zeros(3, int)
    measured = target_relevance(sums(relevance, {}), relevance[:1], np.ones(3), {}, episodes, generator)
    look = Look(table, Maps(table, {}), {"greedy": measured}, {"greedy": traced(relevance)}, "epsilon", {}, {})
    silent = [note for note in Comparison("breakout", "abc").follow(0, look).notes if "no map of the value" in note]
    assert len(silent) == (not strength)


def test_what_lies_beside_objects_by_hand():
    positive = np.zeros((2, 1, 14, 14), np.float32)
    positive[0, 0, 3, 4], positive[1, 0, 3, 5], positive[1, 0, 10, 10] = 2, 1, 1
    mask = np.zeros(positive.shape, bool)
    mask[:, :, 10, 10] = True
    unnamed, spot = beside_objects(sums(positive, pixels({"thing": mask})))
    assert unnamed == 0.75
    assert (spot.y, spot.x, spot.share) == (2.5, 4.5, 0.75)
    assert math.isnan(beside_objects(sums(np.zeros_like(positive), {}))[0])
