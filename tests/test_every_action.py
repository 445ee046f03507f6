"""The maps of every action: in the log where the budget and the log allow, and the same as those of `explain`."""

import logging

import numpy as np
import pytest
import torch

from rlwatch import Probe, Watch, explain
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.gathering import shown_frames
from rlwatch.monitor.schedule import Schedule
from rlwatch.offline import explain_checkpoints
from rlwatch.tensorboard import blobs, tags
from tests.fixtures.blobs import decode_maps
from tests.fixtures.saved import beginning, save_checkpoints
from tests.fixtures.watched import Nature, read

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def probe():
    """The first four stretches of Breakout's."""
    return beginning(Probe.load("breakout"), segments=4)


def network(seed=0, actions=4):
    torch.manual_seed(seed)
    return Nature(actions)


def logged(folder):
    """By step, the maps of every action that a log has."""
    found = read(folder)
    events = found.Tensors(blobs.ACTIONS) if blobs.ACTIONS in found.Tags()["tensors"] else []
    return {event.step: decode_maps(event.tensor_proto.string_val[0]) for event in events}


def told(folder):
    """By step, whether its newest report says that the log has the maps of every action."""
    records = [blobs.parse(event.tensor_proto.string_val[0]) for event in read(folder).Tensors(blobs.REPORT)]
    return {record["step"]: record["all_actions"] for record in records}


def expected(one, probe):
    observations = torch.from_numpy(probe.observations())[torch.from_numpy(shown_frames(probe))]
    return explain(one, observations, target="all")


@pytest.mark.parametrize("where", ["inline", "process"])
def test_the_first_and_the_last_checkpoint_log_what_explain_says_of_every_action(tmp_path, probe, where):
    one = network()
    watch = Watch(one, probe, logdir=tmp_path, every=10, where=where)
    watch(0)
    watch.finish(0 if where == "process" else 10)
    watch.close()
    found, right = logged(tmp_path), expected(one, probe)
    assert set(found) == ({0} if where == "process" else {0, 10})
    for read_back in found.values():
        assert list(read_back.levels) == [f"action={action}" for action in range(4)]
        assert len(set(read_back.scale.values())) == 1
        assert any(levels.any() for levels in read_back.levels.values())
        np.testing.assert_allclose(read_back.q_values, right.q_values.detach(), rtol=1e-4, atol=1e-7)
        for action in range(4):
            name = f"action={action}"
            scale, step = read_back.scale[name], read_back.scale[name] / read_back.top
            clipped = right.relevance[:, action].numpy().clip(-scale, scale)
            off = read_back.levels[name] * step - clipped
            assert np.abs(off).max() <= step * 1.001
            assert np.abs(off.sum(axis=1)).max() <= step / 2 * 1.001
    assert all(told(tmp_path).values())


def test_their_colour_scale_is_at_least_that_of_the_greedy_target_and_leaves_no_action_out(tmp_path, probe):
    one = network()
    with torch.no_grad():
        one.body[-1].weight[3] *= -30
        one.body[-1].bias[3] = -5  # never the best action, and with maps far beyond those of the best
    watch = Watch(one, probe, logdir=tmp_path, every=10)
    watch(0)
    watch.close()
    summed = expected(one, probe).relevance.sum(2).numpy()
    scale = logged(tmp_path)[0].scale["action=3"]
    (event,) = read(tmp_path).Tensors(blobs.MAPS)
    assert scale > 4 * decode_maps(event.tensor_proto.string_val[0]).scale["greedy"]
    assert (np.abs(summed) <= scale).mean() > 0.998


def test_between_they_are_logged_where_the_budget_has_room_and_cost_is_accounted(tmp_path, probe, monkeypatch):
    monkeypatch.setattr(Schedule, "room", lambda _, part: part == "actions")
    watch = Watch(network(), probe, logdir=tmp_path, every=10, budget=1.0)
    reports = [watch(0), watch(10)]
    spent = watch.cost
    watch.close()
    assert set(logged(tmp_path)) == {0, 10}
    assert reports[1].all_actions
    assert not reports[1].validity
    assert spent > 0
    costs = {event.step: event.value for event in read(tmp_path).Scalars("rlwatch/cost/actions")}
    assert costs.keys() == {0, 10}
    assert all(0 < seconds < 30 for seconds in costs.values())
    assert costs[10] == pytest.approx(reports[1].cost["actions"])
    assert tags.description("rlwatch/cost/actions").startswith("Seconds of wall clock")


def test_a_budget_that_is_too_small_leaves_them_out_and_the_training_goes_on(tmp_path, probe):
    one = network()
    watch = Watch(one, probe, logdir=tmp_path, every=10, budget=1e-6)
    middle = [watch(step) for step in (0, 10, 20)][1:]
    assert all(report is not None and not report.all_actions for report in middle)
    assert told(tmp_path) == {0: True, 10: False, 20: False}
    watch.finish(20)  # which is the last one now, and gets everything
    watch.close()
    assert set(logged(tmp_path)) == {0, 20}
    assert told(tmp_path) == {0: True, 10: False, 20: True}


def test_of_many_checkpoints_ever_fewer_have_them_for_the_log_is_not_endless(tmp_path, probe, monkeypatch):
    monkeypatch.setattr("rlwatch.watch.ACTIONS_LOGGED", 8)
    monkeypatch.setattr(Schedule, "room", lambda _, part: part == "actions")
    watch = Watch(network(), probe, logdir=tmp_path, every=1, method="gradient_x_input")
    for step in range(6):
        watch(step)
    watch.close()
    assert set(logged(tmp_path)) == {0, 1, 3, 5}


def test_where_they_fail_the_checkpoint_is_logged_without_them(tmp_path, probe, monkeypatch, caplog):
    def failing(*_):
        raise RuntimeError("made to fail")

    monkeypatch.setattr(Examination, "every_action", failing)
    watch = Watch(network(), probe, logdir=tmp_path, every=10)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        report = watch(0)
    watch.close()
    assert report.validity
    assert not report.all_actions
    assert logged(tmp_path) == {}
    assert caplog.text.count("about the maps of every action (RuntimeError: made to fail)") == 1


def test_explain_logs_them_too_and_only_into_a_log(tmp_path, probe):
    files = sorted(save_checkpoints(tmp_path / "checkpoints", 2).iterdir())
    probe.save(tmp_path / "probe.npz")
    reports = list(explain_checkpoints(files, probe=tmp_path / "probe.npz", logdir=tmp_path / "log"))
    found, right = logged(tmp_path / "log"), expected(network(1), probe)
    assert set(found) == {0, 100}
    step = found[100].scale["action=2"] / found[100].top
    scale = found[100].scale["action=2"]
    clipped = right.relevance[:, 2].numpy().clip(-scale, scale)
    off = found[100].levels["action=2"] * step - clipped
    assert np.abs(off).max() <= step * 1.001
    assert np.abs(off.sum(axis=1)).max() <= step / 2 * 1.001
    assert all(report.all_actions and report.cost["actions"] > 0 for report in reports)
    (unlogged,) = explain_checkpoints(files[:1], probe=tmp_path / "probe.npz")
    assert not unlogged.all_actions
    assert "actions" not in unlogged.cost


def test_a_log_of_eighteen_actions_stays_small(tmp_path):
    watch = Watch(network(actions=18), "breakout", logdir=tmp_path, every=10)
    watch(0)
    watch.close()
    (event,) = read(tmp_path).Tensors(blobs.ACTIONS)
    assert len(event.tensor_proto.string_val[0]) <= 18 * 20_000
    assert len(logged(tmp_path)[0].levels) == 18
