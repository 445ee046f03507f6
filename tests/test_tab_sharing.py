"""The RLWATCH tab in a real browser: what one sends to others, and how it opens in every surrounding."""

import csv
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from rlwatch.tensorboard.plugin.still import write_report
from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.browser import wait
from tests.fixtures.synthetic_run import write_run
from tests.fixtures.tab import (
    FRAMES,
    HOSTILE,
    LAST,
    MAIN,
    OTHER,
    STEPS,
    answer,
    checkpoints,
    complete_real,
    own_tab,
    picture,
    reds_and_blues,
    write_real,
)

pytestmark = pytest.mark.real


def test_the_clip_is_saved_as_a_gif_that_plays_what_the_player_shows(tab):
    tab.open(frame=30)
    shown = picture(tab, "#screen0")
    tab.click("#gif")
    gif = Image.open(io.BytesIO(tab.downloaded("gif")))
    assert gif.n_frames == FRAMES
    assert gif.info["duration"] == 100
    gif.seek(30)
    saved = np.asarray(gif.convert("RGB"))
    assert saved.shape == (52 + 420 + 46, 12 + 320 + 12, 3)
    assert (saved[52:472, 12:332] == shown).all(axis=2).mean() > 0.99


def test_the_view_is_saved_as_a_picture_of_the_page(tab):
    tab.open(frame=30)
    tab.click("#png")
    saved = np.asarray(Image.open(io.BytesIO(tab.downloaded("png"))).convert("RGB"))
    width, height = (tab.one("#page").size[key] for key in ("width", "height"))
    assert saved.shape == (height, width, 3)
    box = tab.one("#screen0").rect
    drawn = picture(tab, "#screen0")
    top, left = round(box["y"]), round(box["x"])
    part = saved[top : top + drawn.shape[0], left : left + drawn.shape[1]]
    assert (np.abs(part.astype(int) - drawn) < 8).all(axis=2).mean() > 0.98
    assert len(np.unique(saved[:top].reshape(-1, 3), axis=0)) > 20


def test_the_numbers_are_saved_as_a_table(tab, board):
    tab.open(others=[OTHER])
    tab.click("#csv")
    rows = list(csv.DictReader(io.StringIO(tab.downloaded("csv").decode(), newline="")))
    told = {
        (run, one["step"], target, name): figures
        for run, one in itertools.chain(*([(run, one) for one in checkpoints(board, run)] for run in (MAIN, OTHER)))
        for target in ("greedy", "contrast", "value", "advantage")
        for name, figures in (one if target == "greedy" else one[target])["objects"].items()
    }
    assert len(rows) == len(told)
    for row in rows:
        figures = told[row["run"], int(row["step"]), row["target"], row["object"]]
        assert [float(row[key]) for key in ("lift", "low", "share", "relevance")] == [
            figures[key] for key in ("lift", "low", "share", "relevance")
        ]


def test_the_address_holds_the_whole_view(tab):
    tab.open()
    tab.click(".targets button", "choice")
    tab.slide("#step", 3)
    tab.slide("#frame", 12)
    tab.click("tr[data-object=paddle]")
    tab.click(".timeline [data-value=share]")
    tab.click("#compare")
    tab.says("[data-side='1'] .title", "step 0")
    wait(lambda: tab.state().get("compare"))
    seen, chart = tab.pixels("#screen0"), tab.pixels("#timeline")
    tab.click("#link")
    address = wait(lambda: tab.js("return document.querySelector('#address').value"))
    tab.visit(address)
    assert (tab.pixels("#screen0"), tab.pixels("#timeline")) == (seen, chart)
    assert tab.text("tr.chosen").startswith("paddle")


@pytest.mark.parametrize(
    "nonsense",
    [
        {"run": "no such run", "target": "nonsense", "frame": 10**9, "step": "x", "shown": "5", "sort": "__proto__"},
        {"others": '[{"a": 1}]', "frame": -5, "measure": "constructor", "sign": "x", "scale": "5", "__proto__": "{}"},
        {
            "compare": True,
            "run2": "none",
            "target2": "constructor",
            "step2": 10**12,
            "map": "<b>",
            "object": "toString",
        },
    ],
)
def test_an_address_that_makes_no_sense_opens_the_page_as_it_is(tab, nonsense):
    tab.open(**nonsense)
    tab.says(".headline", f"At step {LAST:,}")
    assert int(tab.says("footer .told", "/48 · ").split("/")[0].removeprefix("frame ")) >= 1
    assert tab.text("tbody tr")


