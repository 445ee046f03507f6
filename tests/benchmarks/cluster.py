"""What Ray spares: `python -m tests.benchmarks.cluster [--rounds 3] [--checkpoints 40] [-- --validity]`.

`rlwatch explain --json` over a folder of checkpoints: by itself, with a cluster of its own of so many workers, and on
clusters that run already. The ways take turns; the table has the median and the least seconds of each. All must print
the same but for `cost`. What follows `--` is passed on to `rlwatch explain`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from tests.fixtures.saved import save_checkpoints


def explained(folder, *options, workers=None):
    """The seconds that `rlwatch explain` takes, and its JSON objects but for their cost."""
    own = {"RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": workers})} if workers else {}
    command = [sys.executable, "-m", "rlwatch", "explain", str(folder), "--json", *options]
    began = time.perf_counter()
    told = subprocess.run(command, env=os.environ | own, stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds = time.perf_counter() - began
    return seconds, [json.loads(line) | {"cost": None} for line in told.splitlines()]


@contextmanager
def running(workers, folder):
    """The address of a cluster of so many workers, for this machine alone, which ends with the block."""
    port = 6390 + workers
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", str(workers)]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cluster:
        try:
            started = any("runtime started" in line for line in iter(cluster.stdout.readline, ""))
            assert started, "the cluster must start"
            yield f"127.0.0.1:{port}"
        finally:
            cluster.terminate()


def main():
    """Print how long each way takes, and what the workers beyond the first are worth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpoints", type=int, default=40)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("passed_on", nargs="*", metavar="-- OPTION", help="of rlwatch explain, such as --validity")
    options = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}  # of clusters that only this one sees
    with tempfile.TemporaryDirectory() as name, ExitStack() as clusters:
        folder = save_checkpoints(Path(name) / "checkpoints", options.checkpoints)
        addresses = {workers: clusters.enter_context(running(workers, name)) for workers in options.workers}
        ways = {"without Ray": lambda: explained(folder, *options.passed_on)}
        for workers, address in addresses.items():
            ways[f"running, {workers}"] = lambda a=address: explained(folder, *options.passed_on, "--ray", a)
            ways[f"its own, {workers}"] = lambda w=workers: explained(folder, *options.passed_on, "--ray", workers=w)
        seconds, told = {way: [] for way in ways}, []
        for _ in range(options.rounds):
            for way, run in ways.items():
                took, said = run()
                seconds[way].append(took)
                told.append(said)
                print(f"{way:12} {took:6.2f} s", flush=True)
    assert all(said == told[0] for said in told), "the ways must say the same"
    print(f"\n{'way':12} {'median':>8} {'least':>8}")
    for way, took in seconds.items():
        print(f"{way:12} {median(took):6.2f} s {min(took):6.2f} s")


if __name__ == "__main__":
    main()
