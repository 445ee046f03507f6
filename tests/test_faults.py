"""What goes wrong on purpose: the training ends as without the monitor, and the log says what happened."""

import ctypes
import gc
import logging
import math
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlwatch import Watch
from rlwatch.monitor import logbook
from rlwatch.monitor.clips import ClipMaker
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.gathering import Gathering
from rlwatch.tensorboard.events import EventFile
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.saved import beginning
from tests.fixtures.updates import same, trained
from tests.fixtures.watched import Coarse, read

LIFT = "rlwatch/lift/greedy/ball"


@pytest.fixture(scope="module")
def unwatched():
    """What a training without the monitor ends in."""
    return trained(Coarse)


def failing(*_args, **_kwargs):
    raise RuntimeError("made to fail")


@pytest.mark.parametrize(
    ("owner", "part"),
    [
        (Examination, "untrained_baseline"),
        (Examination, "report"),
        (Examination, "judged"),
        (Gathering, "add"),
        (Gathering, "measured"),
        (ClipMaker, "draw"),
        (RunWriter, "layout"),
        (RunWriter, "checkpoint"),
        (RunWriter, "scalars"),
        (RunWriter, "flush"),
        (logbook, "write"),
    ],
)
def test_a_part_that_fails_is_told_once_and_the_training_ends_in_the_same_bits(
    monkeypatch, tmp_path, caplog, short_probe, unwatched, owner, part
):
    def attached(network):
        watch = Watch(network, short_probe, logdir=tmp_path, every=2)
        monkeypatch.setattr(owner, part, failing)
        return watch

    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        found = trained(Coarse, attached)
    assert same(found, unwatched)
    assert caplog.text.count("RuntimeError: made to fail") == 1
    assert "training goes on" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_checkpoint_that_was_cut_off_and_is_made_again_counts_once(monkeypatch, tmp_path, probe, error):
    def cut_off(*_):
        raise error

    watch = Watch(Coarse(), probe, logdir=tmp_path, every=1)
    monkeypatch.setattr(RunWriter, "checkpoint", cut_off)
    with suppress(KeyboardInterrupt):
        assert watch(0) is None
    monkeypatch.undo()
    report = watch.finish(0)
    watch.close()
    assert not any("no Q-value has changed" in note for note in report.notes)
    assert math.isnan(report.q.churn)
    assert watch._place._logbook._examination.comparison._steps == [0]


KILLED = """
import os, signal, sys, torch
from rlwatch import Watch
from tests.fixtures.watched import Coarse
first = int(sys.argv[2])
torch.manual_seed(0)
watch = Watch(Coarse(), "breakout", logdir=sys.argv[1], every=1, purge_step=first)
for step in range(first, first + 3):
    watch(step)
if first == 0:
    os.kill(os.getpid(), signal.SIGKILL)
watch.finish(first + 2)
watch.close()
"""


def test_a_log_that_a_kill_has_torn_goes_on_without_a_lost_or_a_doubled_step(tmp_path):
    for first, status in ((0, -signal.SIGKILL), (2, 0)):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(first)]
        assert subprocess.run(command, timeout=240, check=False).returncode == status
        if first == 0:
            (torn,) = tmp_path.iterdir()
            torn.write_bytes(torn.read_bytes()[:-1000])  # as if it had died within the last record
            time.sleep(1.1)  # event files are read in the order of the seconds in their names
    assert [event.step for event in read(tmp_path).Scalars(LIFT)] == [0, 1, 2, 3, 4]


def test_two_monitors_of_one_training_log_what_each_would_alone(tmp_path, short_probe):
    torch.manual_seed(0)
    network = Coarse()
    both = [Watch(network, short_probe, logdir=tmp_path / name, every=1) for name in ("one", "two")]
    reports = [watch(0).as_json() for watch in both]
    for watch in both:
        watch.close()
    assert reports[0] | {"cost": 0} == reports[1] | {"cost": 0}
    assert [event.step for event in read(tmp_path / "two").Scalars(LIFT)] == [0]


