import os
import threading
from pathlib import Path

from rlwatch import outputs


def test_a_link_stays_a_link_and_the_file_that_it_leads_to_is_replaced(tmp_path):
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "latest.html"
    elsewhere.mkdir()
    (elsewhere / "report.html").write_text("old")
    link.symlink_to(Path("elsewhere") / "report.html")
    outputs.check(link, "--out")
    outputs.put(link, b"new")
    assert link.is_symlink()
    assert (elsewhere / "report.html").read_text() == "new"
    assert list(elsewhere.iterdir()) == [elsewhere / "report.html"]
    assert set(tmp_path.iterdir()) == {elsewhere, link}


def test_what_is_no_file_is_written_into_and_never_replaced(tmp_path):
    pipe, read = tmp_path / "pipe.html", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    outputs.check(pipe, "--out")
    outputs.put(pipe, b"a report")
    reader.join(timeout=60)
    assert read == [b"a report"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
