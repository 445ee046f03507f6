"""The player of the RLWATCH tab in a real browser: what it shows, and every way to move through it."""

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from rlwatch import Probe
from rlwatch.pictures import panel
from tests.fixtures.blobs import decode_maps
from tests.fixtures.browser import wait
from tests.fixtures.saved import beginning
from tests.fixtures.tab import (
    FRAMES,
    LAST,
    MAIN,
    OTHER,
    STEPS,
    answer,
    checkpoints,
    clip_screen,
    complete_real,
    maps,
    own_tab,
    picture,
    reds_and_blues,
    write_real,
)

pytestmark = pytest.mark.real


def test_the_screen_has_the_pixels_of_the_clips(tab, board, scene):
    tab.open(frame=30, object="none such")
    drawn = picture(tab, "#screen0")
    found = maps(board, LAST)
    levels = shown_levels(found, "greedy", 30)
    screens = scene.probe.rgb()[answer(board, "probe", run=MAIN)["indices"]]
    expected = clip_screen(screens[30], levels, (drawn.shape[1], drawn.shape[0]))
    assert (levels != 0).any()
    assert (drawn == expected).all(axis=2).mean() > 0.999


def test_objects_are_outlined_in_the_colours_of_the_clips_and_only_one_after_a_click_on_its_row(tab):
    tab.open(sign="none")
    colours = {tuple(colour) for colour in picture(tab, "#screen0").reshape(-1, 3).tolist()}
    yellow, green = panel.OUTLINES[:2]
    assert {yellow, green} <= colours
    tab.changes("#screen0", lambda: tab.click("tr[data-object=ball]"))
    colours = {tuple(colour) for colour in picture(tab, "#screen0").reshape(-1, 3).tolist()}
    assert yellow in colours
    assert green not in colours
    assert tab.text("tr.chosen").startswith("ball")
    tab.changes("#screen0", lambda: tab.click(".player .chip", "only ball"))
    assert not tab.all("tr.chosen")


def test_the_four_stacked_frames_stand_apart_with_their_shares(tab, board):
    tab.open(frame=30)
    assert len({tab.pixels(f".stack figure:nth-child({n}) canvas") for n in (1, 2, 3, 4)}) == 4
    shares = checkpoints(board)[-1]["stack"]
    words = [
        f"{age} · {100 * share:.{int(share < 0.0995)}f} %"
        for age, share in zip(("−3", "−2", "−1", "now"), shares, strict=True)
    ]
    assert tab.texts(".stack figcaption") == words


def test_arrows_move_frames_and_checkpoints_and_space_plays(tab):
    tab.open(frame=5)
    tab.changes("#screen0", lambda: tab.keys(Keys.ARROW_RIGHT))
    assert tab.text("footer .told").startswith("frame 7/48")
    tab.changes("#screen0", lambda: tab.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT))
    assert tab.text("footer .told").startswith("frame 5/48")
    tab.changes("#screen0", lambda: tab.keys(Keys.ARROW_DOWN))
    tab.says("#told", f"step {STEPS[-2]:,}")
    tab.changes("#screen0", lambda: tab.keys(Keys.ARROW_UP))
    tab.says("#told", f"step {LAST:,}")
    tab.keys(Keys.SPACE)
    tab.says(".player header", "stop")
    for _ in range(3):
        before = tab.text("footer .told")
        wait(lambda before=before: tab.text("footer .told") != before)
    tab.keys(Keys.SPACE)
    tab.says(".player header", "play")
    still = tab.pixels("#screen0")
    assert tab.pixels("#screen0") == still


