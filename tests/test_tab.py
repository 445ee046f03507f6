"""The RLWATCH tab in a real browser, over a real TensorBoard: timeline, table, findings, strategies."""

import numpy as np
import pytest
import torch
from selenium.webdriver.common.keys import Keys

from rlwatch.pictures import panel
from tests.fixtures.browser import resize, wait
from tests.fixtures.synthetic_run import write_run
from tests.fixtures.tab import (
    LAST,
    MAIN,
    OTHER,
    STEPS,
    checkpoints,
    own_tab,
    picture,
    real_network,
    write_real,
)

pytestmark = pytest.mark.real


def test_the_first_sight_in_tensorboard_says_what_the_value_rests_on(tab, board):
    tab.enter()
    lifts = {name: one["lift"] for name, one in checkpoints(board)[-1]["objects"].items()}
    told = tab.text(".headline")
    assert told.startswith(f"At step {LAST:,} the value rests on the ball {lifts['ball']:.1f}×")
    assert f"paddle {lifts['paddle']:.1f}×" in told
    assert "walls" not in told
    assert [len(tab.texts(one)) for one in ("#timeline", "#screen0", ".stack canvas", ".bar")] == [1, 1, 4, 4]
    assert tab.js("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", [(400, 800), (700, 900), (1150, 800), (1280, 720), (1440, 900), (1920, 1080)])
@pytest.mark.parametrize("compare", [False, True])
def test_nothing_is_cut_off_at_the_side_and_no_letter_is_tiny(tab, browser, size, compare):
    resize(browser, *size)
    tab.open(compare=compare)
    assert tab.js("return document.documentElement.scrollWidth <= innerWidth")
    tall = "return [...document.querySelectorAll('main *')].map((one) => parseFloat(getComputedStyle(one).fontSize))"
    assert min(tab.js(tall)) >= 10
    beyond = """const room = document.querySelector('.player').getBoundingClientRect();
        return [...document.querySelectorAll('.player *')].map((one) => [one, one.getBoundingClientRect()])
            .filter(([one, box]) => box.width && !one.closest('.title'))
            .filter(([one, box]) => box.right > room.right + 1 || box.left < room.left - 1)
            .map(([one]) => one.className)"""
    assert tab.js(beyond) == []
    table = "const table = document.querySelector('.scroll'); return table.scrollWidth <= table.clientWidth"
    assert size[0] < 1000 or tab.js(table)


@pytest.mark.parametrize("size", [(601, 900), (840, 900), (1100, 600), (1240, 900)])
@pytest.mark.parametrize("compare", [False, True])
def test_in_one_column_the_player_takes_the_whole_width(tab, browser, size, compare):
    resize(browser, *size)
    tab.open(compare=compare)
    ends = """const asides = [...document.querySelectorAll('.aside, footer input')].filter((one) => one.offsetParent);
        return asides.map((one) => one.getBoundingClientRect().right)"""
    *asides, full = tab.js(ends)
    assert max(asides) == pytest.approx(full, abs=1)


def test_the_timeline_reads_values_and_leads_to_a_checkpoint(tab, board):
    tab.open()
    width = tab.one("#timeline").size["width"]
    tab.point("#timeline", 44 + (width - 150) * 0.62, 60)
    told = tab.says(".tip", "ball")
    ball = checkpoints(board)[3]["objects"]["ball"]
    assert f"step {STEPS[3]:,}" in told
    assert f"ball {ball['lift']:.1f} [{ball['low']:.1f}, {ball['high']:.1f}]" in told
    assert "return" in told
    tab.changes("#timeline", lambda: tab.point("#timeline", 44 + (width - 150) * 0.62, 60, click=True))
    tab.says("#told", f"step {STEPS[3]:,}")
    tab.point("#told", 5, 5)
    assert not tab.one(".tip").is_displayed()


@pytest.mark.parametrize(
    ("selector", "words", "told"),
    [
        (".timeline [data-value=share]", None, "share (value): of all positive relevance"),
        (".timeline [data-value=relevance]", None, "relevance (value): Q units per frame"),
        (".timeline .toggle", "log", "lift (value): × average"),
        (".timeline .toggle", "published", "dotted: Lapuschkin et al. 2019"),
        (".chip[data-object=bricks]", None, "lift"),
        (".chip[data-object=ball]", None, "lift"),
        (".targets button", "choice", "lift (choice)"),
    ],
)
def test_every_control_of_the_timeline_redraws_it_and_the_note_says_how(tab, selector, words, told):
    tab.open()
    tab.changes(".fill", lambda: tab.click(selector, words))
    tab.says(".timeline .note", told)


