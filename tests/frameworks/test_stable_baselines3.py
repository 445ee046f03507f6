"""Real trainings of Stable-Baselines3 and sb3-contrib on real Atari games, with the monitor on."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from rlwatch.adapters.stable_baselines3 import WatchCallback
from rlwatch.tensorboard.runs import newest_scales
from tests.fixtures.watched import read
from tests.frameworks.events import check_run, small

STEPS = 400
UNSCALED = {"policy_kwargs": {"normalize_images": False}}


def atari(game="Breakout", count=1, **settings):
    return VecFrameStack(make_atari_env(f"ale_py:{game}NoFrameskip-v4", count, seed=0, **settings), n_stack=4)


def model(kind=DQN, env=None, **settings):
    tiny = {"buffer_size": 500, "learning_starts": 50, "batch_size": 8, "target_update_interval": 100, "seed": 0}
    return kind("CnnPolicy", env or atari(), **(tiny | settings))


@pytest.mark.parametrize(("kind", "probe"), [(DQN, None), (QRDQN, small("breakout"))])
def test_a_training_is_watched_in_its_own_tensorboard_log(tmp_path, kind, probe):
    learner = model(kind, tensorboard_log=tmp_path)
    callback = WatchCallback(probe, every=150)
    learner.learn(STEPS, callback=callback, log_interval=1)
    (run,) = tmp_path.iterdir()
    assert len(list(run.iterdir())) == 1
    assert check_run(run, last=STEPS) == [1, 151, 301, STEPS]
    assert "rollout/ep_rew_mean" in read(run).Tags()["scalars"]
    assert callback.watch._last.returns == learner.ep_info_buffer[-1]["r"]


def test_a_model_that_goes_on_learning_goes_on_with_its_log(tmp_path):
    learner = model(learning_rate=0.0)
    callback = WatchCallback(small("breakout"), logdir=tmp_path, every=50)
    with torch.no_grad():
        learner.q_net.q_net[-1].weight.mul_(64)
    learner.learn(100, callback=callback)
    scales = newest_scales(tmp_path)
    with torch.no_grad():
        learner.q_net.q_net[-1].weight.div_(64)
    learner.learn(100, callback=callback, reset_num_timesteps=False)
    assert check_run(tmp_path, last=200) == [1, 51, 100, 101, 151, 200]
    assert newest_scales(tmp_path) == scales


def test_steps_of_games_in_other_processes_are_counted_together_and_pong_is_recognised(tmp_path):
    env = atari("Pong", 2, vec_env_cls=SubprocVecEnv)
    callback = WatchCallback(small("pong"), logdir=tmp_path, every=100)
    model(env=env).learn(200, callback=callback)
    env.close()
    assert check_run(tmp_path, last=200, game="Pong") == [2, 102, 200]


def test_a_training_without_tensorboard_logs_beside_its_logger_and_says_so(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path))
    learner = model()
    learner.learn(60, callback=WatchCallback(small("breakout"), every=1000))
    check_run(Path(learner.logger.dir) / "rlwatch", last=60)
    assert str(tmp_path) in caplog.text


@pytest.mark.parametrize(
    ("learner", "settings", "remedy"),
    [
        (model, {"probe": "pong"}, "the probe is of pong, the training of breakout"),
        (lambda: PPO("CnnPolicy", atari(), n_steps=8), {}, "expected a DQN or a QR-DQN, got PPO"),
        (lambda: model(env=VecNormalize(VecTransposeImage(atari())), **UNSCALED), {}, "norm_obs=False"),
    ],
)
def test_what_cannot_be_watched_is_refused_before_training(tmp_path, learner, settings, remedy):
    with pytest.raises((TypeError, ValueError), match=remedy):
        learner().learn(16, callback=WatchCallback(logdir=tmp_path, **settings))


@pytest.mark.parametrize("kind", [DQN, QRDQN])
def test_a_training_is_watched_from_a_process_of_its_own(tmp_path, kind):
    learner = model(kind, tensorboard_log=tmp_path)
    learner.learn(STEPS, callback=WatchCallback(small("breakout"), every=150, where="process"))
    (run,) = tmp_path.iterdir()
    check_run(run, last=STEPS)


def ended(folder, *, watched):
    """All that a short training leaves behind."""
    learner = model()
    learner.learn(STEPS, callback=WatchCallback(small("breakout"), logdir=folder, every=100) if watched else None)
    replay = learner.replay_buffer
    return {
        "network": {name: value.numpy() for name, value in learner.q_net.state_dict().items()},
        "target network": {name: value.numpy() for name, value in learner.q_net_target.state_dict().items()},
        "optimiser": str(learner.policy.optimizer.state_dict()),
        "frames": hashlib.sha256(replay.observations.tobytes() + replay.actions.tobytes()).hexdigest(),
        "generator": torch.get_rng_state().numpy(),
    }


def test_a_training_ends_in_the_same_bits_with_and_without_the_monitor(tmp_path):
    # in processes of their own: the type checks of this test run draw from Python's global generator
    folders = {which: tmp_path / which for which in ("watched", "alone")}
    for folder in folders.values():
        command = [sys.executable, "-W", "ignore", "-m", "tests.frameworks.test_stable_baselines3", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert any(folders["watched"].glob("events.*"))
    watched, alone = ((folder / "ended").read_bytes() for folder in folders.values())
    assert watched == alone


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir()
    torch.set_num_threads(1)
    (where / "ended").write_bytes(pickle.dumps(ended(where, watched=where.name == "watched")))
