"""What is refused when a monitor is attached, and what a training may hand it."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from rlwatch import Probe, Watch
from rlwatch.attribution import explain
from rlwatch.monitor.faults import Fault
from tests.fixtures.saved import small_probe
from tests.fixtures.watched import Nature


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    return Probe.load(small_probe(tmp_path_factory.mktemp("attaching"), segments=3))


WRONG = {
    "seed=-1": (ValueError, "at least 0"),
    "seed=2**64": (ValueError, "below 2"),
    "purge_step=-1": (ValueError, "purge_step must be at least 0"),
    "purge_step=2.5": (TypeError, "purge_step: a step must be a whole number"),
    "purge_step='a'": (TypeError, "purge_step: a step must be a whole number"),
    "options=3": (TypeError, "options must be a dict"),
    "observe=3": (TypeError, "observe must be a function"),
    "observe=lambda frames: frames / missing": (ValueError, "observe= must take uint8 frames of shape .* NameError"),
    "game=3": (TypeError, "game='Breakout'|game='breakout'"),
    "logdir=3": (TypeError, "logdir must be a folder"),
    "logdir=''": (ValueError, "logdir must name a folder"),
    "every=1.5": (ValueError, "whole number of steps"),
    "total_steps=1.5": (ValueError, "whole number of steps"),
}


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_is_refused_with_a_remedy(tmp_path, monkeypatch, probe, setting):
    monkeypatch.chdir(tmp_path)
    kind, said = WRONG[setting]
    settings = {"logdir": "log"} | eval(f"dict({setting})")  # noqa: S307
    with pytest.raises(kind, match=said):
        Watch(Nature(), probe, **settings)
    assert not list(tmp_path.glob("*tfevents*"))


class Returns(nn.Module):
    """A network whose outputs `wrap` makes."""

    def __init__(self, wrap):
        super().__init__()
        self.inner, self.wrap = Nature(), wrap

    def forward(self, x):
        return self.wrap(self.inner(x))


def test_of_a_dict_the_q_values_count_wherever_they_stand(tmp_path, probe):
    torch.manual_seed(0)
    network = Returns(lambda q_values: {"behaviour_logits": -q_values, "Q": q_values})
    frames = torch.from_numpy(probe.observations(2))
    assert torch.equal(explain(network, frames).q_values, explain(network.inner, frames).q_values)
    watch = Watch(network, probe, logdir=tmp_path, every=1)
    report = watch(0)
    watch.close()
    with torch.no_grad():
        expected = network.inner(torch.from_numpy(probe.observations())).amax(1).mean()
    assert report.q.greedy == pytest.approx(float(expected))
    with pytest.raises(ValueError, match=r"'policy', 'value', none of which is called 'q_values'.*pass Read\("):
        explain(Returns(lambda q_values: {"policy": q_values, "value": q_values}), frames)


def test_quantiles_that_a_dict_calls_q_are_refused_with_the_table_beside_them(probe):
    network = Returns(lambda q_values: {"logit": q_values, "q": q_values[..., None].expand(-1, -1, 8)})
    with pytest.raises(
        ValueError, match=r"got 'q' of shape \(2, 4, 8\) and beside it 'logit'.*network\(frames\)\['logit'\]"
    ):
        explain(network, torch.from_numpy(probe.observations(2)))


def test_the_first_of_several_heads_is_taken_and_told_once(caplog, probe):
    frames = torch.from_numpy(probe.observations(2))
    heads = Returns(lambda q_values: [q_values, q_values + 1, q_values + 2])
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        asked = [explain(heads, frames).q_values for _ in range(2)]
        explain(Returns(lambda q_values: (q_values, q_values.new_zeros(2, 512))), frames)
    assert torch.equal(asked[0], explain(heads.inner, frames).q_values)
    assert caplog.text.count("returns 3 tables of one shape, and the first is taken") == 1
    assert len(caplog.records) == 1


def test_a_network_that_asserts_without_a_word_is_tried_in_the_other_views(tmp_path, probe):
    class Asserting(Nature):
        def forward(self, x):
            assert x.dtype == torch.float32
            return self.body(x)

    Watch(Asserting(), probe, logdir=tmp_path).close()


def test_a_network_that_resizes_is_told_of(tmp_path, caplog, probe):
    class Resizing(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(4, 4, 8, 4), nn.ReLU(), nn.Flatten(), nn.Linear(324, 4))

        def forward(self, x):
            return self.body(functional.interpolate(x.float() / 255, (42, 42), mode="bilinear"))

    Watch(Resizing(), probe, logdir=tmp_path).close()
    assert "asked about the probe's own of 42 × 42" in caplog.text


def test_a_distribution_is_refused_with_the_way_to_hand_over_its_mean(tmp_path, probe):
    network = nn.Sequential(nn.Conv2d(4, 4, 8, 4), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 204))
    with pytest.raises(ValueError, match=r"the network has 204: .*Read\(q_network"):
        Watch(network, probe, logdir=tmp_path, observe=lambda frames: frames.float() / 255)


def test_returns_come_in_every_form_in_which_trainings_hold_them(tmp_path, caplog, probe):
    watch = Watch(Nature(), probe, logdir=tmp_path, every=1)
    for step, value in enumerate((1, 1.0, np.float32(1), np.array([1.0]), torch.tensor([1.0]))):
        watch.returns(step, value)
        assert watch(step).returns == 1
    watch.returns(9, np.array([1.0, 2.0]))
    watch.close()
    assert caplog.text.count("of a return") == 1


def test_a_fault_that_differs_by_a_number_is_told_once(tmp_path, caplog, probe):
    watch = Watch(Nature(), probe, logdir=tmp_path, every=1)
    for step in range(3):
        watch._faults.tell(Fault(f"step {step}", f"the disk took {1000 + step} of 2000 bytes"))
    watch.close()
    assert caplog.text.count("the disk took") == 1


@pytest.mark.usefixtures("types_unchecked")
def test_a_handler_that_raises_does_not_end_the_training(tmp_path, monkeypatch, probe):
    watch = Watch(Nature(), probe, logdir=tmp_path, every=1)
    told = []
    monkeypatch.setattr(logging.getLogger("rlwatch"), "handle", lambda record: told.append(record) or 1 / 0)
    assert watch("no step") is None
    watch.close()
    assert len(told) == 1


def test_a_training_in_inference_mode_gets_its_checks(tmp_path, caplog, probe):
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        watch = Watch(Nature(), probe, logdir=tmp_path, every=1)
        report = watch(0)
        watch.close()
    assert report.trust
    assert not caplog.text