def test_runs_are_laid_over_one_another_or_averaged(tab, board):
    tab.open()
    assert "mean of runs" not in tab.texts(".timeline .toggle")
    tab.click("#others summary")
    lengthened = """const name = document.querySelector('.choices label');
        name.append("x".repeat(200));
        return name.scrollWidth <= name.clientWidth"""
    assert tab.js(lengthened)
    tab.one("#others input[type=search]").send_keys(OTHER)
    assert [name.strip() for name in tab.texts(".choices label")] == [OTHER]
    tab.changes(".fill", lambda: tab.click(".choices label", OTHER))
    tab.says(".timeline .note", f"line styles: ——— {MAIN}, — — {OTHER}")
    tab.click("#others summary")
    tab.changes(".fill", lambda: tab.click(".timeline .toggle", "mean"))
    width = tab.one("#timeline").size["width"]
    tab.point("#timeline", 44 + (width - 150) * 0.61, 60)
    lifts = [ball_at(checkpoints(board, run), STEPS[3]) for run in (MAIN, OTHER)]
    low, high = sorted(lifts)
    tab.says(".tip", f"ball {sum(lifts) / 2:.1f} [{low:.1f}, {high:.1f}]")
    assert OTHER not in tab.text(".tip")


def ball_at(told, step):
    return float(np.interp(step, [one["step"] for one in told], [one["objects"]["ball"]["lift"] for one in told]))


def test_the_return_that_is_drawn_is_a_choice(tab):
    tab.open()
    assert "grey: return (rollout/ep_rew_mean)" in tab.text(".timeline .note")
    tab.choose("#returns", "returns")
    tab.says(".timeline .note", "grey: return (returns)")


def test_another_run_is_a_choice_away_a_real_one_too(tab, board):
    tab.open()
    tab.changes("#screen0", lambda: tab.choose("#run", "real"))
    tab.says("#told", "step 500 · return 5.0 · 2/2")
    assert "grey: return (eval/return)" in tab.text(".timeline .note")
    assert tab.js("return [...document.querySelector('#returns').options].map((one) => one.value)") == [
        "eval/return",
        "train/return",
        "returns",
    ]
    shown = {row.split()[0]: row for row in tab.texts("tbody tr")}
    for name, one in checkpoints(board, "real")[-1]["objects"].items():
        assert f"{100 * one['share']:.{int(one['share'] < 0.0995)}f} %" in shown[name]
    assert not tab.all("th.at-effect")


def test_the_table_holds_the_figures_and_sorts_by_each_column(tab, board):
    tab.open()
    objects = checkpoints(board)[-1]["objects"]
    rows = [row.split() for row in tab.texts("tbody tr")]
    by_lift = sorted(objects, key=lambda name: -objects[name]["lift"])
    assert [row[0] for row in rows] == by_lift
    for key in ("share", "share_negative", "low"):
        tab.click(f"[data-sort={key}]")
        wait(lambda key=key: names(tab) == sorted(objects, key=lambda name: -objects[name][key]))
    tab.click("[data-sort=name]")
    wait(lambda: names(tab) == sorted(objects))
    tab.click("[data-sort=name]")
    wait(lambda: names(tab) == sorted(objects, reverse=True))
    causal = checkpoints(board)[-1]["causal"]["ball"]
    row = next(row for row in tab.texts("tbody tr") if row.startswith("ball"))
    assert f"{causal['effect']:.2f} ({causal['control']:.3f})" in row
    assert "looked at" in row


def names(tab):
    return tab.js("return [...document.querySelectorAll('tbody tr')].map((one) => one.dataset.object)")


def test_the_keyboard_leads_through_the_table_and_past_it(tab):
    tab.open()
    _, second, third, *_ = names(tab)
    tab.js("document.querySelector('tbody tr').focus()")
    tab.keys(Keys.TAB, Keys.ENTER)
    tab.says("tr.chosen", second)
    tab.keys(Keys.TAB)
    assert tab.js("return document.activeElement.dataset.object") == third
    tab.js("document.querySelector('.targets button').focus()")
    tab.keys(Keys.TAB, Keys.ENTER)
    tab.says(".headline", "the choice rests on")
    assert tab.js("return document.activeElement.dataset.value") == "contrast"


