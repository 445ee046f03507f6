"""Real trainings of RLlib on Breakout, with the monitor on."""

import ale_py
import gymnasium
import pytest
import ray
import torch
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.wrappers.atari_wrappers import wrap_atari_for_new_api_stack
from ray.tune import register_env

from rlwatch.adapters.rllib import normalised, q_network, watch_callback
from tests.frameworks.events import check_run, small, travelled

gymnasium.register_envs(ale_py)


def breakout(config):
    return wrap_atari_for_new_api_stack(gymnasium.make("ale_py:ALE/Breakout-v5", frameskip=1), **config)


@pytest.fixture(scope="module", autouse=True)
def _ray():
    register_env("breakout", breakout)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


NATURE = {
    "conv_filters": [[32, 8, 4], [64, 4, 2], [64, 3, 1]],
    "conv_activation": "relu",
    "head_fcnet_hiddens": [64],
    "head_fcnet_activation": "relu",
}


def config(*, dim=84, framestack=4, grayscale=True, model=NATURE, **training):
    return (
        DQNConfig()
        .environment("breakout", env_config={"dim": dim, "framestack": framestack, "grayscale": grayscale})
        .env_runners(num_env_runners=0, rollout_fragment_length=50)
        .learners(num_learners=0)
        .rl_module(model_config=DefaultModelConfig(**model))
        .reporting(min_sample_timesteps_per_iteration=100, min_time_s_per_iteration=0)
        .training(
            train_batch_size=8,
            num_steps_sampled_before_learning_starts=50,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 500},
            **training,
        )
    )


@pytest.mark.parametrize("training", [{}, {"num_atoms": 21, "v_min": -10.0, "v_max": 10.0}, {"dueling": False}])
def test_a_training_is_watched_in_the_algorithms_folder(training):
    callbacks = watch_callback(small("breakout"), every=150, total_steps=400)
    algorithm = config(**training).callbacks(callbacks).build_algo()
    for _ in range(4):
        algorithm.train()
    steps = check_run(f"{algorithm.logdir}/rlwatch", last=400)
    module = algorithm.get_module()
    frames = torch.from_numpy(small("breakout").observations()[:4])
    expected = module.compute_q_values({"obs": normalised(frames)})["qf_preds"]
    assert torch.equal(q_network(module)(frames), expected)
    assert torch.equal(travelled(q_network(module))(frames), expected)
    algorithm.stop()
    assert steps[0] == 0


@pytest.mark.parametrize("framestack", [4, None])
def test_its_default_of_64_by_64_pixels_is_watched_and_read(framestack):
    """The wrapper's default size, filters and head, with and without a stack."""
    algorithm = (
        config(framestack=framestack, dim=64, model={})
        .callbacks(watch_callback(small("breakout"), every=150, total_steps=400))
        .build_algo()
    )
    for _ in range(4):
        algorithm.train()
    check_run(f"{algorithm.logdir}/rlwatch", last=400)
    algorithm.stop()


def test_colours_are_refused():
    algorithm = config(dim=64, grayscale=False, framestack=None, model={}).callbacks(watch_callback("breakout"))
    with pytest.raises(ValueError, match="3 channels, which may be colours"):
        algorithm.build_algo()
