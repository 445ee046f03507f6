"""Real trainings of d3rlpy on Breakout, with the monitor on."""

import ale_py
import d3rlpy
import gymnasium
import pytest
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, RecordEpisodeStatistics

from rlwatch.adapters.d3rlpy import observe_of, q_network, watched
from tests.frameworks.events import check_run, small, travelled

gymnasium.register_envs(ale_py)
FACTORIES = {
    "mean": d3rlpy.models.MeanQFunctionFactory,
    "quantiles": lambda: d3rlpy.models.QRQFunctionFactory(n_quantiles=20),
}


def breakout():
    env = AtariPreprocessing(gymnasium.make("ALE/Breakout-v5", frameskip=1))
    return RecordEpisodeStatistics(FrameStackObservation(env, 4))


def dqn(name, critics=1):
    config = d3rlpy.algos.DQNConfig(
        batch_size=8,
        n_critics=critics,
        observation_scaler=d3rlpy.preprocessing.PixelObservationScaler(),
        q_func_factory=FACTORIES[name](),
        target_update_interval=100,
    )
    return config.create()


@pytest.mark.parametrize("name", FACTORIES)
def test_a_training_is_watched(tmp_path, name):
    env, algorithm = breakout(), dqn(name)
    with watched(small("breakout"), env=env, logdir=tmp_path, every=150, total_steps=300) as callback:
        algorithm.fit_online(
            env,
            d3rlpy.dataset.create_fifo_replay_buffer(500, env=env),
            n_steps=300,
            n_steps_per_epoch=300,
            update_interval=8,
            update_start_step=50,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
            show_progress=False,
            callback=callback,
        )
    assert check_run(tmp_path, last=300) == [1, 151, 300]


@pytest.mark.parametrize("critics", [1, 2])
@pytest.mark.parametrize("name", FACTORIES)
def test_the_q_values_are_the_algorithms_own(name, critics):
    algorithm = dqn(name, critics)
    algorithm.build_with_env(breakout())
    frames = small("breakout").observations()[:4]
    q_values = q_network(algorithm)(observe_of(algorithm)(torch.from_numpy(frames)))
    network, observe = travelled((q_network(algorithm), observe_of(algorithm)))
    assert torch.equal(network(observe(torch.from_numpy(frames))), q_values)
    for action in range(4):
        expected = algorithm.predict_value(frames, torch.full((4,), action).numpy())
        assert torch.allclose(q_values[:, action], torch.from_numpy(expected), atol=1e-6)
