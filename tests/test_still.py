import base64
import errno
import html.parser
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from werkzeug.test import Client

from rlwatch import cli
from rlwatch.tensorboard.plugin import page
from rlwatch.tensorboard.plugin.still import write_report
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.log_folders import ROUTE, served, slow, write_strings, write_warming_up
from tests.fixtures.synthetic_run import write_run

NO_JSON = "a record must be JSON with finite numbers"
HOSTILE = "<script>alert(1)<"
STEPS = list(range(0, 70_000, 10_000))


class Reader(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the text of the latest of each kind."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if data.strip():
            tag, attributes = self.elements[-1]
            self.texts[attributes.get("id") or attributes.get("type") or tag] = data


@pytest.fixture(scope="module")
def logdir(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "first", len(STEPS), scene=scene, phases=2)
    write_run(folder / HOSTILE, 2, scene=scene, phases=1)
    write_strings(folder / "markup", report=[b'{"schema":1,"game":"</script><script>alert(1)</script>"}'])
    return folder


@pytest.fixture(scope="module")
def report(logdir, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "report.html"
    return write_report(logdir, out, checkpoints=4), Reader(out.read_text(encoding="utf-8"))


def data_of(reader):
    return json.loads(reader.texts[page.DATA])


def test_the_file_holds_what_tensorboard_answers(report, logdir):
    data, client = data_of(report[1]), served(slow(logdir))
    assert data["schema"] == 1
    for run in ("first", HOSTILE):
        assert data["probe"][run] == json.loads(answer(client, "probe", run=run))
        assert data["returns"][run] == json.loads(answer(client, "returns", run=run))
        assert base64.b64decode(data["frames"][run]) == answer(client, "frames", run=run)
        every = {one["step"]: one for one in json.loads(answer(client, "checkpoints", run=run))["checkpoints"]}
        kept = {str(one["step"]) for one in data["checkpoints"][run]["checkpoints"]}
        for one in data["checkpoints"][run]["checkpoints"]:
            assert one == every[one["step"]]
        for step, maps in data["maps"][run].items():
            assert base64.b64decode(maps) == answer(client, "maps", run=run, step=step)
        assert data["actions"][run].keys() == {str(step) for step, one in every.items() if one["all_actions"]} & kept
        for step, maps in data["actions"][run].items():
            assert base64.b64decode(maps) == answer(client, "actions", run=run, step=step)
    assert data["runs"] == json.loads(answer(client, "runs"))


def answer(client: Client, path, **query):
    return client.get(ROUTE + path, query_string=query).data


def test_checkpoints_are_thinned_evenly_from_the_first_to_the_last_and_that_is_said(report):
    notes, reader = report
    data = data_of(reader)
    kept = [one["step"] for one in data["checkpoints"]["first"]["checkpoints"]]
    assert kept == [0, 20_000, 40_000, 60_000]
    assert list(data["maps"]["first"]) == [str(step) for step in kept]
    assert data["checkpoints"]["first"]["made"] == len(STEPS)
    assert notes[0] == "first: 4 of 7 checkpoints, evenly"
    assert data["thinned"] == "; ".join(notes)


def test_nothing_in_a_name_or_a_record_becomes_markup(report):
    elements = [tag for tag, _ in report[1].elements]
    assert elements == ["html", "head", "meta", "meta", "meta", "title", "style", "script", "body", "script", "script"]


def test_the_file_fetches_nothing(report):
    reader = report[1]
    assert not any({"src", "href"} & set(attributes) for _, attributes in reader.elements)
    policy = next(attributes["content"] for _, attributes in reader.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_every_module_is_in_the_import_map_and_imports_only_those(report):
    modules = json.loads(report[1].texts["importmap"])["imports"]
    assert set(modules) == {f"rlwatch/{name}" for name in page.files() if name.endswith(".js")}
    for address in modules.values():
        text = base64.b64decode(address.removeprefix("data:text/javascript;base64,")).decode()
        assert "from './" not in text
        assert 'from "./' not in text


def test_an_import_of_a_missing_module_is_refused(tmp_path, monkeypatch):
    (tmp_path / "index.js").write_text('import { a } from "./gone.js"; export const render = () => a;')
    monkeypatch.setattr(page, "_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"index\.js imports gone\.js"):
        page.single_file("title", {})


def test_a_title_is_text(tmp_path, monkeypatch):
    (tmp_path / "index.js").write_text("")
    monkeypatch.setattr(page, "_FOLDER", tmp_path)
    assert Reader(page.single_file("</title><script>", {})).texts["title"] == "</title><script>"


def test_a_folder_that_is_itself_a_run_goes_by_its_name(tmp_path, scene):
    write_run(tmp_path / "one", 2, scene=scene, phases=1)
    assert write_report(tmp_path / "one", tmp_path / "report.html") == []
    data = data_of(Reader((tmp_path / "report.html").read_text(encoding="utf-8")))
    assert data["runs"]["runs"] == [{"run": "one", "checkpoints": 2, "game": "breakout"}]
    assert set(data["maps"]) == {"one"}
    assert data["thinned"] is None


def test_what_a_run_lacks_is_said(tmp_path, scene):
    write_warming_up(tmp_path / "runs" / "warming", scene)
    write_strings(tmp_path / "runs" / "damaged", report=[b'{"schema":1}'], maps=[b"nonsense"], probe=[b"only one part"])
    write_strings(tmp_path / "runs" / "maps alone", maps=[b"nonsense"])
    assert write_report(tmp_path / "runs", tmp_path / "report.html") == [
        f"damaged: 1 checkpoints without maps that can be read (step 5: {NO_JSON}, got b'ense')",
        "damaged: no probe that can be read",
        "maps alone: there are no checkpoints yet",
        "warming: 1 checkpoints without maps that can be read",
        "warming: no probe that can be read",
    ]
    assert "probe" in data_of(Reader((tmp_path / "report.html").read_text(encoding="utf-8")))


def test_a_folder_without_data_of_the_tab_is_refused(tmp_path, capsys):
    writer = RunWriter(logdir=tmp_path / "old")
    writer.scalars(0, {"rlwatch/q/gap": 1.0})
    writer.close()
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "report.html")]) == 1
    assert "rlwatch explain CHECKPOINT... --logdir DIR" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "nothing")]) == 1
    assert "expected the folder of a run" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must be 2 or more"):
        write_report(tmp_path, tmp_path / "report.html", checkpoints=1)


