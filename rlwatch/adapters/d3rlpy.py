"""d3rlpy: `with watched("breakout", logdir="run/rlwatch") as callback: dqn.fit_online(env, callback=callback)`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from d3rlpy.algos.qlearning.torch.dqn_impl import DQNImpl
from torch import Tensor, nn

from rlwatch.adapters.common import OTHERS, RAW, finishing, game_of, probe_of, tell_return
from rlwatch.attribution.inputs import Observe
from rlwatch.unwrap import Read
from rlwatch.watch import Watch


@contextmanager
def watched(probe: Any = None, *, env: Any = None, **settings: Any) -> Iterator[Callable[[Any, int, int], None]]:
    """A callback of `fit` and `fit_online` that watches the algorithm it is called with.

    `env`: the training's environment, for its game and returns. `probe`: as Watch takes it; left out, the probe of that
    game. `settings`: as Watch takes them. At the end of the block the last checkpoint is made.

    Raises: at the training's first step, as Watch does; TypeError when the algorithm is none of DQN's kind.
    """
    watch: Watch | None = None
    last, game = 0, game_of(env)
    with ExitStack() as stack:

        def callback(algorithm: Any, epoch: int, step: int) -> None:
            nonlocal watch, last
            del epoch
            last = step
            if watch is None:
                found = {"game": game, "observe": observe_of(algorithm)}
                watch = Watch(q_network(algorithm), probe_of(probe, game), **(found | settings))
                stack.enter_context(finishing(watch, lambda: last))
            tell_return(watch, env, step)
            watch(step)

        yield callback


def q_network(algorithm: Any) -> nn.Module:
    """The Q-values of the algorithm, the mean over its ensemble and over its quantiles.

    Raises: TypeError when it has none for discrete actions.
    """
    if not isinstance(algorithm.impl, DQNImpl):
        raise TypeError(f"expected d3rlpy's DQN or one of its kind, got {type(algorithm).__name__}: {OTHERS}")
    return Read(algorithm.impl.q_function, _q_values)


def observe_of(algorithm: Any) -> Observe:
    """From the probe's frames to what the algorithm's observation scaler makes of them."""
    scaler = algorithm.observation_scaler
    observe: Observe = RAW if scaler is None else scaler.transform
    return observe


def _q_values(ensemble: Any, observations: Tensor) -> Tensor:
    each = [q_function(observations).q_value for q_function in ensemble]
    return each[0] if len(each) == 1 else torch.stack(each).mean(0)
