"""RLlib's new API stack: `DQNConfig().callbacks(watch_callback("breakout", total_steps=...))`."""

from pathlib import Path
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback
from torch import Tensor, nn

from rlwatch.adapters.common import IMAGE, OTHERS, game_of, observe_of, probe_of, seen_in
from rlwatch.unwrap import Read
from rlwatch.watch import Watch

ATARI = "wrap_atari_for_new_api_stack(env, framestack=4)"


def watch_callback(probe: Any = None, *, module: str = "default_policy", **settings: Any) -> type[RLlibCallback]:
    """A callback class that watches a module of the algorithm, in the process of the algorithm only.

    `probe`: as Watch takes it; left out, the probe of the game that is played. `settings`: as Watch takes them; the log
    goes to the folder `rlwatch` in the algorithm's own, where they name no other place. With `total_steps` the last
    checkpoint is made when these are sampled.

    Raises: as Watch and `q_network` do, when the algorithm is built; ValueError when it has no env runner of its own.
    """

    class WatchCallback(RLlibCallback):
        """One instance of this class is the algorithm's; those of the env runners do nothing."""

        watch: Watch | None = None

        def on_algorithm_init(self, *, algorithm: Any, **_: Any) -> None:
            self.watch = _watch(algorithm, module, probe, settings)
            self.watch(0)

        def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **_: Any) -> None:
            del algorithm
            if self.watch is not None and not self.watch.closed:
                _after_iteration(self.watch, result, settings.get("total_steps"))

    return WatchCallback


def q_network(module: Any) -> nn.Module:
    """The Q-values that a DQN's module has of the probe's frames, the mean of its distribution where it has one.

    Raises: TypeError when it has none; ValueError when it takes no grey frames.
    """
    if not isinstance(module, nn.Module) or not hasattr(module, "compute_q_values"):
        raise TypeError(f"expected the module of a DQN in torch, got {type(module).__name__}: {OTHERS}")
    space: Any = module.observation_space
    if len(space.shape) != IMAGE:
        raise ValueError(f"expected frames (y, x, stack), got {space.shape}: make the environment with {ATARI}")
    view = normalised if float(space.low.min()) == -1 else observe_of(space)
    if view is None:
        raise ValueError(f"expected bytes or floats in [-1, 1], [0, 1] or [0, 255], got {space}: use {ATARI}")
    return Read(module, lambda network, frames: network.compute_q_values({"obs": view(frames)})["qf_preds"])


def normalised(frames: Tensor) -> Tensor:
    """The probe's frames as RLlib's NormalizedImageEnv and FrameStack give them: NHWC, from −1 to 1."""
    return frames.permute(0, 2, 3, 1).float() / 128 - 1


def _watch(algorithm: Any, name: str, probe: Any, settings: dict[str, Any]) -> Watch:
    if algorithm.env_runner is None:
        raise ValueError("the algorithm must have an env runner of its own: use create_local_env_runner=True")
    module = algorithm.get_module(name)
    env = getattr(getattr(algorithm.env_runner.env, "unwrapped", None), "envs", [None])[0]
    found: dict[str, Any] = {"game": game_of(env)}
    if not settings.keys() & {"writer", "logdir"}:
        found["logdir"] = Path(algorithm.logdir) / "rlwatch"
    seen = seen_in(probe_of(probe, found["game"]), module.observation_space)
    return Watch(q_network(module), seen, **(found | settings))


def _after_iteration(watch: Watch, result: dict[str, Any], total_steps: int | None) -> None:
    step = int(result["num_env_steps_sampled_lifetime"])
    mean = result.get("env_runners", {}).get("episode_return_mean")
    if mean is not None:
        watch.returns(step, float(mean))
    if total_steps is not None and step >= total_steps:
        watch.finish(step)
        watch.close()
    else:
        watch(step)
