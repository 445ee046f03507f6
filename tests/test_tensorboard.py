"""A real TensorBoard shows in its own tabs what was written."""

import json
import urllib.request

import pytest

from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.browser import tensorboard, wait
from tests.fixtures.clips import clip


@pytest.fixture(params=["fast", "slow"])
def board(request, tmp_path):
    """Address of a real TensorBoard over a folder with one written run."""
    writer = RunWriter(logdir=tmp_path / "logs" / "run", purge_step=0)
    writer.layout(["ball", "paddle"])
    for step in (0, 1000):
        writer.scalars(step, {f"rlwatch/lift/greedy/{name}": step / 500 for name in ("ball", "paddle")})
        writer.clips(step, {"greedy": clip()[0]})
        writer.findings(step, "| object |\n|---|\n| ball |")
        writer.flush()
    writer.close()
    flags = ["--load_fast=false"] if request.param == "slow" else []
    with tensorboard(tmp_path / "logs", tmp_path / "log", *flags) as address:
        yield address


def fetched(address, ready):
    """What TensorBoard answers, as soon as it has loaded enough of the run."""

    def loaded():
        with urllib.request.urlopen(address) as answer:  # noqa: S310 - the address of our own TensorBoard
            data = answer.read()
        return data if ready(data) else None

    return wait(loaded, 60)


@pytest.mark.real
def test_tensorboard_shows_what_was_written(board):
    plugin = f"{board}/data/plugin"
    tag = "tag=rlwatch/lift/greedy/ball&run=run"
    values = json.loads(fetched(f"{plugin}/scalars/scalars?{tag}", lambda data: len(json.loads(data)) == 2))
    assert [point[1:] for point in values] == [[0, 0.0], [1000, 2.0]]
    told = json.loads(fetched(f"{plugin}/scalars/tags", bool))["run"]["rlwatch/lift/greedy/ball"]
    assert "1: no preference" in told["description"]

    tag = "tag=rlwatch/clip/greedy&run=run&sample=0"
    images = json.loads(fetched(f"{plugin}/images/images?{tag}", lambda data: len(json.loads(data)) == 2))
    assert [image["step"] for image in images] == [0, 1000]
    served = fetched(f"{plugin}/images/individualImage?{images[1]['query']}", bool)
    assert served == clip()[0]

    layout = json.loads(fetched(f"{plugin}/custom_scalars/layout", lambda data: b"ball" in data))
    assert layout["category"][0]["chart"][0]["multiline"]["tag"][0] == "^rlwatch/lift/greedy/ball$"
    text = fetched(f"{plugin}/text/text?run=run&tag=rlwatch/findings", lambda data: b"ball" in data)
    assert b"<table>" in text