def test_a_forked_process_neither_logs_nor_closes_what_is_its_parents(tmp_path, short_probe):
    watch = Watch(Coarse(), short_probe, logdir=tmp_path, every=1)
    watch(0)
    child = os.fork()
    if not child:
        watch(1)
        watch.finish(2)
        watch.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    watch(3)
    watch.close()
    assert [event.step for event in read(tmp_path).Scalars(LIFT)] == [0, 3]


INTERRUPTED = """
import signal, sys, torch
from rlwatch import Watch
from tests.fixtures.watched import Nature
watch = Watch(Nature(), "breakout", logdir=sys.argv[1], every=1)
watch(0)
before = torch.get_rng_state()
signal.setitimer(signal.ITIMER_REAL, 0.1)
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    watch(1)
except KeyboardInterrupt:
    print("interrupted", torch.equal(before, torch.get_rng_state()))
if sys.argv[2] == "exit":
    raise SystemExit(3)
watch(2)
watch.close()
"""


@pytest.mark.parametrize(("end", "steps", "status"), [("exit", [0], 3), ("go on", [0, 2], 0)])
def test_an_interrupt_in_mid_explanation_leaves_a_whole_log_and_the_generators(tmp_path, end, steps, status):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path), end]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == status, ended.stderr
    assert ended.stdout.split() == ["interrupted", "True"]
    assert [event.step for event in read(tmp_path).Scalars(LIFT)] == steps


def test_a_wall_clock_that_runs_backwards_loses_nothing(monkeypatch, tmp_path, short_probe):
    clock = count(2_000_000_000, -1000)
    monkeypatch.setattr("rlwatch.tensorboard.events.time.time", lambda: float(next(clock)))
    watch = Watch(Coarse(), short_probe, logdir=tmp_path, every=1)
    for step in range(3):
        watch(step)
    watch.close()
    assert [event.step for event in read(tmp_path).Scalars(LIFT)] == [0, 1, 2]


def test_a_reader_sees_every_checkpoint_as_soon_as_it_is_made(tmp_path, short_probe):
    watch = Watch(Coarse(), short_probe, logdir=tmp_path, every=1)
    reader = EventAccumulator(str(tmp_path))
    for step in range(3):
        watch(step)
        reader.Reload()
        assert [event.step for event in reader.Scalars(LIFT)] == list(range(step + 1))
    watch.close()


def test_a_slow_disk_is_paid_for_from_the_budget(monkeypatch, tmp_path, short_probe):
    whole = EventFile.flush

    def slow(file):
        time.sleep(0.5)
        whole(file)

    watch = Watch(Coarse(), short_probe, logdir=tmp_path, total_steps=1000, budget=0.2)
    monkeypatch.setattr(EventFile, "flush", slow)
    before = time.perf_counter()
    watch(0)
    spent = time.perf_counter() - before
    assert watch._schedule.spent >= 0.95 * spent
    assert watch(21) is None
    monkeypatch.undo()
    watch.close()


@pytest.mark.timeout(1200)  # on a slow machine
def test_a_thousand_monitors_leave_no_memory_no_hook_and_no_open_file(tmp_path, short_probe):
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 2, 8, 8), torch.nn.Flatten(), torch.nn.Linear(200, 4))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    light = beginning(short_probe, segments=1)

    def cycle(number):
        watch = Watch(network, light, logdir=tmp_path / str(number % 10), method="epsilon", every=1)
        watch.attach(optimizer)
        if number % 100 == 0:
            optimizer.step()
        watch.close()

    def held():
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for the next time is not held
        used = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        return used, sum(1 for _ in Path("/proc/self/fd").iterdir())

    for number in range(100):
        cycle(number)
    before = held()
    for number in range(1000):
        cycle(number)
    after = held()
    assert after[0] - before[0] < 10 << 20
    assert after[1] == before[1]
    assert not optimizer._optimizer_step_post_hooks