def test_a_name_with_markup_is_shown_and_not_obeyed(tab):
    tab.open(run=HOSTILE, others=[MAIN], run2=MAIN, compare=True)
    tab.says(".title", HOSTILE)
    assert tab.browser.title == "rlwatch"
    assert not tab.all("main img")


def test_a_run_that_is_warming_up_says_what_is_missing(tab):
    tab.open(run="warming")
    tab.says(".message", "nothing to play")
    tab.says("#notices", "no probe: ")
    assert tab.text("tbody tr")
    assert all("404" in fault for fault in tab.faults())


def test_dark_mode_follows_tensorboard(tab):
    tab.enter()
    ink = "return getComputedStyle(document.querySelector('main')).color"
    light = tab.js(ink)
    tab.leave()
    tab.js("document.body.classList.add('dark-mode')")
    tab.browser.switch_to.frame(tab.one("iframe"))
    wait(lambda: tab.js(ink) != light)


def test_a_reload_of_tensorboard_brings_what_came_in_and_keeps_to_the_newest(tab, board, logs, scene):
    tab.enter()
    tab.choose("#run", OTHER)
    tab.says("#told", "3/3")
    write_run(logs / OTHER, 1, seed=1, first=150_000, scene=scene, phases=1)
    wait(lambda: len(checkpoints(board, OTHER)) == 4, 30)
    tab.reload()
    tab.says("#told", "step 150,000")
    assert "4/4" in tab.text("#told")


def has_runs(address):
    return answer(address, "runs")["runs"]


def test_a_reload_brings_what_the_last_checkpoint_was_completed_with(browser, tmp_path, scene):
    write_real(tmp_path / "runs" / "real", scene.probe)
    with own_tab(browser, tmp_path / "runs", tmp_path, has_runs, "--reload_interval", "1") as tab:
        tab.enter()
        tab.says("#told", "2/2")
        assert "click for its map" not in tab.text(".actions")
        complete_real(tmp_path / "runs" / "real", scene.probe)
        wait(lambda: checkpoints(tab.address, "real")[-1]["all_actions"], 30)
        tab.reload()
        tab.says(".actions", "click for its map")
        tab.changes("#screen0", lambda: tab.click(".bar", "LEFT"))
        tab.says(".title", "what Q of LEFT rests on")


def test_a_folder_without_data_of_the_tab_says_how_to_begin_and_names_other_runs(browser, tmp_path):
    other = RunWriter(logdir=tmp_path / "runs" / "dueling")
    other.scalars(10, {"rlwatch/compare/ball": 2.0})
    other.close()
    with own_tab(browser, tmp_path / "runs", tmp_path, lambda address: answer(address, "runs")["without"]) as tab:
        told = tab.open().text("main")
    assert "make demo" in told
    assert "With curves in Scalars, but nothing for this tab: dueling." in told
    assert 'Watch(q_network, probe="breakout", logdir="runs/x")' in told


def test_it_works_without_the_data_server_and_under_a_path_prefix(browser, logs, tmp_path):
    flags = ("--load_fast=false", "--path_prefix", "/somewhere/else")

    def whole(address):
        return len(answer(address, "runs")["runs"]) == 5 and len(checkpoints(address)) == len(STEPS)

    with own_tab(browser, logs, tmp_path, whole, *flags) as tab:
        tab.open(run=MAIN)
        assert tab.text(".headline").startswith(f"At step {LAST:,}")
        tab.changes("#screen0", lambda: tab.slide("#step", 0))


def test_a_report_file_shows_the_same_without_tensorboard(tab, logs, tmp_path):
    tab.open(run=MAIN, frame=30)
    seen = tab.pixels("#screen0"), tab.text(".headline"), tab.texts("tbody tr")
    notes = write_report(logs / MAIN, tmp_path / "report.html", checkpoints=5)
    tab.visit(f"file://{tmp_path}/report.html#frame=30")
    assert (tab.pixels("#screen0"), tab.text(".headline"), tab.texts("tbody tr")) == seen
    assert notes[0] in tab.text("#notices")
    tab.changes("#screen0", lambda: tab.slide("#step", 1))
    assert sum(reds_and_blues(tab)) > 0
    tab.changes("#screen0", lambda: tab.click(".bar", "FIRE"))
    tab.says(".title", "what Q of FIRE rests on")
    tab.click(".message button", "Go to step 0")
    wait(lambda: not tab.text(".message"))
    assert sum(reds_and_blues(tab)) > 0
