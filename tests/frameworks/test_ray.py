"""Checkpoints spread over a real Ray cluster of two processes."""

import json
import os
import signal
import socket
import sys
import time
from importlib import import_module

import pytest
import ray
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlwatch import cluster, connection
from rlwatch.cli import main
from rlwatch.connection import LOCAL, THERE, connected
from rlwatch.offline import explain_checkpoints
from rlwatch.tensorboard.blobs import ACTIONS
from tests.fixtures.saved import save_checkpoints, save_two_kinds, small_probe, without_cost


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """What explain_checkpoints is asked with, and what one process says of six checkpoints."""
    folder = tmp_path_factory.mktemp("asked")
    files = sorted(save_checkpoints(folder / "checkpoints", 6).iterdir())
    settings = {"paths": files, "probe": small_probe(folder)}
    return settings, without_cost(explain_checkpoints(**settings))


@pytest.fixture(scope="module")
def _two_processes():
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


def killed_once(killed, victim, task="look_at"):
    """A task whose process ends the first time that it comes to one of the checkpoints."""

    def run(asked, path, *about):
        if path == victim and not killed.exists():
            killed.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(import_module("rlwatch.questions"), task)(asked, path, *about)  # there it is the real one

    return run


@pytest.mark.usefixtures("_two_processes")
def test_two_processes_say_what_one_says(asked):
    settings, alone = asked
    assert without_cost(explain_checkpoints(**settings, ray=ray)) == alone
    assert ray.is_initialized()


@pytest.mark.usefixtures("_two_processes")
def test_the_cluster_holds_each_training_against_fresh_networks_of_its_own_kind(tmp_path):
    settings = {"paths": save_two_kinds(tmp_path), "probe": small_probe(tmp_path), "method": "epsilon"}
    assert without_cost(explain_checkpoints(**settings, ray=ray)) == without_cost(explain_checkpoints(**settings))


def noting(began):
    """The task that looks, which notes in a file which checkpoint it comes to."""

    def run(asked, path, *about):
        with began.open("a") as file:
            file.write(f"{path}\n")
        return import_module("rlwatch.questions").look_at(asked, path, *about)

    return run


@pytest.mark.usefixtures("_two_processes")
def test_checkpoints_are_begun_in_their_order_but_for_those_under_way(asked, tmp_path, monkeypatch):
    settings, _ = asked
    paths = [str(path) for path in sorted(save_checkpoints(tmp_path / "checkpoints", 16).iterdir())]
    monkeypatch.setattr(cluster, "look_at", noting(tmp_path / "began"))
    list(explain_checkpoints(**(settings | {"paths": paths}), ray=ray))
    began = (tmp_path / "began").read_text().split()
    assert sorted(began) == paths
    assert max(abs(place - paths.index(path)) for place, path in enumerate(began)) < 2


@pytest.mark.usefixtures("_two_processes")
def test_a_process_that_is_killed_changes_nothing(asked, tmp_path, monkeypatch):
    settings, alone = asked
    killed = tmp_path / "killed"
    monkeypatch.setattr(cluster, "look_at", killed_once(killed, settings["paths"][2]))
    assert without_cost(explain_checkpoints(**settings, ray=ray)) == alone
    assert killed.exists()


@pytest.mark.usefixtures("_two_processes")
@pytest.mark.parametrize(
    ("files", "settings"),
    [(3, {"method": "integrated_gradients", "options": {"steps": 2, "batch_size": 12}}), (1, {"judge": True})],
)
def test_a_probe_in_batches_says_the_same_even_if_one_is_killed(asked, tmp_path, monkeypatch, files, settings):
    settings = asked[0] | {"paths": asked[0]["paths"][:files]} | settings
    alone = without_cost(explain_checkpoints(**settings))
    killed = tmp_path / "killed"
    monkeypatch.setattr(cluster, "part_of", killed_once(killed, settings["paths"][-1], "part_of"))
    assert without_cost(explain_checkpoints(**settings, ray=ray)) == alone
    assert killed.exists()