def test_sliders_arrows_and_the_play_button_do_the_same(tab):
    tab.open()
    tab.changes("#screen0", lambda: tab.slide("#step", 2))
    tab.says("#told", f"step {STEPS[2]:,}")
    tab.changes("#screen0", lambda: tab.click(".arrow", "▶"))
    tab.says("#told", f"step {STEPS[3]:,}")
    tab.changes("#screen0", lambda: tab.click(".arrow", "◀"))
    tab.says("#told", f"step {STEPS[2]:,}")
    tab.changes("#screen0", lambda: tab.slide("#frame", 20))
    tab.says("footer .told", "frame 21/48")
    width = tab.one("#moments").size["width"]
    tab.changes("#screen0", lambda: tab.point("#moments", width * 40.5 / FRAMES, 15, click=True))
    tab.says("footer .told", "frame 41/48")
    tab.changes("#screen0", lambda: tab.click(".player .toggle", "play"))
    tab.click(".player .toggle", "stop")
    tab.says(".player header", "play")


def test_signs_choose_what_the_heat_shows(tab):
    tab.open(frame=30, object="none such", target="contrast")
    red, blue = reds_and_blues(tab)
    assert red > 100
    assert blue > 100
    for words, expected in (("for", (red, 0)), ("against", (0, blue))):
        tab.changes("#screen0", lambda words=words: tab.click("[data-value]", words))
        assert tuple(reds_and_blues(tab)) == expected
    tab.changes("#screen0", lambda: tab.click(".player [data-value=none]"))
    colours = tab.pixels("#screen0")
    tab.click(".player [data-value=all]")
    assert tuple(reds_and_blues(tab)) == (red, blue)
    assert tab.pixels("#screen0") != colours


