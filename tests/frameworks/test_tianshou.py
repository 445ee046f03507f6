"""A real training of Tianshou on Breakout, with the monitor on."""

import ale_py
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, RecordEpisodeStatistics
from tianshou.algorithm.modelfree.c51 import C51, C51Policy
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.qrdqn import QRDQN, QRDQNPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.env.atari.atari_network import C51Net, DQNet, QRDQNet
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils import TensorboardLogger
from torch.utils.tensorboard import SummaryWriter

from rlwatch.adapters.tianshou import q_network, watched
from tests.fixtures.watched import read
from tests.frameworks.events import check_run, small, travelled

gymnasium.register_envs(ale_py)
SHAPE = {"c": 4, "h": 84, "w": 84}
KINDS = {
    "DQN": (DQN, DiscreteQLearningPolicy, lambda: DQNet(**SHAPE, action_shape=4)),
    "C51": (C51, C51Policy, lambda: C51Net(**SHAPE, action_shape=[4])),
    "QR-DQN": (QRDQN, QRDQNPolicy, lambda: QRDQNet(**SHAPE, action_shape=[4])),
}


def breakout():
    env = AtariPreprocessing(gymnasium.make("ALE/Breakout-v5", frameskip=1))
    return RecordEpisodeStatistics(FrameStackObservation(env, 4))


def algorithm(name):
    kind, policy, network = KINDS[name]
    space = gymnasium.spaces.Discrete(4)
    made = policy(model=network(), action_space=space, eps_training=1.0)
    return kind(policy=made, optim=AdamOptimizerFactory(lr=1e-4), target_update_freq=50)


def params(learner, folder, **settings):
    envs = DummyVectorEnv([breakout, breakout])
    collector = Collector(learner, envs, VectorReplayBuffer(400, 2), exploration_noise=True)
    return OffPolicyTrainerParams(
        training_collector=collector,
        test_collector=None,
        max_epochs=2,
        epoch_num_steps=200,
        collection_step_num_env_steps=20,
        update_step_num_gradient_steps_per_sample=0.05,
        batch_size=8,
        logger=TensorboardLogger(SummaryWriter(folder), training_interval=1),
        **settings,
    )


@pytest.mark.parametrize("name", KINDS)
def test_a_training_is_watched_in_its_own_tensorboard_log(tmp_path, name):
    called = []
    learner = algorithm(name)
    settings = params(learner, tmp_path, training_fn=lambda epoch, step: called.append((epoch, step)))
    before = settings.training_fn
    with watched(learner, settings, small("breakout"), every=150):
        learner.run_training(settings)
    assert settings.training_fn is before
    assert called[:2] == [(1, 0), (1, 20)]
    assert check_run(tmp_path, last=400) == [0, 160, 320, 400]
    assert "training/n_collected_steps" in read(tmp_path).Tags()["scalars"]


@pytest.mark.parametrize("name", KINDS)
def test_the_q_values_are_the_policys_own(name):
    policy = algorithm(name).policy
    frames = torch.from_numpy(small("breakout").observations()[:4]).float()
    said, _ = policy.model(frames)
    assert torch.equal(q_network(policy)(frames), policy.compute_q_value(said, None))
    assert torch.equal(travelled(q_network(policy))(frames), q_network(policy)(frames))
    assert np.isfinite(q_network(policy)(frames).detach()).all()
