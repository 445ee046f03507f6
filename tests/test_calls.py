"""What a training loop may call the monitor with, and when: nothing is raised, and whole steps are logged whole."""

import copy
import logging
import math
import os
import pickle
import threading
import time

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from rlwatch.monitor.travel import pack
from tests.fixtures.watched import read

pytestmark = pytest.mark.usefixtures("types_unchecked")
SCALARS = ("rlwatch/lift/greedy/ball", "rlwatch/cost/fraction")
BLOBS = ("rlwatch/report", "rlwatch/maps")


def steps_of(folder):
    log = read(folder)
    found = {tag: [event.step for event in log.Scalars(tag)] for tag in SCALARS}
    return found | {tag: [event.step for event in log.Tensors(tag)] for tag in BLOBS}


@pytest.mark.parametrize("kind", [np.int64, np.int32, float, np.float32, np.array, torch.tensor])
def test_whole_steps_of_every_kind_are_logged_whole_as_plain_integers(tmp_path, attach, kind):
    watch = attach()
    made = [watch(kind(step)).step for step in (0, 10)]
    assert made == [0, 10]
    assert all(type(step) is int for step in made)
    assert watch.finish(kind(20)).step == 20
    watch.close()
    assert steps_of(tmp_path) == {tag: [0, 10, 20] for tag in (*SCALARS, *BLOBS)}


@pytest.mark.parametrize("wrong", [None, "a", "5", 10.5, 2**63, math.nan, math.inf, [1], torch.tensor([1, 2])])
def test_what_is_no_step_is_told_once_and_blocks_nothing(tmp_path, attach, caplog, wrong):
    watch = attach()
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        assert [watch(wrong), watch(wrong), watch.finish(wrong), watch.returns(wrong, 1.0)] == [None] * 4
    assert len(caplog.records) == 1
    assert watch(5).step == 5
    assert watch.finish(6).step == 6
    watch.close()
    assert steps_of(tmp_path) == {tag: [5, 6] for tag in (*SCALARS, *BLOBS)}


def test_steps_that_are_all_broken_are_told_in_one_line_that_names_the_remedy(attach, caplog):
    watch = attach()
    for step in range(5):
        watch(step + 0.5)
    (record,) = caplog.records
    assert "at step 0.5 (TypeError: a step must be a whole number, got float: pass the agent step" in record.message


def test_a_return_that_is_no_number_is_told_and_the_one_before_stays(attach, caplog):
    watch = attach()
    watch.returns(0, np.float32(3))
    for _ in range(2):
        watch.returns(1, None)
    assert "step 1 of a return (TypeError" in caplog.text
    assert len(caplog.records) == 1
    assert watch(2).returns == 3


def test_of_the_returns_that_were_told_the_one_of_the_latest_step_counts(attach):
    watch = attach()
    watch.returns(20, 7.0)
    watch.returns(10, 5.0)
    assert watch(30).returns == 7
    watch.returns(20, 8.0)
    assert watch(40).returns == 8


def test_steps_that_fall_back_are_told_once_and_logged_again_when_they_pass(attach, caplog):
    watch = attach(every=10)
    made = [watch(step) is not None for step in (0, 10, 20, 5, 10, 20, 30)]
    assert made == [True, True, True, False, False, False, True]
    (record,) = caplog.records
    assert "at step 5 (steps must rise" in record.message


def test_a_call_while_another_threads_call_makes_a_checkpoint_makes_none(tmp_path, attach, monkeypatch):
    watch, begun, may_end = attach(), threading.Event(), threading.Event()
    submit = watch._place.submit

    def slow(job):
        begun.set()
        may_end.wait(2)
        submit(job)

    monkeypatch.setattr(watch._place, "submit", slow)
    other = threading.Thread(target=watch, args=[0])
    other.start()
    begun.wait(2)
    assert watch(1) is None
    may_end.set()
    assert watch.finish(2).step == 2
    other.join()
    watch.close()
    assert steps_of(tmp_path) == {tag: [0, 2] for tag in (*SCALARS, *BLOBS)}


