"""How fast the RLWATCH tab's data comes on a long run: 1,000 checkpoints of four maps each.

python -m tests.benchmarks.tab
"""

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.fixtures.synthetic_run import write_run

QUERIES = ("runs", "probe?run=run", "frames?run=run", "checkpoints?run=run", "returns?run=run", "maps?run=run&step={}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--logdir", type=Path, help="with a run that is there already")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        logdir = given.logdir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if given.logdir is None:
            print(f"written in {timed(lambda: write_run(logdir / 'run', given.checkpoints))[1]:.1f} s")
        size = sum(file.stat().st_size for file in logdir.rglob("*") if file.is_file())
        print(f"{given.checkpoints} checkpoints: {size / 1e6:.0f} MB, {size / given.checkpoints / 1e3:.0f} kB each")
        for mode in ("true", "false"):
            measure(logdir, given.checkpoints, mode)


def measure(logdir, checkpoints, fast):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("tensorboard")
    command = [program, "--logdir", logdir, "--port", str(port), f"--load_fast={fast}"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"http://localhost:{port}/data/plugin/rlwatch/"
        while counted(url) < checkpoints:
            time.sleep(0.1)
        print(f"\nload_fast={fast}: loaded {time.perf_counter() - began:.1f} s after the start")
        for query in QUERIES:
            told(url + query, query, checkpoints)
        print(f"memory of TensorBoard {resident(server.pid)} MB")
        server.terminate()


def told(url, query, checkpoints):
    steps = [10_000 * (index * 37 % checkpoints) for index in range(20)]
    seconds, sizes = [], []
    for step in steps:
        content, spent = timed(lambda step=step: fetched(url.format(step)))
        seconds.append(1000 * spent)
        sizes.append(len(content))
    print(
        f"{query:24} first {seconds[0]:6.1f} ms, then median {statistics.median(seconds[1:]):6.1f} ms, "
        f"longest {max(seconds[1:]):6.1f} ms, {statistics.mean(sizes) / 1e3:8.1f} kB"
    )


def counted(url):
    try:
        runs = json.loads(fetched(url + "runs", packed=False))["runs"]
    except (urllib.error.URLError, ConnectionError):
        return 0
    return runs[0]["checkpoints"] if runs else 0


def fetched(url, *, packed=True):
    asked = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"} if packed else {})  # noqa: S310 - our own
    with urllib.request.urlopen(asked) as response:  # noqa: S310 - our own server
        return response.read()


def timed(work):
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def resident(process):
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
