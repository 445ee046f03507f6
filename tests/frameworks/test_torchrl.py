"""Real trainings of TorchRL on Breakout, with the monitor on: a plain loop and a Trainer."""

import ale_py
import gymnasium
import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import GymWrapper, TransformedEnv
from torchrl.envs.transforms import (
    CatFrames,
    Compose,
    ObservationNorm,
    RenameTransform,
    RewardSum,
    StepCounter,
    ToTensorImage,
    UnsqueezeTransform,
    VecNorm,
)
from torchrl.modules import (
    DistributionalQValueActor,
    DuelingCnnDQNet,
    EGreedyModule,
    QValueActor,
)
from torchrl.objectives import DQNLoss, SoftUpdate
from torchrl.trainers import ReplayBufferTrainer, Trainer, UpdateWeights

from rlwatch import Watch
from rlwatch.adapters.torchrl import q_network, watched
from tests.frameworks.events import check_run, small, travelled

gymnasium.register_envs(ale_py)
NORMS = {
    "not normalised": list,
    "VecNorm": lambda: [VecNorm(in_keys=["pixels"], decay=0.99)],
    "ObservationNorm": lambda: [ObservationNorm(loc=0.2, scale=0.5, in_keys=["pixels"], standard_normal=True)],
}


def breakout(norm="not normalised"):
    game = gymnasium.wrappers.AtariPreprocessing(gymnasium.make("ALE/Breakout-v5", frameskip=1))
    env = GymWrapper(game, categorical_action_encoding=True)
    frames = [
        RenameTransform(["observation"], ["pixels"]),
        UnsqueezeTransform(dim=-1, in_keys=["pixels"]),
        ToTensorImage(in_keys=["pixels"]),
        CatFrames(N=4, dim=-3, in_keys=["pixels"]),
    ]
    return TransformedEnv(env, Compose(*frames, *NORMS[norm](), RewardSum(), StepCounter()))


def dueling():
    return DuelingCnnDQNet(
        out_features=4,
        out_features_value=1,
        cnn_kwargs={"num_cells": [32, 64, 64], "kernel_sizes": [8, 4, 3], "strides": [4, 2, 1]},
        mlp_kwargs={"depth": 1, "num_cells": [64]},
    )


def actor(env):
    made = QValueActor(dueling(), in_keys=["pixels"], spec=env.action_spec)
    made(TensorDict({"pixels": torch.zeros(1, 4, 84, 84)}, [1]))  # lazy layers take their sizes
    return made


@pytest.mark.parametrize("norm", NORMS)
def test_a_plain_loop_is_watched(tmp_path, norm):
    env = breakout(norm)
    policy = actor(env)
    exploring = TensorDictSequential(policy, EGreedyModule(spec=env.action_spec, eps_init=1.0, annealing_num_steps=400))
    collector = Collector(env, exploring, frames_per_batch=50, total_frames=400)
    loss, buffer = (
        DQNLoss(policy, delay_value=True, action_space="categorical"),
        ReplayBuffer(storage=LazyTensorStorage(400), batch_size=8),
    )
    updater, optimiser = SoftUpdate(loss, eps=0.99), torch.optim.Adam(loss.parameters(), lr=1e-4)
    watch, frames = Watch(q_network(exploring, env), small("breakout"), logdir=tmp_path, every=150), 0
    for batch in collector:
        watch(frames)
        buffer.extend(batch.reshape(-1).cpu())
        frames += batch.numel()
        loss(buffer.sample())["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        updater.step()
    watch.finish(frames)
    watch.close()
    assert check_run(tmp_path, last=400) == [0, 150, 300, 400]


def test_a_trainer_is_watched_and_its_returns_are_told(tmp_path):
    env = breakout()
    policy = actor(env)
    exploring = TensorDictSequential(policy, EGreedyModule(spec=env.action_spec, eps_init=1.0, annealing_num_steps=400))
    collector = Collector(env, exploring, frames_per_batch=100, total_frames=400)
    loss = DQNLoss(policy, delay_value=True, action_space="categorical")
    trainer = Trainer(
        collector=collector,
        total_frames=400,
        frame_skip=1,
        optim_steps_per_batch=1,
        loss_module=loss,
        optimizer=torch.optim.Adam(loss.parameters(), lr=1e-4),
        progress_bar=False,
    )
    buffer = ReplayBufferTrainer(ReplayBuffer(storage=LazyTensorStorage(400), batch_size=8), flatten_tensordicts=True)
    buffer.register(trainer)
    UpdateWeights(collector, 1).register(trainer)
    with watched(trainer, policy, small("breakout"), env=env, logdir=tmp_path, every=150) as watch:
        trainer.train()
    assert check_run(tmp_path, last=400) == [100, 300, 400]
    assert watch._last.returns >= 0


@pytest.mark.parametrize("norm", NORMS)
def test_the_q_values_are_the_actors_own_on_what_the_environment_shows_it(norm):
    env = breakout(norm)
    policy = actor(env)
    rollout = env.rollout(20)
    frames = breakout().rollout(1)["pixels"]
    raw = (frames * 255).round().to(torch.uint8)
    expected = policy(TensorDict({"pixels": env.transform[4:-2](TensorDict({"pixels": frames}, [1]))["pixels"]}, [1]))
    del rollout
    assert torch.allclose(q_network(policy, env)(raw), expected["action_value"], atol=1e-6)
    assert torch.equal(travelled(q_network(policy, env))(raw), q_network(policy, env)(raw))


class Atoms(torch.nn.Module):
    """Logits of the atoms, (probe, atom, action)."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 8, 8), torch.nn.ReLU(), torch.nn.Flatten())
        self.head = torch.nn.Linear(400, 51 * 4)

    def forward(self, x):
        return self.head(self.body(x)).unflatten(-1, (51, 4))


def test_a_distributional_actor_is_read_by_its_mean_and_watched(tmp_path):
    support = torch.linspace(-10, 10, 51)
    policy = DistributionalQValueActor(Atoms(), support, in_keys=["pixels"], spec=breakout().action_spec)
    frames = torch.from_numpy(small("breakout").observations()[:4])
    said = policy(TensorDict({"pixels": frames / 255}, [4]))["action_value"]
    expected = (said.exp() * support.unsqueeze(-1)).sum(-2)
    assert torch.allclose(q_network(policy)(frames), expected, atol=1e-5)
    watch = Watch(q_network(policy), small("breakout"), logdir=tmp_path)
    assert watch(0) is not None
    watch.close()
