import gzip
import json
import threading

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from rlwatch import Watch
from rlwatch.tensorboard import blobs
from rlwatch.tensorboard.plugin import page
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.blobs import decode_frames, decode_maps
from tests.fixtures.log_folders import (
    HOSTILE,
    ROUTE,
    STEPS,
    checkpoints_of,
    get,
    json_of,
    refusal,
    served,
    slow,
    write_strings,
)
from tests.fixtures.synthetic_run import TARGETS, Training, report_at, write_run


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
    frames = decode_frames(response.data, meta)
    assert frames.shape == (len(scene.probe), 4, 210, 160, 3)
    assert np.array_equal(frames[:, -1], scene.probe.rgb())


def test_maps_are_those_of_the_step(client):
    read = [decode_maps(get(client, "maps", run="whole", step=str(step)).data) for step in (0, 20_000, 40_000)]
    assert list(read[0].levels) == list(TARGETS)
    assert read[0].levels["greedy"].shape[1:] == (4, 84, 84)
    relevance = [np.abs(one.levels["greedy"]).sum() * one.scale["greedy"] for one in read]
    assert relevance[0] < relevance[1] < relevance[2]


def test_the_maps_of_every_action_are_those_of_the_step_where_there_are_any(client):
    told = {one["step"]: one["all_actions"] for one in checkpoints_of(client, "whole")}
    assert told == {0: True, 10_000: False, 20_000: True, 30_000: True, 40_000: True}
    read = decode_maps(get(client, "actions", run="whole", step="40000").data)
    assert list(read.levels) == [f"action={action}" for action in range(4)]
    assert read.levels["action=0"].shape[1:] == (4, 84, 84)
    code, reason = refusal(get(client, "actions", run="whole", step="10000"))
    assert (code, reason) == (404, "Not found: run 'whole' has no maps of every action at step 10000")


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
    write_strings(tmp_path / "run", probe=[blobs.encode_words(other), b"frames"], step=7)
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


@pytest.mark.parametrize("shared", [False, True])
def test_a_watched_training_shows_up_with_the_maps_of_its_clips(shared, tmp_path, scene):
    """Into an event file of its own, and into the training's SummaryWriter."""
    layers = torch.nn.Conv2d(4, 4, 8, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1600, 4)
    network = torch.nn.Sequential(*layers)
    place = {"writer": SummaryWriter(tmp_path / "run")} if shared else {"logdir": tmp_path / "run"}
    watch = Watch(lambda frames: network(frames.float() / 255), probe=scene.probe, every=10, **place)
    watch.returns(0, 7.0)
    report = watch(10)
    watch.close()
    if shared:
        place["writer"].close()
    client = served(slow(tmp_path))
    (checkpoint,) = checkpoints_of(client, "run")
    assert checkpoint == blobs.rounded(report.as_json()) | {"all_actions": True}
    maps = decode_maps(get(client, "maps", run="run", step="10").data)
    assert set(maps.levels) == {"greedy", "contrast"}
    with torch.no_grad():
        q_values = network(torch.from_numpy(scene.probe.observations()).float() / 255)
    assert np.allclose(maps.q_values, q_values, rtol=1e-3, atol=1e-5)
    assert maps.levels["greedy"].any()
    assert json_of(client, "probe", run="run")["digest"] == scene.probe.digest
    assert json_of(client, "returns", run="run")["tags"] == {"returns": [[10, 7.0]]}


def test_a_data_server_that_holds_an_answer_back_until_it_hears_more_is_asked_for_a_trifle(tmp_path, scene):
    """TensorBoard's does, for 40 ms, while an acknowledgement is put off."""
    write_run(tmp_path / "run", 1, scene=scene, phases=1)
    provider, heard = slow(tmp_path), threading.Event()
    read, metadata = provider.read_blob, provider.experiment_metadata

    def held_back(*args, **kwargs):
        assert heard.wait(5)
        return read(*args, **kwargs)

    provider.read_blob = held_back
    provider.experiment_metadata = lambda *args, **kwargs: (heard.set(), metadata(*args, **kwargs))[1]
    assert blobs.read_header(get(served(provider), "maps", run="run", step="0").data)["targets"] == list(TARGETS)