def test_two_optimisers_that_count_for_themselves_do_not_fall_back(attach, caplog):
    watch = attach(every=10)
    one, other = (torch.optim.SGD(watch._network.parameters(), lr=0.0) for _ in range(2))
    watch.attach(one, steps_per_update=10)
    watch.attach(other)
    for _ in range(3):
        one.step()
        other.step()
    assert not caplog.records


def test_a_network_that_cannot_be_copied_is_logged_without_a_baseline_and_nothing_is_claimed(tmp_path, attach, caplog):
    watch = attach()
    network = watch._network
    network.kept = threading.Lock()
    for step in range(3):
        report = watch(step)
        assert not report.untrained
        assert not report.findings
        assert "there is no untrained baseline" in report.markdown()
    watch.close()
    assert "step 0 and later about an untrained baseline (TypeError: the network must be copyable" in caplog.text
    assert steps_of(tmp_path) == {tag: [0, 1, 2] for tag in (*SCALARS, *BLOBS)}


def test_the_logged_part_of_the_wall_clock_holds_the_last_checkpoint_too(tmp_path, attach):
    watch = attach(every=1000)
    watch(0)
    time.sleep(0.5)
    watch.finish(1)
    cost = watch.cost
    watch.close()
    logged = [event.value for event in read(tmp_path).Scalars("rlwatch/cost/fraction")]
    assert len(logged) == 2
    assert logged[-1] == pytest.approx(cost, rel=0.1)


def test_the_checkpoint_that_a_process_is_at_when_the_monitor_is_closed_reaches_a_shared_writer(tmp_path, attach):
    writer = SummaryWriter(tmp_path)
    watch = attach(where="process", writer=writer, logdir=None)
    watch(0)
    watch.close()
    writer.close()
    assert steps_of(tmp_path) == {tag: [0] for tag in (*SCALARS, *BLOBS)}


def test_a_checkpoint_that_does_not_come_back_in_time_is_told_and_waited_for_no_more(monkeypatch, attach, caplog):
    watch = attach(where="process")
    watch._patience = 0.2
    monkeypatch.setattr(watch._place._pipe, "poll", time.sleep)
    watch(0)
    began = time.monotonic()
    watch.close()
    assert 0.2 <= time.monotonic() - began < 30
    assert "its process must answer within" in caplog.text


def children():
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:  # noqa: PTH123 - a file of the kernel
        return set(file.read().split())


@pytest.mark.parametrize("where", ["inline", "process"])
def test_after_its_end_a_monitor_says_in_one_line_that_it_is_closed_and_starts_nothing(tmp_path, attach, caplog, where):
    before = children()
    watch = attach(where=where)
    watch(0)
    watch.finish(1)
    watch.close()
    watch.close()
    logged = steps_of(tmp_path)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        assert [watch(5), watch(6), watch.finish(7), watch.returns(7, 1.0)] == [None] * 4
    assert watch.closed
    (record,) = caplog.records
    assert "at step 5 (the monitor must be open, it was closed: attach a new Watch" in record.message
    assert children() == before
    assert steps_of(tmp_path) == logged


def test_a_monitor_in_a_with_block_is_closed_at_its_end_also_where_the_training_fails(tmp_path, attach):
    with attach() as watch:
        assert watch(0).step == 0
        assert not watch.closed
    assert watch.closed
    failed = attach(logdir=tmp_path / "failed")
    failed(0)
    with pytest.raises(KeyboardInterrupt), failed:
        raise KeyboardInterrupt
    assert failed.closed
    assert steps_of(tmp_path / "failed") == steps_of(tmp_path) == {tag: [0] for tag in (*SCALARS, *BLOBS)}


def test_a_network_that_holds_its_monitor_is_explained_copied_saved_and_sent_without_it(attach, caplog):
    watch = attach(every=1)
    network = watch._network
    network.watch = watch
    assert watch(0).untrained
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):  # noqa: S301 - our own
        assert copied.watch is None
    assert len(pack(network)[1]) == len(network.state_dict())
    assert network.watch is watch
    assert not caplog.records
