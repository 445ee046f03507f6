import contextlib
import json

import pytest
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING

from tests.fixtures.log_folders import (
    HOSTILE,
    ROUTE,
    checkpoints_of,
    fast,
    get,
    json_of,
    refusal,
    served,
    slow,
    wait_for,
    write_tensors,
)


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
    for path in ("maps", "actions"):
        assert refusal(get(client, path, run="damaged", step="5"))[0] == 422


def shaped(*sizes):
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])


BROKEN = {
    "number": TensorProto(dtype=DT_FLOAT, float_val=[1.0]),
    "numbers": TensorProto(dtype=DT_FLOAT, float_val=[1.0, 2.0], tensor_shape=shaped(2)),
    "no strings": TensorProto(dtype=DT_STRING, tensor_shape=shaped(0)),
    "fewer strings": TensorProto(dtype=DT_STRING, tensor_shape=shaped(3)),
    "less than none": TensorProto(dtype=DT_STRING, string_val=[b"x"], tensor_shape=shaped(-5)),
    "no type": TensorProto(),
    "torn": TensorProto(dtype=DT_FLOAT, tensor_content=b"abc", tensor_shape=shaped(7)),
}


@pytest.mark.parametrize("mode", ["slow", "fast"])
def test_no_tensor_whatever_brings_the_tab_down(mode, tmp_path):
    for name, tensor in BROKEN.items():
        write_tensors(tmp_path / "runs" / name, dict.fromkeys(("report", "maps", "actions", "probe"), tensor))
    with contextlib.ExitStack() as stack:
        fine = (
            stack.enter_context(fast(tmp_path / "runs", tmp_path / "port"))
            if mode == "fast"
            else slow(tmp_path / "runs")
        )
        asked = served(fine)
        wait_for(lambda: len(json_of(asked, "runs")["runs"]) == len(BROKEN))
        for name in BROKEN:
            for path in ("probe", "frames"):
                assert refusal(get(asked, path, run=name))[0] in {404, 422}
            for path in ("maps", "actions"):
                assert refusal(get(asked, path, run=name, step="5"))[0] in {404, 422}
            for path in ("checkpoints", "returns"):
                assert get(asked, path, run=name).status_code in {200, 422}


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
    for path, query in (
        ("probe", {}),
        ("frames", {}),
        ("checkpoints", {}),
        ("maps", {"step": "5"}),
        ("actions", {"step": "5"}),
    ):
        assert refusal(get(client, path, run="foreign", **query))[0] == 404


@pytest.mark.parametrize(
    "run", ["", "nothing", "../whole", "/etc/passwd", "outside", "whole\0", "%2e%2e", "ü" * 500, "old"]
)
@pytest.mark.parametrize("path", ["probe", "frames", "checkpoints", "maps", "actions"])
def test_a_run_that_is_not_listed_has_nothing(client, path, run):
    query = {"step": "0"} if path in {"maps", "actions"} else {}
    assert refusal(get(client, path, run=run, **query))[0] == 404


@pytest.mark.parametrize(
    "query",
    [
        "probe",
        "probe?run=whole&run=whole",
        "probe?run=whole&key=abc",
        "runs?run=whole",
        "maps?run=whole",
        "actions?run=whole",
        "actions?run=whole&step=-",
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
