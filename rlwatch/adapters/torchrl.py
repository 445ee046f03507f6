"""TorchRL: `Watch(q_network(actor, env), "breakout", logdir=...)` in a loop of one's own.

With a Trainer: `with watched(trainer, actor, "breakout", env=env, logdir=...): trainer.train()`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.envs import TransformedEnv
from torchrl.envs.transforms import ObservationNorm, VecNorm, VecNormV2
from torchrl.modules import DistributionalDQNnet, QValueActor

from rlwatch.adapters.common import OTHERS, finishing
from rlwatch.attribution.inputs import Observe, View
from rlwatch.unwrap import Read
from rlwatch.watch import Watch

NORMS = (ObservationNorm, VecNorm, VecNormV2)


@contextmanager
def watched(trainer: Any, actor: Any, probe: Any, *, env: Any = None, **settings: Any) -> Iterator[Watch]:
    """Watches the actor that a Trainer trains; at the end of the block the last checkpoint is made.

    `env`: the environment that it acts in, see `q_network`. `settings`: as Watch takes them. Returns are those that
    the transform RewardSum notes.

    Raises: as Watch and `q_network` do.
    """
    total = trainer.total_frames // trainer.frame_skip
    watch = Watch(q_network(actor, env), probe, **({"total_steps": total} | settings))

    def step() -> int:
        return int(trainer.collected_frames // trainer.frame_skip)

    def after_steps(batch: Any) -> None:
        _tell_return(watch, batch, step())
        watch(step())

    trainer.register_op("post_steps_log", after_steps)
    with finishing(watch, step):
        yield watch


def q_network(actor: Any, env: Any = None) -> nn.Module:
    """The Q-values that the actor has of the probe's frames, the mean of its distribution where it is distributional.

    `actor`: a QValueActor, or what holds one. `env`: the environment that it acts in: what its transforms VecNorm and
    ObservationNorm know of the frames belongs to the network, and bytes stay bytes where it gives bytes. Without one,
    frames are divided by 255.

    Raises: TypeError when the actor holds no QValueActor.
    """
    held = actor.modules() if isinstance(actor, nn.Module) else ()
    q_actor: Any = next((module for module in held if isinstance(module, QValueActor)), None)
    if q_actor is None:
        raise TypeError(f"expected a QValueActor or a module that holds one, got {type(actor).__name__}: {OTHERS}")
    key, table = q_actor.in_keys[0], q_actor.module[-1].action_value_key
    distributional = isinstance(q_actor.module[-2], DistributionalDQNnet)
    steps = len(q_actor.module) - 1 - distributional
    observe = _observe(env, key)

    def read(network: Any, frames: Tensor) -> Tensor:
        observed = TensorDict({key: observe(frames)}, [len(frames)])
        for module in network.module[:steps]:
            observed = module(observed)
        said: Tensor = observed[table]
        return (said.softmax(-2) * network.support.unsqueeze(-1)).sum(-2) if distributional else said

    return Read(q_actor, read)


def _observe(env: Any, key: Any) -> Observe:
    """What the environment makes of the probe's frames, by the statistics that it has at the time."""
    if env is not None and env.observation_spec[key].dtype == torch.uint8:
        return View("uint8", None, False)
    transforms = list(env.transform) if isinstance(env, TransformedEnv) else []
    norms = [one for one in transforms if isinstance(one, NORMS) and key in one.in_keys]

    def observe(frames: Tensor) -> Tensor:
        observation = frames.float() / 255
        for norm in norms:
            if isinstance(norm, ObservationNorm):
                observation = norm._apply_transform(observation)  # noqa: SLF001 - without a TensorDict
            else:
                observation = (observation - norm.loc[key]) / norm.scale[key]
        return observation

    return observe


def _tell_return(watch: Watch, batch: Any, step: int) -> None:
    """Tell the monitor the last return in a batch that RewardSum has been over."""
    if batch is None or ("next", "episode_reward") not in batch.keys(include_nested=True):
        return
    ended = batch["next", "episode_reward"][batch["next", "done"]]
    if len(ended):
        watch.returns(step, float(ended[-1]))