def test_the_command_says_what_it_wrote_and_what_it_left_out(logdir, tmp_path, capsys):
    out = tmp_path / "new" / "report.html"
    assert cli.main(["report", str(logdir / "first"), "--out", str(out), "--checkpoints", "3"]) == 0
    told = capsys.readouterr()
    assert "report.html: " in told.out
    assert "rlwatch: first: 3 of 7 checkpoints, evenly" in told.err
    assert out.stat().st_size > 100_000


@pytest.mark.real
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_a_browser_opens_the_file_and_shows_the_run(logdir, tmp_path):
    out = tmp_path / "report.html"
    write_report(logdir / "first", out, checkpoints=3)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", f"--user-data-dir={tmp_path}"]
    command = [shutil.which("chromium"), *flags, "--dump-dom", out.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    reader = Reader(shown)
    assert "canvas" in [tag for tag, _ in reader.elements]
    told = [text for place, text in reader.texts.items() if place not in {page.DATA, "importmap", "module", "style"}]
    assert any("60,000" in text for text in told)


def test_a_full_disk_is_told_with_the_file(logdir, tmp_path, monkeypatch):
    def full(_file, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"--out must be a file .*report.html \(No space left on device\): choose"):
        write_report(logdir / "first", tmp_path / "report.html")


def test_a_report_into_a_pipe_is_all_that_goes_into_it(logdir, tmp_path, capsys):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    assert cli.main(["report", str(logdir / "first"), "--out", str(pipe), "--checkpoints", "3"]) == 0
    reader.join(timeout=60)
    assert "checkpoints" in data_of(Reader(read[0]))
    assert pipe.is_fifo()
    assert capsys.readouterr().out == ""
