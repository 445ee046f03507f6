"""What the monitor takes of the memory of a training's process: at its peak, and for good."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.real

TRAINING = """
import sys
from pathlib import Path

import torch
from agents.learner import QNetwork
from rlwatch import Watch

def memory(kind):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[kind].split()[0]) // 1024

if __name__ == "__main__":
    torch.set_num_threads(1)
    network = QNetwork(4)
    before, own = memory("VmRSS"), memory("RssAnon")
    watch = Watch(network, "breakout", logdir=sys.argv[1], where=sys.argv[2], every=1, budget=1.0)
    for step in range(3):
        watch(step)
        watch._settle()
    watch.finish(3)
    print(memory("VmHWM") - before, memory("RssAnon") - own, len(watch._last.validity), "scipy" in sys.modules)
    watch.close()
"""


def taken(folder, where):
    """What a process with a monitor takes beyond what it had before, in MB: at most, and after the last checkpoint."""
    command = [sys.executable, "-c", TRAINING, str(folder), where]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.split()
    peak, held, judged = map(int, told[:3])
    assert judged
    assert told[3] == "False"  # it takes half a second to load, and 30 MB
    return peak, held


def test_checkpoints_take_at_most_300_mb(tmp_path):
    assert taken(tmp_path, "inline")[0] <= 300


def test_checkpoints_in_a_process_of_their_own_leave_the_training_s_memory_alone(tmp_path):
    assert taken(tmp_path, "process")[1] <= 100
