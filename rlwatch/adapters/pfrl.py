"""pfrl: `with watched("breakout", logdir="run/rlwatch") as hook: train_agent(..., step_hooks=[hook])`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pfrl.agents import DQN
from torch import Tensor, nn

from rlwatch.adapters.common import OTHERS, finishing, game_of, probe_of, tell_return
from rlwatch.attribution.inputs import Observe
from rlwatch.unwrap import Read
from rlwatch.watch import Watch


@contextmanager
def watched(probe: Any = None, **settings: Any) -> Iterator[Callable[[Any, Any, int], None]]:
    """A step hook that watches the agent it is called with; at the end of the block the last checkpoint is made.

    `probe`: as Watch takes it; left out, the probe of the game that is played. `settings`: as Watch takes them.

    Raises: at the training's first step, as Watch does; TypeError when the agent has no Q-values.
    """
    watch: Watch | None = None
    last = 0
    with ExitStack() as stack:

        def hook(env: Any, agent: Any, step: int) -> None:
            nonlocal watch, last
            last = step
            if watch is None:
                game = game_of(env)
                found = {"game": game, "observe": observe_of(agent)}
                watch = Watch(q_network(agent), probe_of(probe, game), **(found | settings))
                stack.enter_context(finishing(watch, lambda: last))
            tell_return(watch, env, step)
            watch(step)

        yield hook


def q_network(agent: Any) -> nn.Module:
    """The agent's Q-values, the mean of its distribution for CategoricalDQN and Rainbow.

    Raises: TypeError when it has none.
    """
    if not isinstance(agent, DQN):
        raise TypeError(f"expected pfrl's DQN or one of its kind, got {type(agent).__name__}: {OTHERS}")
    return Read(agent.model, _q_values)


def observe_of(agent: Any) -> Observe:
    """From the probe's frames to what the agent makes of its environment's."""
    batch_states, device, phi = agent.batch_states, agent.device, agent.phi

    def observe(frames: Tensor) -> Tensor:
        batch: Tensor = batch_states(list(frames.cpu().numpy()), device, phi)
        return batch

    return observe


def _q_values(model: Any, observations: Tensor) -> Tensor:
    q_values: Tensor = model(observations).q_values
    return q_values
