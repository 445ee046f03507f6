"""What is sent to the processes of a cluster."""

import pickle

import numpy as np
import torch

from rlwatch import Probe
from rlwatch.monitor.examination import Examination
from rlwatch.questions import Questions
from tests.fixtures.saved import beginning
from tests.fixtures.watched import Nature


def test_what_is_sent_lacks_the_boxes_of_objects_and_says_the_same_of_a_network():
    torch.manual_seed(0)
    probe = beginning(Probe.load("breakout"), segments=2)
    whole = Questions(Examination(Nature(), probe), {}, judge=True, drawn=True)
    data = pickle.dumps(whole.sent())
    assert "placed" in vars(whole.examination.probe)
    assert len(data) < len(pickle.dumps(whole)) - 10**5
    sent = pickle.loads(data)  # noqa: S301 - our own
    assert "placed" not in vars(sent.examination.probe)
    here, there = (one.look(whole.examination.network, actions=True) for one in (whole, sent))
    np.testing.assert_equal(there.validity, here.validity)
    np.testing.assert_equal(there.targets, here.targets)
    for name, maps in here.maps.relevance.items():
        assert np.array_equal(there.maps.relevance[name], maps)
    assert "placed" not in vars(sent.examination.probe)
