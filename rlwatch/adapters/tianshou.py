"""Tianshou 2: `with watched(algorithm, params): algorithm.run_training(params)`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from torch import Tensor, nn

from rlwatch.adapters.common import OTHERS, RAW, finishing, game_of, observe_of, probe_of, seen_in, tell_return
from rlwatch.unwrap import Read
from rlwatch.watch import Watch


@contextmanager
def watched(algorithm: Any, params: Any, probe: Any = None, **settings: Any) -> Iterator[Watch]:
    """Watches a training of `algorithm` with these `OffPolicyTrainerParams`, whose `training_fn` goes on to be called.

    `probe`: as Watch takes it; left out, the probe of the game that the collector plays. The log goes to the
    SummaryWriter of `params.logger`, where it has one and `settings` name no other place. Of frames that the
    environments scale, tell with `observe`. At the end of the block the last checkpoint is made.

    Raises: as Watch does; TypeError when the policy has no Q-values.
    """
    collector, before = params.training_collector, params.training_fn
    envs = [env for worker in collector.env.workers if (env := getattr(worker, "env", None)) is not None]
    game = game_of(envs[0]) if envs else None
    found = {
        "game": game,
        "total_steps": params.max_epochs * params.epoch_num_steps,
        "observe": observe_of(algorithm.policy.observation_space) or RAW,
    }
    if not settings.keys() & {"writer", "logdir"}:
        found["writer"] = getattr(params.logger, "writer", None)
    seen = seen_in(probe_of(probe, game), algorithm.policy.observation_space)
    watch = Watch(q_network(algorithm.policy), seen, **(found | settings))

    def training_fn(epoch: int, env_step: int) -> None:
        if before is not None:
            before(epoch, env_step)
        for env in envs:
            tell_return(watch, env, env_step)
        watch(env_step)

    params.training_fn = training_fn
    try:
        with finishing(watch, lambda: collector.collect_step):
            yield watch
    finally:
        params.training_fn = before


def q_network(policy: Any) -> nn.Module:
    """The policy's Q-values, the mean of its distribution for C51, Rainbow and QR-DQN.

    Raises: TypeError when it has none.
    """
    if not isinstance(policy, DiscreteQLearningPolicy):
        raise TypeError(f"expected the policy of a DQN, C51, Rainbow or QR-DQN, got {type(policy).__name__}: {OTHERS}")
    return Read(policy, _q_values)


def _q_values(policy: Any, observations: Tensor) -> Tensor:
    said, _ = policy.model(observations)
    q_values: Tensor = policy.compute_q_value(said, None)
    return q_values
