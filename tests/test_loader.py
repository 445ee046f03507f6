import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tensorboard.plugins.base_plugin import TBContext

from rlwatch.tensorboard.plugin import page
from rlwatch.tensorboard.plugin.loader import Loader
from rlwatch.tensorboard.plugin.plugin import Plugin
from tests.fixtures.log_folders import (
    slow,
    wait_for,
)
from tests.fixtures.synthetic_run import write_run


def test_the_loader_makes_the_tab(tmp_path):
    plugin = Loader().load(TBContext(data_provider=slow(tmp_path)))
    assert isinstance(plugin, Plugin)
    assert plugin.frontend_metadata().es_module_path == "/static/index.js"
    assert "index.js" in page.files()


def test_a_broken_plugin_leaves_tensorboard_without_the_tab(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "rlwatch.tensorboard.plugin.plugin", None)
    with caplog.at_level(logging.ERROR, "tensorboard"):
        assert Loader().load(TBContext()) is None
    assert "RLWATCH tab is left out" in caplog.text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"rlwatch": 0, "images": 100}),
        ({"images": 5, "scalars": 7}, {"rlwatch": 0, "images": 5, "scalars": 7}),
        ({"rlwatch": 3}, {"rlwatch": 3, "images": 100}),
    ],
)
def test_more_samples_are_kept_than_by_default_unless_the_user_says_otherwise(given, kept):
    flags = argparse.Namespace(samples_per_plugin=given)
    Loader().fix_flags(flags)
    assert flags.samples_per_plugin == kept


def test_flags_of_another_tensorboard_do_no_harm():
    Loader().fix_flags(argparse.Namespace())


def test_tensorboard_does_not_load_torch_for_the_tab():
    check = "import sys, rlwatch.tensorboard.plugin.plugin; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.real
@pytest.mark.parametrize("mode", ["--load_fast=true", "--load_fast=false"])
def test_a_real_tensorboard_shows_the_tab_with_every_checkpoint(mode, tmp_path, scene):
    """More than ten checkpoints, of which slow TensorBoard keeps ten unless the loader says otherwise."""
    write_run(tmp_path / "run", 15, scene=scene, phases=1)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("tensorboard")
    command = [program, "--logdir", tmp_path, "--port", str(port), "--path_prefix", "/some/where", mode]
    base = f"http://localhost:{port}/some/where/data/"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: (fetched(base + "plugin/rlwatch/runs") or {}).get("runs"), 60)
        wait_for(lambda: fetched(base + "plugin/rlwatch/checkpoints?run=run")["made"] == 15)
        tab = fetched(base + "plugins_listing")["rlwatch"]
        assert tab["enabled"]
        assert tab["loading_mechanism"]["type"] == "IFRAME"
        assert fetched(base + "plugin/rlwatch/runs")["runs"] == [{"run": "run", "checkpoints": 15, "game": "breakout"}]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def fetched(url):
    try:
        with urllib.request.urlopen(url) as response:  # noqa: S310 - of a server that the test has started
            return json.load(response)
    except (urllib.error.URLError, ConnectionError):
        return None
