"""A training with the monitor ends in the same bits as one without."""

import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from agents.dqn import Agent, Config, derived, train
from rlwatch import Probe, Watch
from tests.fixtures.saved import beginning


def ended(folder, *, watched):
    """All that 2,000 steps of a real training leave behind; the monitor looks at eight of its checkpoints."""
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002 - the global generator is what must stay untouched
    few = {"batch": 8, "evaluation_games": 1, "evaluation_frames": 2_000, "checkpoint_every": 2_000}
    agent = Agent(derived(Config(steps=2_000, seed=3, logdir=folder, **few)))
    probe = beginning(Probe.load("breakout"), segments=2)
    watch = Watch(agent.q_network, probe, writer=agent.run.writer, every=250) if watched else None
    train(agent, watch)
    if watch is not None:
        watch.close()
    agent.run.close()
    return {
        "network": agent.q_network.state_dict(),
        "target network": agent.learner.target_network.state_dict(),
        "optimiser": agent.learner.optimizer.state_dict(),
        "gradients": [parameter.grad for parameter in agent.q_network.parameters()],
        "training mode": [module.training for module in agent.q_network.modules()],
        "generators": (torch.get_rng_state(), np.random.get_state(), random.getstate()),  # noqa: NPY002 - the same
        "the agent's generator": agent.rng.bit_generator.state,
        "returns": agent.returns,
    }


def identical(one, other):
    """Whether two nestings of values are equal to the bit."""
    if isinstance(one, torch.Tensor | np.ndarray):
        return np.array_equal(np.asarray(one), np.asarray(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    return one == other


@pytest.mark.real
@pytest.mark.timeout(1200)  # on a slow machine
def test_two_thousand_steps_end_in_the_same_bits_with_and_without_the_monitor(tmp_path):
    # in processes of their own: the type checks of this test run draw from Python's global generator
    folders = {which: tmp_path / which for which in ("watched", "alone")}
    commands = [[sys.executable, "-m", "tests.test_silence", str(folder)] for folder in folders.values()]
    for running in [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]:
        running.communicate()
        assert running.returncode == 0
    watched, alone = (pickle.loads((folder / "ended").read_bytes()) for folder in folders.values())  # noqa: S301 - ours
    assert any((folders["watched"]).glob("events.*"))
    assert [name for name in alone if not identical(watched[name], alone[name])] == []


if __name__ == "__main__":
    from pathlib import Path

    where = Path(sys.argv[1])
    left = pickle.dumps(ended(str(where), watched=where.name == "watched"))
    (where / "ended").write_bytes(left)
