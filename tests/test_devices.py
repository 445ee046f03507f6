"""Another device than the CPU: one that refuses what a GPU refuses, but works in the machine's own memory."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from packaging.version import Version

from rlwatch import Probe
from rlwatch.attribution.methods import METHODS
from tests.fixtures.other_device import build, explained, watched
from tests.fixtures.saved import small_probe

pytestmark = [
    pytest.mark.skipif(shutil.which("c++") is None, reason="the device is compiled by c++: install g++"),
    pytest.mark.skipif(Version(torch.__version__) < Version("2.13"), reason="older torch's C++ wants another device"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder with what was found on the other device, in a process of its own, for torch has one such device."""
    folder = tmp_path_factory.mktemp("other")
    build(folder / "device.so")
    small_probe(folder)
    command = [sys.executable, "-m", "tests.fixtures.other_device", str(folder / "device.so"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rlwatch:" not in done.stderr, "nothing may go wrong in the monitor"
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_a_map_is_the_same_on_another_device(found, method):
    here, there = explained(method, "cpu"), np.load(found / f"{method}.npy")
    assert np.abs(here - there).max() < 1e-3 * np.abs(here).max()  # rounding, divided by what is nearly 0


def test_a_training_on_another_device_is_watched_as_on_the_cpu(found, tmp_path):
    there = np.load(found / "watched.npz")
    for name, here in watched(Probe.load(found / "small.npz"), "cpu", tmp_path).items():
        np.testing.assert_allclose(there[name], np.asarray(here), rtol=1e-3, atol=1e-4, err_msg=name)
