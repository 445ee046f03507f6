"""Stable-Baselines3's DQN and sb3-contrib's QR-DQN: `model.learn(steps, callback=WatchCallback(probe="breakout"))`."""

import logging
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from torch import Tensor, nn

from rlwatch.adapters.common import OTHERS, observe_of, probe_of, seen_in
from rlwatch.unwrap import Read
from rlwatch.watch import Watch

log = logging.getLogger("rlwatch")


class WatchCallback(BaseCallback):
    """Watches a model while it learns; the last checkpoint is made when `learn` returns.

    `probe`: as Watch takes it; left out, the probe of the game that is trained on. `logdir`: where to log; left out,
    the run's own TensorBoard log, or where it has none the folder `rlwatch` in the folder of its logger. `settings`:
    as Watch takes them; `purge_step` left out, a model that has learnt before (`learn(reset_num_timesteps=False)`) goes
    on in its log with the findings and the colour scale.

    Raises: as Watch does, when the training starts; TypeError when the model has no Q-network; ValueError when its
    environment normalises the frames.
    """

    def __init__(self, probe: Any = None, *, logdir: str | Path | None = None, **settings: Any) -> None:
        super().__init__()
        self.watch: Watch | None = None
        self._probe, self._logdir, self._settings = probe, logdir, settings
        self._newest: Any = None

    def _on_training_start(self) -> None:
        model = self.model
        game = game_of(model)
        settings = {"total_steps": self.locals["total_timesteps"], "game": game} | self._settings
        settings.setdefault("observe", observe_of(model.observation_space))
        if model.num_timesteps:
            settings.setdefault("purge_step", model.num_timesteps + 1)
        if "writer" not in settings:
            settings |= _log_of(model, self._logdir)
        seen = seen_in(probe_of(self._probe, game), model.observation_space)
        self.watch = Watch(q_network(model), seen, **settings)

    def _on_step(self) -> bool:
        if self.watch is not None:
            self._tell_return(self.watch)
            self.watch(self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        if self.watch is not None:
            self.watch.finish(self.num_timesteps)
            self.watch.close()

    def _tell_return(self, watch: Watch) -> None:
        episodes = self.model.ep_info_buffer
        if episodes and episodes[-1] is not self._newest:
            self._newest = episodes[-1]
            watch.returns(self.num_timesteps, float(self._newest["r"]))


def q_network(model: BaseAlgorithm) -> nn.Module:
    """The network that gives the model's Q-values, the mean of its quantiles for QR-DQN.

    Raises: TypeError when the model has none; ValueError when VecNormalize stands before it.
    """
    normalize = model.get_vec_normalize_env()
    if normalize is not None and normalize.norm_obs:
        raise ValueError(
            "VecNormalize changes the frames before the network sees them, which Watch cannot follow: use "
            "VecNormalize(norm_obs=False), the network divides by 255 itself"
        )
    if isinstance(getattr(model, "quantile_net", None), nn.Module):
        return Read(model.quantile_net, _mean)
    if isinstance(getattr(model, "q_net", None), nn.Module):
        network: nn.Module = model.q_net
        return network
    got = type(model).__name__
    raise TypeError(f"WatchCallback explains Q-networks: expected a DQN or a QR-DQN, got {got}: {OTHERS}")


def game_of(model: BaseAlgorithm) -> str | None:
    """ALE's name of the game; None where the model has no environment or it is no Atari game."""
    env = model.get_env()
    # asked by name: in an environment of another process there is nothing else that can be sent
    return str(env.get_attr("_game")[0]) if env is not None and env.has_attr("_game") else None


def _mean(network: Any, observations: Tensor) -> Tensor:
    quantiles: Tensor = network(observations)
    return quantiles.mean(1)


def _log_of(model: BaseAlgorithm, logdir: str | Path | None) -> dict[str, Any]:
    """Watch's `writer` or `logdir`: two event files in one folder would hide one another in TensorBoard."""
    if logdir is not None:
        return {"logdir": logdir}
    for output in model.logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            return {"writer": output.writer}
    folder = Path(model.logger.dir) / "rlwatch"
    log.warning("rlwatch: the training has no TensorBoard log, the monitor's is in %s", folder)
    return {"logdir": folder}
