"""Real trainings of pfrl on Breakout, with the monitor on."""

import ale_py
import gymnasium
import numpy as np
import pfrl
import pytest
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, RecordEpisodeStatistics
from pfrl.experiments import train_agent

from rlwatch.adapters.pfrl import observe_of, q_network, watched
from tests.frameworks.events import check_run, small, travelled

gymnasium.register_envs(ale_py)
HEADS = {
    "dueling DQN": (pfrl.agents.DQN, lambda: pfrl.q_functions.DuelingDQN(4)),
    "categorical": (pfrl.agents.CategoricalDQN, lambda: pfrl.q_functions.DistributionalDuelingDQN(4, 51, -10, 10)),
}


class OldStep(gymnasium.Wrapper):
    """Gymnasium's environment as pfrl, made for old gym, calls it."""

    def reset(self):
        return self.env.reset(seed=0)[0]

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, info


def breakout():
    env = AtariPreprocessing(gymnasium.make("ALE/Breakout-v5", frameskip=1))
    return OldStep(RecordEpisodeStatistics(FrameStackObservation(env, 4)))


def agent(name):
    kind, network = HEADS[name]
    q_function = network()
    return kind(
        q_function,
        torch.optim.Adam(q_function.parameters(), lr=1e-4),
        pfrl.replay_buffers.ReplayBuffer(500),
        0.99,
        pfrl.explorers.ConstantEpsilonGreedy(1.0, lambda: np.random.randint(4)),  # noqa: NPY002 - as pfrl's examples
        replay_start_size=50,
        minibatch_size=8,
        update_interval=8,
        target_update_interval=80,
        phi=lambda frames: np.asarray(frames, dtype=np.float32) / 255,
    )


@pytest.mark.parametrize("name", HEADS)
def test_a_training_is_watched(tmp_path, name):
    with watched(small("breakout"), logdir=tmp_path / "rlwatch", every=150) as hook:
        train_agent(agent(name), breakout(), steps=400, outdir=str(tmp_path), step_hooks=[hook])
    assert check_run(tmp_path / "rlwatch", last=400) == [1, 151, 301, 400]


@pytest.mark.parametrize("name", HEADS)
def test_the_q_values_are_the_agents_own(name):
    learner = agent(name)
    frames = small("breakout").observations()[:4]
    batch = learner.batch_states(list(frames), learner.device, learner.phi)
    assert torch.equal(q_network(learner)(batch), learner.model(batch).q_values)
    network, observe = travelled((q_network(learner), observe_of(learner)))
    assert torch.equal(network(observe(torch.from_numpy(frames))), learner.model(batch).q_values)


def test_another_game_is_refused_at_the_first_step(tmp_path):
    with (
        pytest.raises(ValueError, match="the training of breakout"),
        watched("pong", logdir=tmp_path / "rlwatch") as hook,
    ):
        train_agent(agent("dueling DQN"), breakout(), steps=5, outdir=str(tmp_path), step_hooks=[hook])