@pytest.mark.usefixtures("_two_processes")
def test_a_checkpoint_that_kills_every_process_is_named(asked, monkeypatch):
    settings, _ = asked
    monkeypatch.setattr(cluster, "look_at", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(cluster, "RETRIES", 0)
    with pytest.raises(ChildProcessError, match=r"step_000000000.pt .* leave --ray out"):
        list(explain_checkpoints(**settings, ray=ray))


@pytest.mark.usefixtures("_two_processes")
@pytest.mark.parametrize(
    ("asking", "layers", "wrong"),
    [({}, "", "Q-values"), ({"method": "occlusion", "options": {"patch": 42, "stride": 42}}, "body.9", "relevance")],
)
def test_what_is_wrong_with_a_checkpoint_is_raised_as_one_process_raises_it(asked, tmp_path, asking, layers, wrong):
    settings, _ = asked
    content = torch.load(settings["paths"][1], weights_only=True)
    for name, weights in content["model"].items():
        weights.mul_(1e38 if name.startswith(layers) else 1)
    torch.save(content, tmp_path / "diverged_1.pt")
    settings = settings | {"paths": [settings["paths"][0], tmp_path], "probe": "breakout"} | asking
    told = []
    for cluster_ in (None, ray):
        with pytest.raises(ValueError, match=f"{wrong}.*not finite") as raised:
            list(explain_checkpoints(**settings, ray=cluster_))
        told.append((type(raised.value), str(raised.value)))
    assert told[0] == told[1]


@pytest.mark.usefixtures("_two_processes")
def test_a_log_is_gone_on_with_by_the_cluster(asked, tmp_path):
    settings, alone = asked
    list(explain_checkpoints(**(settings | {"paths": settings["paths"][:2]}), logdir=tmp_path))
    assert without_cost(explain_checkpoints(**settings, logdir=tmp_path, ray=ray)) == alone[2:]


@pytest.mark.usefixtures("_two_processes")
def test_the_cluster_logs_the_same_maps_of_every_action(asked, tmp_path):
    settings, _ = asked
    logged = []
    for place, address in ((tmp_path / "alone", None), (tmp_path / "cluster", ray)):
        list(explain_checkpoints(**settings, logdir=place, ray=address))
        events = EventAccumulator(str(place), size_guidance={"tensors": 0}).Reload().Tensors(ACTIONS)
        logged.append([(event.step, event.tensor_proto.string_val[0]) for event in events])
    assert len(logged[0]) == 6
    assert logged[0] == logged[1]


def test_an_address_where_nobody_listens_or_answers_is_refused_within_seconds(monkeypatch):
    ray.shutdown()
    monkeypatch.setattr(connection, "ANSWER", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silence = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(ConnectionError, match=f"at {silence}, got no answer in 3 s: `ray status"),
            connected(silence),
        ):
            pass
    began = time.monotonic()
    for address in (silence, f"ray://{silence}"):
        with pytest.raises(ConnectionError, match=f"at {address}, got .*refused.*: `ray status"), connected(address):
            pass
    assert time.monotonic() - began < 5


def test_a_cluster_of_our_own_has_loaded_what_is_asked_before_it_is_asked():
    ray.shutdown()
    with connected(LOCAL) as reached:
        loaded = reached.remote(lambda: THERE in sys.modules)
        assert reached.get(loaded.remote())


def test_the_program_starts_and_ends_a_cluster_of_its_own_and_prints_nothing_but_json(
    asked, tmp_path, monkeypatch, capsys
):
    settings, alone = asked
    ray.shutdown()
    capsys.readouterr()  # what it said at its end
    monkeypatch.setattr(cluster, "look_at", killed_once(tmp_path / "killed", settings["paths"][2]))
    paths = [str(path) for path in settings["paths"]]
    assert main(["explain", *paths, "--probe", str(settings["probe"]), "--json", "--ray"]) == 0
    records = [{**json.loads(line), "cost": None} for line in capsys.readouterr().out.splitlines()]
    assert records == json.loads(json.dumps(alone))
    assert not ray.is_initialized()
