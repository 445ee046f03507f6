import argparse
import gzip
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

import numpy as np
import pytest
from tensorboard.plugins.base_plugin import TBContext

from rlwatch.tensorboard import blobs
from rlwatch.tensorboard.plugin import page
from rlwatch.tensorboard.plugin.loader import Loader
from rlwatch.tensorboard.plugin.plugin import Plugin
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.log_folders import (
    ROUTE,
    fast,
    served,
    slow,
    wait_for,
    write_old,
    write_strings,
    write_warming_up,
)
from tests.fixtures.synthetic_run import TARGETS, Scene, Training, report_at, write_run

HOSTILE = "<img src=x onerror=alert(1)>"
STEPS = [0, 10_000, 20_000, 30_000, 40_000]


@pytest.fixture(scope="module")
def scene():
    return Scene.of()


@pytest.fixture(scope="module")
def logdir(tmp_path_factory, scene):
    """Runs of every kind: whole, old, of the future, damaged, hostile, warming up, resumed, not ours."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "whole", len(STEPS), scene=scene, phases=2)
    write_run(folder / "nested" / HOSTILE, 2, scene=scene, phases=1, seed=1)
    write_old(folder / "old")
    write_warming_up(folder / "warming", scene)
    write_run(folder / "resumed", len(STEPS), scene=scene, phases=1, purge_step=0)
    write_run(folder / "resumed", 2, scene=scene, phases=1, first=20_000, purge_step=20_000, seed=2)
    future = json.dumps({"schema": 2}).encode()
    write_strings(folder / "future", report=[future], maps=[b"\x0d\0\0\0" + future], probe=[future, b""])
    write_strings(folder / "damaged", report=[b"{"], maps=[b"nonsense"], probe=[b"only one part"])
    write_strings(folder / "markup", report=[b'{"schema":1,"game":"</script><script>alert(1)</script>"}'])
    write_strings(folder / "foreign", plugin="other", maps=[b"secret"], probe=[b"{}", b"secret"], report=[b"secret"])
    (folder / "outside").symlink_to("/etc")
    return folder


@pytest.fixture(scope="module", params=["slow", "fast"])
def client(request, logdir, tmp_path_factory):
    if request.param == "slow":
        yield served(slow(logdir))
        return
    with fast(logdir, tmp_path_factory.mktemp("server") / "port") as provider:
        asked = served(provider)
        wait_for(lambda: len(json_of(asked, "runs")["runs"]) == 7 and len(checkpoints_of(asked, "resumed")) == 4)
        yield asked


def get(client, path, **query):
    return client.get(ROUTE + path, query_string=query)


def json_of(client, path, **query):
    response = get(client, path, **query)
    assert response.status_code == 200, response.text
    assert response.content_type == "application/json"
    return json.loads(response.data)


def checkpoints_of(client, run):
    return json_of(client, "checkpoints", run=run)["checkpoints"]


def refusal(response):
    assert response.content_type == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    return response.status_code, json.loads(response.data)["error"]


def test_runs_are_listed_with_their_game_and_checkpoints_and_old_ones_beside_them(client):
    listed = json_of(client, "runs")
    assert {one["run"]: (one["checkpoints"], one["game"]) for one in listed["runs"]} == {
        "whole": (5, "breakout"),
        f"nested/{HOSTILE}": (2, "breakout"),
        "warming": (0, None),
        "resumed": (4, "breakout"),
        "future": (1, None),
        "damaged": (1, None),
        "markup": (0, None),
    }
    assert (listed["schema"], listed["without"]) == (1, ["old"])


def test_checkpoints_are_the_reports_by_step(client, scene):
    answer = json_of(client, "checkpoints", run="whole")
    assert (answer["schema"], answer["made"], answer["unreadable"]) == (1, 5, 0)
    assert [one["step"] for one in answer["checkpoints"]] == STEPS
    last = answer["checkpoints"][-1]
    assert last["objects"]["ball"]["lift"] == pytest.approx(9, abs=0.6)
    assert set(last["contrast"]["objects"]) == set(scene.near)
    assert {"causal", "strategies", "points", "alarms", "findings", "returns"} <= set(last)
    assert len(last["points"]) == len(scene.probe)


def test_only_checkpoints_after_a_step_are_sent_on_demand(client):
    answer = json_of(client, "checkpoints", run="whole", since="20000")
    assert [one["step"] for one in answer["checkpoints"]] == STEPS[3:]
    assert answer["made"] == 5
    assert len(json_of(client, "checkpoints", run="whole", since="-1")["checkpoints"]) == 5


def test_json_is_packed_for_a_browser_that_takes_it(client):
    response = client.get(ROUTE + "checkpoints?run=whole", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(response.data))["made"] == 5


def test_the_probe_and_its_frames_belong_together(client, scene):
    meta = json_of(client, "probe", run="whole")
    response = get(client, "frames", run="whole")
    assert response.content_type == "application/octet-stream"
    frames = blobs.decode_frames(response.data, meta)
    assert frames.shape == (len(scene.probe), 4, 210, 160, 3)
    assert np.array_equal(frames[:, -1], scene.probe.rgb())


def test_maps_are_those_of_the_step(client):
    read = [blobs.decode_maps(get(client, "maps", run="whole", step=str(step)).data) for step in (0, 20_000, 40_000)]
    assert list(read[0].levels) == list(TARGETS)
    assert read[0].levels["greedy"].shape[1:] == (4, 84, 84)
    relevance = [np.abs(one.levels["greedy"]).sum() * one.scale["greedy"] for one in read]
    assert relevance[0] < relevance[1] < relevance[2]


def test_returns_are_the_trainers_and_those_that_the_monitor_was_told(client):
    tags = json_of(client, "returns", run="whole")["tags"]
    assert set(tags) == {"rollout/ep_rew_mean", "returns"}
    assert [step for step, _ in tags["returns"]] == STEPS
    assert np.allclose(tags["returns"], tags["rollout/ep_rew_mean"], atol=1e-3)


def test_what_the_monitor_measured_is_no_return(tmp_path, scene):
    writer = RunWriter(logdir=tmp_path / "run")
    writer.tab(report_at(scene, 0, 0.0, Training(0, 1, 1), np.random.default_rng(0)))
    writer.scalars(0, {"rlwatch/lift/greedy/reward": 1.0, "eval/return": 2.0, "charts/episodic_return": np.float32(3)})
    writer.close()
    tags = json_of(served(slow(tmp_path)), "returns", run="run")["tags"]
    assert tags == {"eval/return": [[0, 2.0]], "charts/episodic_return": [[0, 3.0]], "returns": [[0, 0.0]]}


def test_the_probe_of_the_latest_writer_is_the_runs(tmp_path, scene):
    write_run(tmp_path / "run", 1, scene=scene, phases=1)
    other = {"schema": 1, "game": "pong"}
    write_strings(tmp_path / "run", probe=[blobs.compact(other), b"frames"], step=7)
    client = served(slow(tmp_path))
    assert json_of(client, "probe", run="run") == other
    assert get(client, "frames", run="run").data == b"frames"


def test_of_a_resumed_training_the_steps_that_were_gone_through_again_are_dropped(client):
    found = checkpoints_of(client, "resumed")
    assert [one["step"] for one in found] == [0, 10_000, 20_000, 30_000]
    assert [one["returns"] for one in found[2:]] != [one["returns"] for one in checkpoints_of(client, "whole")[2:4]]
    assert get(client, "maps", run="resumed", step="40000").status_code == 404
    assert get(client, "probe", run="resumed").status_code == 200


def test_a_run_that_is_warming_up_has_a_report_and_says_what_is_missing(client):
    assert len(checkpoints_of(client, "warming")) == 1
    assert refusal(get(client, "probe", run="warming")) == (404, "Not found: run 'warming' has no probe yet")
    assert refusal(get(client, "maps", run="warming", step="0"))[0] == 404


def test_records_of_a_newer_version_are_counted_and_say_what_to_do(client):
    answer = json_of(client, "checkpoints", run="future")
    assert (answer["checkpoints"], answer["unreadable"]) == ([], 1)
    for response in (get(client, "probe", run="future"), get(client, "maps", run="future", step="5")):
        code, reason = refusal(response)
        assert code == 422
        assert "upgrade rlwatch" in reason


def test_damaged_records_are_refused(client):
    answer = json_of(client, "checkpoints", run="damaged")
    assert (answer["checkpoints"], answer["unreadable"]) == ([], 1)
    assert refusal(get(client, "probe", run="damaged"))[0] == 422
    assert refusal(get(client, "frames", run="damaged"))[0] == 422
    assert refusal(get(client, "maps", run="damaged", step="5"))[0] == 422


def test_markup_in_names_and_records_stays_text(client):
    run = f"nested/{HOSTILE}"
    assert len(checkpoints_of(client, run)) == 2
    assert get(client, "maps", run=run, step="0").status_code == 200
    response = get(client, "checkpoints", run="markup")
    assert response.content_type == "application/json"
    assert json.loads(response.data)["checkpoints"][0]["game"] == "</script><script>alert(1)</script>"
    code, reason = refusal(get(client, "checkpoints", run="<script>"))
    assert (code, reason) == (404, "Not found: run '<script>' has no checkpoints yet")


def test_what_another_plugin_wrote_under_our_tags_is_not_served(client):
    assert "foreign" not in {one["run"] for one in json_of(client, "runs")["runs"]}
    for path, query in (("probe", {}), ("frames", {}), ("checkpoints", {}), ("maps", {"step": "5"})):
        assert refusal(get(client, path, run="foreign", **query))[0] == 404


@pytest.mark.parametrize(
    "run", ["", "nothing", "../whole", "/etc/passwd", "outside", "whole\0", "%2e%2e", "ü" * 500, "old"]
)
@pytest.mark.parametrize("path", ["probe", "frames", "checkpoints", "maps"])
def test_a_run_that_is_not_listed_has_nothing(client, path, run):
    query = {"step": "0"} if path == "maps" else {}
    assert refusal(get(client, path, run=run, **query))[0] == 404


@pytest.mark.parametrize(
    "query",
    [
        "probe",
        "probe?run=whole&run=whole",
        "probe?run=whole&key=abc",
        "runs?run=whole",
        "maps?run=whole",
        "maps?run=whole&step=",
        "maps?run=whole&step=1e3",
        "maps?run=whole&step=0x1",
        "maps?run=whole&step=" + "9" * 1000,
        "maps?run=whole&step=0&step=0",
        "maps?run=whole&step=١",
        "checkpoints?run=whole&since=now",
        "checkpoints?run=whole&step=0",
        "probe?run=" + "a" * 100_000,
    ],
)
def test_arguments_that_are_not_expected_are_refused(client, query):
    assert refusal(client.get(ROUTE + query))[0] == 400


def test_only_reading_is_allowed(client):
    assert refusal(client.post(ROUTE + "runs"))[0] == 400
    assert refusal(client.delete(ROUTE + "maps?run=whole&step=0"))[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "static/../plugin.py",
        "static/%2e%2e/plugin.py",
        "static/..%2fplugin.py",
        "static//etc/passwd",
        "static/",
        "static",
        "static/INDEX.JS",
        "static/index.js%00",
        "__init__.py",
        "blob",
        "nothing",
    ],
)
def test_no_path_leads_to_another_file(client, path):
    assert refusal(client.get(ROUTE + path))[0] == 404


def test_every_file_of_the_page_is_served_as_what_it_is(client):
    for name in page.files():
        response = get(client, f"static/{name}")
        assert response.data == page.content(name)
        assert response.content_type.startswith(
            {"js": "application/javascript", "css": "text/css"}[name.split(".")[-1]]
        )


def test_an_empty_log_folder_has_no_runs(tmp_path):
    assert json_of(served(slow(tmp_path)), "runs") == {"schema": 1, "runs": [], "without": []}


def test_a_new_checkpoint_is_seen_and_what_is_known_is_not_read_again(tmp_path, scene, monkeypatch):
    write_run(tmp_path / "run", 2, scene=scene, phases=1)
    provider = slow(tmp_path)
    client = served(provider)
    assert len(checkpoints_of(client, "run")) == 2
    with monkeypatch.context() as patched:
        patched.setattr(provider, "read_tensors", lambda *_, **__: pytest.fail("the reports are read again"))
        assert len(checkpoints_of(client, "run")) == 2
    write_run(tmp_path / "run", 1, scene=scene, phases=1, first=20_000)
    provider._multiplexer.Reload()
    assert len(checkpoints_of(client, "run")) == 3
    assert get(client, "maps", run="run", step="20000").status_code == 200


def test_a_report_that_is_written_again_counts_once_and_as_it_was_last(tmp_path, scene):
    writer, training = RunWriter(logdir=tmp_path / "run"), Training(0, 10, 2)
    for part in (0.1, 0.9):
        writer.tab(report_at(scene, 10, part, training, np.random.default_rng(0)))
    writer.close()
    answer = json_of(served(slow(tmp_path)), "checkpoints", run="run")
    assert [one["q"]["greedy"] for one in answer["checkpoints"]] == [pytest.approx(0.9 * 1.2)]


def test_a_writer_writes_the_probe_once(tmp_path, scene):
    write_run(tmp_path / "run", 3, scene=scene, phases=1)
    (events,) = (tmp_path / "run").iterdir()
    assert events.read_bytes().count(b"rlwatch/probe") == 1


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
