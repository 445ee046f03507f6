"""What the monitor costs a real training: `python -m tests.benchmarks.overhead [--seconds 120] [--json]`.

Each training runs without the monitor, with it inline, and with it in a process of its own, one after the other. How
much longer it takes cannot be read off three such wall clocks, which differ by more than that; so it is measured within
each training: the time that calls of the monitor take, and how much longer steps are while its process is busy than
while it is not. Memory is the largest anonymous memory of the training's process and of the worker's, looked at ten
times a second (from /proc, as Linux has it); the replay is small, so that it is full within the first minute and the
figures of the modes compare. Stable-Baselines3 takes part where it can be imported.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import queue
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from rlwatch import Watch

NEVER = 10**9
REPLAY = 4_000
MODES = ("off", "inline", "process")


class Meter:
    """Stands in for a Watch: passes everything on, and takes the times of calls and of the steps between them."""

    def __init__(self, watch, seconds):
        self.watch, self.until = watch, time.perf_counter() + seconds
        self.step, self.used = 0, time.process_time()
        self.calling = 0.0
        self.steps = {False: [], True: []}
        self.left = time.perf_counter()

    def __getattr__(self, name):
        return getattr(self.watch, name)

    def __call__(self, step):
        now = time.perf_counter()
        busy = self.watch is not None and self.watch._place.busy
        self.steps[busy].append(now - self.left)
        report = None if self.watch is None else self.watch(step)
        self.left = time.perf_counter()
        self.calling += self.left - now
        self.step = step
        return report

    def returns(self, step, value):
        if self.watch is not None:
            self.watch.returns(step, value)

    def finish(self, step):
        if self.watch is not None:
            self.watch.finish(step)

    @property
    def finding(self):
        return ""

    def over(self):
        return int(time.perf_counter() > self.until)

    def told(self):
        """The share of the training that the monitor took, by part."""
        total = sum(map(sum, self.steps.values())) + self.calling
        idle, busy = (np.array(self.steps[which]) for which in (False, True))
        slower = busy.sum() - len(busy) * idle.mean() if len(busy) else 0.0
        return {
            "steps": self.step,
            "cpu ms a step": 1000 * (time.process_time() - self.used) / self.step,
            "calls": self.calling / total,
            "slower": slower / total,
            "busy": busy.sum() / total,
            "overhead": (self.calling + slower) / total,
        }


def attached(network, folder, mode, budget, **settings):
    return None if mode == "off" else Watch(network, "breakout", logdir=folder, budget=budget, where=mode, **settings)


def own_agent(folder, mode, seconds, budget):
    from agents.dqn import Agent, Config, derived, train  # noqa: PLC0415 - in the measured process only

    config = Config(
        steps=NEVER,
        replay=REPLAY,
        learning_starts=500,
        target_every=500,
        epsilon_steps=10_000,
        checkpoint_every=NEVER,
        evaluation_games=1,
        evaluation_frames=40,
        logdir=str(folder / "agent"),
    )
    agent = Agent(derived(config))
    meter = Meter(attached(agent.q_network, folder, mode, budget), seconds)
    train(agent, meter, meter.over)
    agent.run.close()
    return meter


def stable_baselines3(folder, mode, seconds, budget):
    from stable_baselines3.common.callbacks import BaseCallback  # noqa: PLC0415 - a peer, needed here only

    from agents.dqn import Config, derived  # noqa: PLC0415
    from tests.benchmarks.training import stable_baselines  # noqa: PLC0415

    config = Config(steps=40_000, replay=REPLAY, learning_starts=500, target_every=500, envs=1, threads=2)
    model = stable_baselines(derived(config))
    meter = Meter(attached(model.q_net, folder, mode, budget), seconds)

    class Metered(BaseCallback):
        def _on_step(self):
            meter(self.num_timesteps)
            return not meter.over()

    model.learn(NEVER, callback=Metered())
    return meter


TRAININGS = {"agents.dqn": own_agent, "stable-baselines3": stable_baselines3}


def trained(training, mode, seconds, budget, folder, answers):
    """Puts what one training tells into `answers`."""
    meter = TRAININGS[training](folder, mode, seconds, budget)
    told = meter.told()
    if meter.watch is not None:
        told["logged"] = meter.watch.cost
        meter.watch.close()
    answers.put(told)


def measured(training, mode, seconds, budget):
    """What a training in a process of its own tells, its memory, and what it has logged.

    Raises: RuntimeError when it fails.
    """
    spawning = multiprocessing.get_context("spawn")
    answers, peaks = spawning.Queue(), {"training MB": 0.0, "worker MB": 0.0}
    with tempfile.TemporaryDirectory() as name:
        process = spawning.Process(target=trained, args=(training, mode, seconds, budget, Path(name), answers))
        process.start()
        while True:
            try:
                told = answers.get(timeout=0.1)
                break
            except queue.Empty:
                if process.exitcode:
                    raise RuntimeError(f"{training} must end with 0, got {process.exitcode}") from None
            now = anonymous(process.pid), sum(map(anonymous, children(process.pid)))
            peaks = {part: max(peak, size) for (part, peak), size in zip(peaks.items(), now, strict=True)}
        process.join()
        return told | peaks | ({} if mode == "off" else bytes_of(Path(name)))


def anonymous(pid):
    """The anonymous memory that a process has in use, in MB; 0 when it is gone."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return 0.0
    return int(lines.get("RssAnon", "0 kB").split()[0]) / 1024


def children(pid):
    """The processes that a process has started."""
    try:
        return [child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    except OSError:
        return []


def bytes_of(folder):
    """Checkpoints of a run, and kilobytes that each takes: clips, what the RLWATCH tab shows, and all else."""
    sizes, steps = Counter(), set()
    for file in folder.glob("events.*"):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                kind = "clips" if value.tag.startswith("rlwatch/clip/") else "other"
                kind = "tab" if value.metadata.plugin_data.plugin_name == "rlwatch" else kind
                sizes[kind] += value.ByteSize() / 1024
                steps |= {event.step} if value.tag == "rlwatch/q/greedy" else set()
    return {"checkpoints": len(steps)} | {f"{kind} KB": size / max(len(steps), 1) for kind, size in sizes.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="of each training")
    parser.add_argument("--budget", type=float, default=0.01)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    known = [name for name in TRAININGS if name == "agents.dqn" or importlib.util.find_spec("stable_baselines3")]
    parser.add_argument("--trainings", nargs="+", default=known, choices=known)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for training in options.trainings:
        for mode in options.modes:
            told = measured(training, mode, options.seconds, options.budget)
            record = {"training": training, "mode": mode, "load": os.getloadavg()[0]} | told
            shown = " ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in record.items()
            )
            print(json.dumps(record) if options.json else shown, flush=True)


if __name__ == "__main__":
    main()