def test_a_pixel_tells_its_relevance_and_its_object(tab, board):
    tab.open(frame=30)
    probe, found = answer(board, "probe", run=MAIN), maps(board, LAST)
    left, top, width, height = probe["boxes"][30]["paddle"][0]
    x, y = left + width // 2, top + height // 2
    zoom = tab.one("#screen0").size["width"] / probe["width"]
    tab.point("#screen0", (x + 0.5) * zoom, (y + 0.5) * zoom)
    told = tab.says(".reading", "paddle")
    level = int(found.levels["greedy"][30, :, y * 84 // 210, x * 84 // 160].astype(int).sum())
    assert float(told.split("≈ ")[1].removesuffix(" Q")) == pytest.approx(
        level * found.scale["greedy"] / found.top, rel=0.06
    )
    tab.point("#screen0", 80 * zoom, 130 * zoom)
    assert "no object" in tab.text(".reading")
    ends = f"−{found.scale['greedy']:.2g}", f"+{found.scale['greedy']:.2g}"
    assert all(end in tab.text(".scale") for end in ends)


def test_bars_show_all_q_values_and_the_greedy_action(tab, board):
    tab.open(frame=30)
    values, actions = maps(board, LAST).q_values[30], answer(board, "probe", run=MAIN)["actions"]
    shown = [line.splitlines() for line in tab.texts(".bar")]
    assert [name.removeprefix("▸ ") for name, _ in shown] == actions
    assert [float(value.replace("−", "-")) for _, value in shown] == pytest.approx(values, abs=0.006)
    assert [name.startswith("▸") for name, _ in shown] == [value == max(values) for value in values]


def test_long_q_values_stay_inside_their_column(tab):
    tab.open(run="real", compare=True, step=0)
    lengthened = """const values = [...document.querySelectorAll('.bar .value')];
        values.forEach((one) => (one.textContent = '−123.45'));
        return values.every((one) => one.scrollWidth <= one.clientWidth)"""
    assert tab.js(lengthened)
    assert tab.js("return [...document.querySelectorAll('.bar')].every((one) => one.scrollWidth <= one.clientWidth)")


def test_numbers_are_rounded_as_in_clips_and_texts_and_a_zero_has_no_sign(tab):
    tab.open()
    told = 3.25, 3.75, 0.15, 0.125, 2.5, 100.5, -3.25, 6.35
    words = """const [numbers, done] = arguments;
        import("/data/plugin/rlwatch/static/dom.js").then(({ brief, decimals }) =>
            done([numbers.map(brief), [-0.0004, -0.0006].map((one) => decimals(one, 3))]))"""
    places = [0 if abs(one) >= 100 else 1 if abs(one) >= 1 else 2 for one in told]
    expected = [f"{one:.{count}f}".replace("-", "−") for one, count in zip(told, places, strict=True)]
    assert tab.browser.execute_async_script(words, told) == [expected, ["0.000", "−0.001"]]


def shown_levels(found, target, frame):
    """The heat that a screen shows, of the maps that the server gave."""
    summed = found.levels[target][frame].astype(int).sum(axis=0)
    scaled = np.abs(summed) * 7 / found.top
    return np.clip(np.sign(summed) * np.floor(scaled + 0.5), -7, 7).astype(np.int8)


def test_a_click_on_an_action_shows_the_pixels_of_its_map(tab, board, scene):
    tab.open(frame=30, object="none such")
    probe, actions = answer(board, "probe", run=MAIN), answer(board, "actions", run=MAIN, step=LAST)
    screen, found = scene.probe.rgb()[probe["indices"]][30], decode_maps(actions)
    greedy = tab.pixels("#screen0")
    for action, name in enumerate(probe["actions"]):
        tab.changes("#screen0", lambda name=name: tab.click(".bar", name))
        tab.says(".title", f"what Q of {name} rests on")
        drawn = picture(tab, "#screen0")
        levels = shown_levels(found, f"action={action}", 30)
        assert (levels != 0).any()
        expected = clip_screen(screen, levels, (drawn.shape[1], drawn.shape[0]))
        assert (drawn == expected).all(axis=2).mean() > 0.999
        assert [one.text.split()[-2] for one in tab.all(".bar[aria-pressed=true]")] == [name]
    assert tab.text(".scale").count(f"{found.scale['action=0']:.2g}") == 2
    tab.changes("#screen0", lambda: tab.click(".targets button", "value"))
    assert tab.pixels("#screen0") == greedy
    assert not tab.all(".bar[aria-pressed=true]")


def test_where_no_maps_of_actions_were_logged_the_tab_says_so_and_leads_to_the_nearest(tab, board):
    assert [one["all_actions"] for one in checkpoints(board)] == [True, False, True, True, True, True]
    tab.open(frame=30, step=STEPS[1])
    assert "click for its map" not in tab.text(".actions")
    tab.click(".bar", "FIRE")
    told = tab.says(".message", "No map of Q of FIRE at step 10,000: every action's map is logged where the budget")
    assert told.endswith("Go to step 0")
    tab.click(".message button")
    tab.says("#told", "step 0 ")
    wait(lambda: not tab.text(".message"))
    tab.says(".title", "what Q of FIRE rests on")
    tab.keys(Keys.ARROW_UP)
    tab.says(".message", "No map of Q of FIRE")
    tab.click(".bar", "FIRE")
    wait(lambda: not tab.text(".message"))
    tab.says(".title", "what the value of the best action rests on")


def test_a_run_without_maps_of_actions_says_what_it_has(tab):
    tab.open(run="real", map="action=1")
    tab.says(".message", "This run did not log a map of Q of FIRE; it logged greedy and contrast.")
    tab.click(".bar", "FIRE")
    wait(lambda: not tab.text(".message"))


def test_eighteen_actions_fit_in_and_go_by_signs(browser, tmp_path, scene):
    write_real(tmp_path / "runs" / "full", scene.probe, actions=18)
    complete_real(tmp_path / "runs" / "full", scene.probe, actions=18)

    def whole(address):
        return answer(address, "runs")["runs"] and checkpoints(address, "full")[-1]["all_actions"]

    with own_tab(browser, tmp_path / "runs", tmp_path, whole) as tab:
        tab.open()
        assert "".join(words.split()[0] for words in tab.texts(".bar")) == "○●↑→←↓↗↖↘↙↑●→●←●↓●↗●↖●↘●↙●"
        assert len(tab.all(".bar.best")) == 1
        tab.changes("#screen0", lambda: tab.click(".bar[data-action='17']"))
        tab.says(".title", "what Q of DOWNLEFTFIRE rests on")
        bottom = "return document.querySelector('.player').getBoundingClientRect().bottom"
        assert tab.js(bottom) < 720
        assert "no interval" in tab.texts(".light"), "of the tunnel, which one episode shows"


def test_actions_of_many_directions_keep_their_names_whole(browser, tmp_path):
    write_real(tmp_path / "runs" / "real", beginning(Probe.load("ms_pacman"), segments=2))
    with own_tab(browser, tmp_path / "runs", tmp_path, lambda address: checkpoints(address, "real")) as tab:
        tab.open()
        named = [words.split()[-2] for words in tab.texts(".bar")]
        assert sorted(name for name in named if name.startswith("DOWN")) == ["DOWN", "DOWNLEFT", "DOWNRIGHT"]
        whole = "return [...document.querySelectorAll('.bar .name')].every((one) => one.scrollWidth <= one.clientWidth)"
        wait(lambda: tab.js(whole))
        assert tab.js("return document.querySelectorAll('.bar .name').length") == 9


def test_two_actions_stand_side_by_side(tab):
    tab.open(frame=30, compare=True, step2=LAST)
    tab.changes("#screen0", lambda: tab.click("[data-side='0'] .bar", "RIGHT"))
    assert "RIGHT" in tab.text("[data-side='1'] .title")  # B follows A until it gets its own
    tab.changes("#screen1", lambda: tab.click("[data-side='1'] .bar", "LEFT"))
    assert "RIGHT" in tab.text("[data-side='0'] .title")
    assert "LEFT" in tab.text("[data-side='1'] .title")
    tab.changes("#screen1", lambda: tab.choose("#target2", "action=1"))
    tab.says("[data-side='1'] .title", "Q of FIRE")
    tab.changes("#screen1", lambda: tab.choose("#target2", "contrast"))
    tab.says("[data-side='1'] .title", "choice")


def test_two_checkpoints_stand_side_by_side_on_one_scale_and_move_in_step(tab):
    tab.open(frame=30)
    alone = tab.pixels("#screen0")
    tab.click("#compare")
    tab.says("[data-side='1'] .title", "step 0")
    assert tab.one("#screen1").is_displayed()
    pale = sum(reds_and_blues(tab, "#screen1"))
    tab.changes("#screen1", lambda: tab.click("#scales"))
    assert sum(reds_and_blues(tab, "#screen1")) > pale
    tab.changes("#screen1", lambda: tab.slide("#step2", 3))
    tab.says("[data-side='1'] .title", f"step {STEPS[3]:,}")
    tab.changes("#screen1", lambda: tab.choose("#target2", "contrast"))
    tab.says("[data-side='1'] .title", "choice")
    tab.changes("#screen1", lambda: tab.choose("#run2", OTHER))
    tab.says("[data-side='1'] .title", OTHER)
    before = tab.pixels("#screen0")
    tab.changes("#screen1", lambda: tab.keys(Keys.ARROW_RIGHT))
    assert tab.pixels("#screen0") != before
    tab.click("#compare")
    wait(lambda: not tab.one("#screen1").is_displayed())
    tab.changes("#screen0", lambda: tab.keys(Keys.ARROW_LEFT))
    wait(lambda: tab.pixels("#screen0") == alone)


def test_a_button_leads_to_the_frames_where_the_two_sides_differ_most(tab, board):
    one, other = (maps(board, step) for step in (STEPS[1], LAST))
    parts = [found.levels["greedy"] * (found.scale["greedy"] / found.top) for found in (one, other)]
    order = np.argsort(-np.abs(parts[0] - parts[1]).sum(axis=(1, 2, 3)))
    assert order[0] != np.argmax(np.abs(parts[0]).sum(axis=(1, 2, 3)))
    tab.open(compare=True, step=STEPS[1], step2=LAST, frame=int(order[-1]))
    for frame in order[:3]:
        tab.click("#differ")
        tab.says("footer .told", f"frame {frame + 1}/48")
