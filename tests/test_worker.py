"""The monitor in a process of its own: the same numbers, and what it survives."""

import logging
import math
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from rlwatch import Watch
from tests.fixtures.saved import small_probe
from tests.fixtures.watched import Coarse, read, tags, words

pytestmark = pytest.mark.real


def network(seed=0):
    torch.manual_seed(seed)
    return Coarse()


def redrawn(one, seed):
    one.load_state_dict(network(seed).state_dict())


def report_of(watch, step):
    """The report of a step, once it has come back."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        report = watch(step)
        if report is not None:
            return report
        time.sleep(0.02)
    raise AssertionError(f"no report of step {step} within two minutes")


def told(report):
    record = report.as_json()
    return {key: record[key] for key in record.keys() - {"cost"}}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    return small_probe(tmp_path_factory.mktemp("probe"))


@pytest.fixture
def attach(tmp_path, probe):
    attached = []

    def make(asked, **settings):
        log = {} if "writer" in settings else {"logdir": tmp_path}
        attached.append(Watch(asked, probe, every=1, where="process", **(log | settings)))
        return attached[-1]

    yield make
    for watch in attached:
        watch.close()


@pytest.mark.parametrize("asked", ["module", "function"])
def test_the_numbers_are_those_of_the_monitor_within_the_training(tmp_path, attach, probe, asked):
    one = network()
    callable_ = one if asked == "module" else lambda observations: one.body(observations.float() / 255)
    there, here = attach(callable_), Watch(callable_, probe, logdir=tmp_path / "here", every=1)
    for step, seed in enumerate((1, 2)):
        redrawn(one, seed)
        expected = here(step)
        assert told(report_of(there, step)) == told(expected)
    expected = here.finish(2)
    assert told(there.finish(2)) == told(expected)
    assert there.finish(2) is None
    here.close()
    there.close()
    assert tags(tmp_path) == tags(tmp_path / "here")
    lifts = [
        [event.value for event in read(folder).Scalars("rlwatch/lift/greedy/ball")]
        for folder in (tmp_path, tmp_path / "here")
    ]
    assert lifts[0] == lifts[1]
    assert len(lifts[0]) == 3


@pytest.fixture
def doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("doubles")
def test_floats_are_of_the_type_that_the_training_makes(attach):
    one = network()
    assert report_of(attach(lambda observations: one.body(observations / 255)), 0).q.greedy


def test_the_training_goes_on_while_a_checkpoint_is_made(attach):
    watch = attach(network())
    assert watch(0) is None
    calls = 0
    while watch(1) is None:
        calls += 1
    assert calls > 1000  # none of them has waited
    assert watch.cost < 1


def test_a_shared_writer_gets_what_the_other_process_has_made(tmp_path, attach):
    writer = SummaryWriter(tmp_path)
    report_of(attach(network(), writer=writer), 0)
    writer.add_scalar("train/return", 3.0, 1)
    writer.close()
    assert {"train/return", "rlwatch/lift/greedy/ball", "rlwatch/clip/contrast"} <= tags(tmp_path)


def pid(watch):
    return watch._place._process.pid


def test_a_worker_that_is_killed_starts_again_once_and_knows_what_was_before(tmp_path, attach, caplog):
    watch = attach(network())
    first = report_of(watch, 0)
    os.kill(pid(watch), signal.SIGKILL)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        while "status -9: a new one has started" not in caplog.text:
            assert watch(1) is None
            time.sleep(0.05)
        second = report_of(watch, 2)
    assert second.untrained.keys() == first.untrained.keys()
    assert second.untrained["greedy"]["ball"] == first.untrained["greedy"]["ball"]
    os.kill(pid(watch), signal.SIGKILL)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        while "nothing more will be logged" not in caplog.text:
            assert watch(3) is None
            time.sleep(0.05)
        assert [watch(step) for step in range(4, 8)] == [None] * 4
    assert watch.finish(9) is None
    watch.close()
    told = "from step 3 on nothing could be explained: the worker died with status -9"
    assert watch.finding.startswith(told)
    assert [step for step, text in words(tmp_path) if told in text] == [3]


def test_the_last_checkpoint_is_made_once_more_where_the_worker_dies_over_it(attach):
    watch = attach(network())
    report_of(watch, 0)
    os.kill(pid(watch), signal.SIGKILL)
    assert watch.finish(1).step == 1


def test_a_worker_that_has_not_answered_at_the_end_is_told_in_the_findings_and_in_the_log(tmp_path, attach):
    watch = attach(network())
    report_of(watch, 0)
    os.kill(pid(watch), signal.SIGSTOP)
    watch(1)
    watch._patience, watch._place.close = 0.1, partial(watch._place.close, patience=0.1)
    watch.close()
    assert watch.finding == "from step 1 on nothing could be explained: the worker has not answered until the end"
    assert [step for step, text in words(tmp_path) if watch.finding in text] == [1]


def test_a_worker_that_starts_again_logs_into_the_same_folder_wherever_the_training_stands_by_then(
    tmp_path, attach, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    watch = attach(network(), logdir="log")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    os.kill(pid(watch), signal.SIGKILL)
    assert watch.finish(1).step == 1
    watch.close()
    assert "rlwatch/q/greedy" in tags(tmp_path / "log")


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["as it sends", "as it receives"])
def test_an_interrupt_leaves_neither_half_a_message_nor_a_job_that_nobody_does(monkeypatch, attach, moment):
    watch = attach(network())
    report_of(watch, 0)
    if moment == "as it sends":
        monkeypatch.setattr(watch._place._hold, "load", interrupted)
    else:
        pipe = watch._place._pipe
        monkeypatch.setattr(pipe, "recv", lambda: interrupted(os.read(pipe.fileno(), 9)))
    with pytest.raises(KeyboardInterrupt):
        report_of(watch, 1)
    monkeypatch.undo()
    assert report_of(watch, 2).step == 2


def test_weights_that_are_not_numbers_give_a_warning_and_the_next_checkpoint_works(tmp_path, attach, caplog):
    one = network()
    watch = attach(one)
    with torch.no_grad():
        one.body[0].weight.fill_(math.nan)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        assert watch(0) is None
        while not watch._place.free:
            assert watch(0) is None
            time.sleep(0.02)
    assert "not finite" in caplog.text
    redrawn(one, 1)
    assert report_of(watch, 1).step == 1
    watch.close()
    assert [event.step for event in read(tmp_path).Scalars("rlwatch/lift/greedy/ball")] == [1]


def test_a_worker_that_is_halted_for_a_while_keeps_nobody_waiting_and_goes_on(tmp_path, attach):
    watch = attach(network())
    report_of(watch, 0)
    worker = watch._place._process.pid
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    assert [watch(step) for step in range(1, 20)] == [None] * 19
    assert time.monotonic() - began < 5
    os.kill(worker, signal.SIGCONT)
    assert report_of(watch, 20).step == 1
    watch.close()
    assert [event.step for event in read(tmp_path).Scalars("rlwatch/lift/greedy/ball")][:2] == [0, 1]


def test_a_network_whose_layers_change_is_sent_anew(attach):
    one = network()
    watch = attach(one)
    report_of(watch, 0)
    one.body[3] = torch.nn.Sequential(torch.nn.Linear(400, 64), torch.nn.Linear(64, 4))
    assert report_of(watch, 1).step == 1


def test_what_cannot_be_sent_is_refused_at_attach(attach):
    one, lock = network(), threading.Lock()
    with pytest.raises(TypeError, match="pass the module itself"):
        attach(lambda observations: one(observations) if lock else None)


def test_a_network_that_can_be_sent_no_more_stands_in_the_findings_until_it_can(tmp_path, attach):
    one = network()
    watch = attach(one)
    report_of(watch, 0)
    one.kept = threading.Lock()
    for step in (1, 2):
        watch(step)
        assert watch.findings[-1].step == 1
        assert "cannot be sent to another process" in watch.finding
    del one.kept
    one.body[3] = torch.nn.Sequential(torch.nn.Linear(400, 64), torch.nn.Linear(64, 4))  # so another process starts
    report_of(watch, 3)
    assert "cannot be sent" not in watch.finding
    watch.close()
    assert [step for step, _ in words(tmp_path)] == [0, 3], "nothing is taken back that the log never said"


def test_an_unknown_place_is_refused(tmp_path, probe):
    with pytest.raises(ValueError, match="inline, process, got 'cloud'"):
        Watch(network(), probe, logdir=tmp_path, where="cloud")


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_memory_that_the_weights_travel_in_is_given_back(attach):
    watch = attach(network())
    report_of(watch, 0)
    before = open_files()
    for step in range(1, 4):
        report_of(watch, step)
    assert open_files() == before
    watch.close()
    assert open_files() < before
