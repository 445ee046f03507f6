"""The monitor in a process of its own beside a training that is a script."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.saved import small_probe
from tests.fixtures.watched import tags

pytestmark = pytest.mark.real

SCRIPT = """
import multiprocessing, sys, time, torch
from torch import nn
from rlwatch import Watch

print("the script runs")

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.eye, self.head = nn.Conv2d(4, 4, 8, 8), nn.Linear(400, 4)

    def forward(self, x):
        return self.head(self.eye(x.float() / 255).relu().flatten(1))

watch = Watch(Mine(), sys.argv[1], logdir=sys.argv[2], every=1, where="process")
while watch(0) is None:
    time.sleep(0.02)
if len(sys.argv) > 4:
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,), daemon=True).start()
print(watch._place._process.pid, flush=True)
time.sleep(float(sys.argv[3]))
began = time.monotonic()
watch.close()
print(f"closed in {time.monotonic() - began:.0f} s", flush=True)
"""


@pytest.fixture
def command(tmp_path):
    """What starts the script, which then trains for so many seconds; its log is in log."""
    (tmp_path / "train.py").write_text(SCRIPT)
    start = [sys.executable, str(tmp_path / "train.py"), str(small_probe(tmp_path)), str(tmp_path / "log")]
    return lambda seconds, *forking: [*start, str(seconds), *forking]


def test_a_training_that_has_closed_its_standard_streams_is_watched(tmp_path, command):
    closing = "import os\n[os.close(stream) for stream in range(3)]\nprint = lambda *_, **__: None\n"
    (tmp_path / "train.py").write_text(closing + SCRIPT)
    subprocess.run(command(0), timeout=120, check=False)
    assert "rlwatch/lift/greedy/ball" in tags(tmp_path / "log")


def test_a_network_that_an_unguarded_script_defines_is_watched_and_the_script_runs_once(tmp_path, command):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "queue.py").write_text("raise ImportError('this is no queue')")  # of the user's own
    ended = subprocess.run(command(0), cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("the script runs") == 1
    assert "rlwatch/lift/greedy/ball" in tags(tmp_path / "log")


def test_a_process_that_was_forked_meanwhile_does_not_keep_the_end_waiting(command):
    ended = subprocess.run(command(0, "forking"), capture_output=True, text=True, timeout=120, check=False)
    assert int(ended.stdout.split()[-2]) < 5


@pytest.mark.parametrize("forking", [[], ["forking"]])
def test_the_worker_ends_with_a_training_that_is_killed(command, forking):
    with subprocess.Popen(command(600, *forking), stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout.readline().startswith("the script")
        worker = int(training.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        training.kill()
    until = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()
