"""How quick the RLWATCH tab is in a real browser, on a run of many checkpoints.

    python -m tests.benchmarks.tab_in_browser [--checkpoints 1000] [--slow] [--json]

First view: from the start of navigation until the first heat is drawn, the page's files fetched anew each time.
Checkpoint: from the slider's event until the screen, its stacked frames and the Q-values of a checkpoint that was not
shown before are drawn. Neighbour: the same one checkpoint further, as with the arrow keys. Playing: frames drawn in a
second. Memory: of the page's JavaScript after all of that.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from tests.fixtures.browser import Tab, chromium, tensorboard, wait
from tests.fixtures.synthetic_run import write_run

MOVED = """
const [places, done] = arguments, times = [];
const player = document.querySelector(".player"), slider = document.querySelector("#step");
const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
(async () => {
    for (const place of places) {
        const before = player.dataset.painted, began = performance.now();
        slider.value = place;
        slider.dispatchEvent(new Event("input"));
        while (player.dataset.painted === before) await later(0);
        times.push(player.dataset.painted - began);
        await later(250);
    }
    done(times);
})();
"""
PLAYED = """
const done = arguments[0], told = document.querySelector("footer .told"), frames = [];
new MutationObserver(() => frames.push(performance.now())).observe(told, {childList: true});
document.querySelector("#play").click();
setTimeout(() => {
    document.querySelector("#play").click();
    done((1000 * (frames.length - 1)) / (frames.at(-1) - frames[0]));
}, 4000);
"""


def measured(tab, checkpoints, repeats):
    """The figures, in milliseconds, frames per second and megabytes."""
    views = []
    for _ in range(repeats):
        tab.browser.execute_cdp_cmd("Network.clearBrowserCache", {})
        tab.open()
        views.append(float(tab.js("return document.querySelector('.player').dataset.painted")))
    far = [index * 271 % checkpoints for index in range(1, 41)]
    near = list(range(checkpoints // 3, checkpoints // 3 + 40))
    found = {
        "first view": views,
        **{name: moved(tab, places) for name, places in (("checkpoint", far), ("neighbour", near))},
    }
    times = {f"{name} ({part})": value for name, some in found.items() for part, value in summary(some).items()}
    playing = tab.browser.execute_async_script(PLAYED)
    memory = tab.js("return performance.memory.usedJSHeapSize") / 2**20
    return times | {"playing (frames per second)": playing, "memory (MiB)": memory}


def moved(tab, places):
    return tab.browser.execute_async_script(MOVED, places)


def summary(times):
    return {"median ms": statistics.median(times), "95 % ms": statistics.quantiles(times, n=20)[-1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=9, help="first views")
    parser.add_argument("--slow", action="store_true", help="without TensorBoard's data server")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        write_run(logs / "run", given.checkpoints)
        flags = ["--load_fast=false"] if given.slow else []
        with tensorboard(logs, Path(folder) / "log", *flags) as address:
            browser = chromium(folder)
            browser.set_script_timeout(120)
            tab = Tab(browser, address, folder)
            wait(lambda: tab.open().text("#told").endswith(f"/{given.checkpoints}"), 600)
            found = measured(tab, given.checkpoints, given.repeats)
            browser.quit()
    found["load of the machine"] = os.getloadavg()[0]
    print(json.dumps(found) if given.json else "\n".join(f"{value:8.1f}  {name}" for name, value in found.items()))


if __name__ == "__main__":
    main()