def test_objects_on_which_nothing_rests_are_not_told_to_be_off_the_screen(browser, tmp_path, scene):
    write_real(tmp_path / "runs" / "flat", scene.probe, network=flat_network(scene.probe))
    with own_tab(browser, tmp_path / "runs", tmp_path, lambda address: checkpoints(address, "flat")) as tab:
        tab.open(step=0)
        assert checkpoints(tab.address, "flat")[0]["objects"]["ball"] == {
            **dict.fromkeys(("lift", "low", "high", "share", "share_negative")),
            "relevance": 0.0,
            "frames": len(scene.probe),
        }
        row = next(row for row in tab.texts("tbody tr") if row.startswith("ball"))
        assert row.endswith("no relevance")
        tab.open(step=0, measure="relevance")
        assert "at the bottom: 0.087 or less" in tab.text(".timeline .note")


def test_what_lies_above_chance_but_not_above_untrained_networks_is_not_called_chance(tab, board):
    told = checkpoints(board)[0]
    lows = {name: one["low"] for name, one in told["objects"].items()}
    as_untrained = {name for name, low in lows.items() if 1 < low <= told["untrained"]["greedy"][name]["high"]}
    assert as_untrained
    tab.open(step=0)
    assert {row.split()[0] for row in tab.texts("tbody tr") if row.endswith("as untrained")} == as_untrained


def flat_network(probe):
    """Q-values that rest on the head's biases alone."""
    network = real_network(probe)
    with torch.no_grad():
        for layer in (one for one in network.modules() if isinstance(one, torch.nn.Linear)):
            layer.weight.zero_()
    return network


def test_one_checkpoint_is_to_be_seen_on_the_timeline_and_in_the_table(browser, tmp_path, scene):
    write_run(tmp_path / "runs" / "first", 1, scene=scene, phases=1)
    with own_tab(browser, tmp_path / "runs", tmp_path, lambda address: checkpoints(address, "first")) as tab:
        tab.open(shown=["ball"])
        for canvas, names in ((".fill", 110), ("tr[data-object=ball] canvas", 1)):
            yellow = (picture(tab, canvas)[:, :-names] == panel.OUTLINES[0]).all(axis=2)
            assert yellow.sum() >= 4


def test_small_relevance_stands_on_the_logarithmic_axis(tab, board):
    found = [one["objects"]["ball"]["relevance"] for one in checkpoints(board, "real")]
    assert 0 < max(found) < 0.1
    tab.open(run="real", measure="relevance", shown=["ball"])
    drawn = picture(tab, ".fill")
    rows = np.flatnonzero((drawn == panel.OUTLINES[0]).all(axis=2).any(axis=1))
    assert rows.min() < len(drawn) / 2
    assert "at the bottom" not in tab.text(".timeline .note")


def test_lights_say_in_words_how_far_the_maps_can_be_trusted(tab):
    tab.open()
    assert "methods agree" in tab.text(".lights")
    tab.open(step=STEPS[-2])
    assert "maps not checked here" in tab.text(".lights")
    tab.click(".lights a")
    tab.says("#told", "step 0")
    assert "methods agree" in tab.text(".lights")


def test_findings_and_alarms_lead_to_their_checkpoint(tab, board):
    tab.open()
    finding = checkpoints(board)[-1]["findings"][0]
    tab.click(".findings button", finding["text"])
    tab.says("#told", f"step {finding['step']:,}")
    assert tab.text("tr.chosen").startswith(finding["object"])
    alarm = checkpoints(board)[-1]["alarms"][0]
    tab.click(".alarms button", alarm["text"])
    tab.says("#told", f"step {alarm['step']:,}")
    tab.says("footer .told", f"frame {alarm['frame'] + 1}/48")


def test_strategies_show_their_members_and_lead_to_their_frames(tab, board):
    tab.open()
    strategies = checkpoints(board)[-1]["strategies"]
    assert len(tab.texts(".strategies li")) == len(strategies)
    places = tab.js(POINTS)
    assert len(places) > 20
    x, y = places[0]
    tab.point("#scatter", x, y)
    wait(lambda: tab.one(".peek").is_displayed())
    wait(lambda: tab.js("return document.querySelector('.peek').toDataURL().length") > 1000)
    name, frame, *_ = tab.text(".card:has(#scatter) .note").split(" · ")
    number = int(frame.removeprefix("frame ").removesuffix(" of the clip"))
    assert number - 1 in next(one["members"] for one in strategies if one["name"] == name)
    tab.point("#scatter", x, y, click=True)
    tab.says("footer .told", f"frame {number}/48")


POINTS = """const canvas = document.querySelector("#scatter");
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height), found = [];
    for (let y = 6; y < canvas.height - 6; y += 2) for (let x = 6; x < canvas.width - 6; x += 2) {
        const full = (i, j) => data[4 * ((y + j) * canvas.width + x + i) + 3] > 150;
        if (full(0, 0) && full(3, 0) && full(-3, 0) && full(0, 3) && full(0, -3)) found.push([x, y]);
    }
    return found"""
