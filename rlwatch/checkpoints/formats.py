"""What each framework's checkpoint holds, told by its names: the weights of a Q-network, and what is known of it."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlwatch.atari.names import MOST_ACTIONS
from rlwatch.checkpoints.files import Content, torch_content
from rlwatch.checkpoints.inside import network_in, number, step_in

Weights = dict[str, Tensor]

NATURE = 255.0
"""What nearly all trainings divide pixels by."""
NOISE = re.compile(r"(weight|bias)_(sigma|epsilon)$|sigma_(W|bias)$|eps_[pq]$|\bsigma\.(weight|bias)$")
OF_NOISY_LAYERS = (
    (re.compile(r"\.(weight|bias)_mu$"), r".\1"),  # CleanRL, TorchRL
    (re.compile(r"\.mu_W$"), ".weight"),  # Tianshou
    (re.compile(r"\.mu_bias$"), ".bias"),
    (re.compile(r"\.mu\.(weight|bias)$"), r".\1"),  # pfrl
)
SUPPORT = re.compile(r"(^|\.)(atoms|support|z_values)$")
NO_PART = re.compile(r"(^|\.)(log_std_clip_param_const|tau_hat)$")
"""Numbers that a checkpoint holds beside the network's."""
OF_TIANSHOU = re.compile(r"(module\.)?(net\.0\.0|Q)\.")
"""Layers of its networks for Atari, whose convolutions are a Sequential in another one, or stand before Q."""
QUANTILE_HEAD = "quantile_head"
"""What the layers are called that come behind the embedding of fractions."""


@dataclass(frozen=True)
class Saved:
    """The weights of a Q-network, in the order of its layers, and how it is to be put together.

    `parts`: one network, or several whose mean is taken. Pixels enter as x / `divisor` + `offset`. `head`: what the
    last layer gives for each action, "" one value, "atoms" logits of the values in `support`, "quantiles"; None where
    the file leaves it open. `quantiles_first`: the action is the last axis. `channels_last`: of the order in which the
    last convolution's outputs are flattened. `embedding` of fractions, and their `proposal`: the layers that IQN and
    FQF have besides. `bare`: nothing but names of layers says how the weights are used. `aside`: copies of the network
    that are left out. `step` is -1, `game` empty and `returns` NaN where the file does not say.
    """

    parts: tuple[Weights, ...]
    divisor: float = NATURE
    offset: float = 0.0
    activation: str = "relu"
    head: str | None = None
    support: Tensor | None = None
    actions: int | None = None
    quantiles_first: bool = False
    channels_last: bool = False
    embedding: Weights = field(default_factory=dict)
    proposal: Weights = field(default_factory=dict)
    bare: bool = False
    aside: tuple[str, ...] = ()
    step: int = -1
    game: str = ""
    returns: float = math.nan


def recognised(content: Content) -> Saved:
    """What a checkpoint holds.

    Raises: ValueError when it holds no weights.
    """
    saved = next((found for form in FORMS if (found := form(content)) is not None), None) or _state_dict(content)
    parts = tuple(_settled(part) for part in saved.parts)
    if not all(parts):
        raise ValueError(f"holds no weights, got the keys {sorted(map(str, content))[:8]}: save network.state_dict()")
    support = next((value for name, value in saved.parts[0].items() if SUPPORT.search(name)), None)
    return replace(saved, parts=parts, support=support, head="atoms" if support is not None else saved.head)


def _stable_baselines3(content: Content) -> Saved | None:
    policy, about = _dict(content.get("policy")) or content, json.loads(content.get("data", "{}"))
    settings = _dict(about.get("policy_kwargs"))
    scaled = settings.get("normalize_images", True) is not False
    bytes_seen = _dict(about.get("observation_space")).get("dtype", "uint8") == "uint8"
    for name in ("quantile_net", "q_net"):
        weights = _under(policy, f"{name}.")
        if any(key.startswith("features_extractor.") for key in weights):
            _check_activation(settings, [key for key in weights if re.match(rf"{name}\.\d+\.weight$", key)])
            quantiles = name == "quantile_net"
            count = str(_dict(about.get("action_space")).get("n", ""))
            return Saved(
                (weights,),
                divisor=NATURE if scaled or not bytes_seen else 1.0,
                head="quantiles" if quantiles else "",
                quantiles_first=quantiles,
                actions=int(count) if count.isdigit() else None,
                bare=not about,
                step=number(int, "step", about.get("num_timesteps", -1)),
            )
    if policy is not content and "data" in content:
        raise ValueError(
            "expected a DQN or QR-DQN of Stable-Baselines3 on images (CnnPolicy), got a policy of "
            f"{', '.join(sorted({key.split('.')[0] for key in policy}))}: other agents have no Q-network to explain"
        )
    return None


def _check_activation(settings: Mapping[str, Any], layers: Sequence[str]) -> None:
    """Raises: ValueError when the layers behind the convolutions' have another activation than these."""
    told = re.sub(r".*\.|'>$", "", str(settings.get("activation_fn", "ReLU")))
    if told != "ReLU" and len(layers) > 1:
        raise ValueError(
            f"has ReLU behind its convolutions and {told} behind its other layers, expected ReLU everywhere: explain "
            "it in Python, rlwatch.explain(model.policy.q_net, observations)"
        )


def _cleanrl_c51(content: Content) -> Saved | None:
    weights = content.get("model_weights")
    if not isinstance(weights, Mapping):
        return None
    args = _dict(content.get("args"))
    if {"n_atoms", "v_min", "v_max"} <= args.keys() and not any(SUPPORT.search(name) for name in weights):
        weights = {**weights, "atoms": torch.linspace(args["v_min"], args["v_max"], args["n_atoms"])}
    return Saved((_tensors(weights),), game=str(args.get("env_id", "")))


def _tianshou(content: Content) -> Saved | None:
    content = _dict(content.get("model")) or content
    policy = _under(content, "policy.") or _tensors(content)
    weights = _under(policy, "model.")
    if any(name.startswith("embed_model.") for name in weights):
        return _tianshou_fractions(weights, _under(policy, "fraction_model.net."))
    if not any(map(OF_TIANSHOU.match, weights)):
        return None
    scaled = any(name.startswith("module.") for name in weights)
    weights |= {name: value for name, value in policy.items() if SUPPORT.search(name)}
    quantiles = content["tau_hat"].shape[1] if "tau_hat" in content else 0
    return Saved(
        (weights,),
        divisor=NATURE if scaled else 1.0,
        head="quantiles" if quantiles else None,
        actions=len(list(weights.values())[-1]) // quantiles if quantiles else None,
    )


def _tianshou_fractions(weights: Weights, proposal: Weights) -> Saved:
    """IQN's and FQF's: a body, a head, an embedding of fractions and, for FQF, their proposal."""
    embedding = _under(weights, "embed_model.net.0.")
    layers = {name.replace("last.", f"{QUANTILE_HEAD}.", 1): value for name, value in weights.items()}
    layers = {name: value for name, value in layers.items() if not name.startswith("embed_model.")}
    scaled = any(name.startswith("preprocess.module.") for name in weights)
    divisor = NATURE if scaled else 1.0
    return Saved((layers,), divisor=divisor, head="", embedding=embedding, proposal=proposal)


def _torchrl(content: Content) -> Saved | None:
    weights = _under(content, "module.0.module.")
    if not weights:
        return None
    dueling = any(name.startswith("advantage.") for name in weights)
    support = {name: value for name, value in _tensors(content).items() if SUPPORT.search(name)}
    # the activation that DuelingCnnDQNet has unless told otherwise
    return Saved((weights | support,), activation="elu" if dueling else "relu")


def _rllib(content: Content) -> Saved | None:
    weights = {name: value for name, value in _tensors(content).items() if not name.startswith("_target")}
    if not any(name.startswith("af.net.mlp.") for name in weights):
        return None
    outputs = [len(value) for name, value in weights.items() if re.fullmatch(r"af\.net\.mlp\.\d+\.bias", name)][-1]
    if outputs > MOST_ACTIONS:
        # its value stream adds one number to all atoms of all actions, of which their softmax keeps nothing
        weights = {name: value for name, value in weights.items() if not name.startswith("vf.")}
    head = "atoms" if outputs > MOST_ACTIONS else ""
    return Saved((weights,), divisor=128.0, offset=-1.0, channels_last=True, head=head)


def _d3rlpy(content: Content) -> Saved | None:
    about: dict[str, Any] = {}
    if isinstance(content.get("torch"), bytes) and isinstance(content.get("config"), str):
        about, content = json.loads(content["config"]), torch_content(content["torch"])
    if not isinstance(content.get("q_funcs"), Mapping):
        return None
    weights = _tensors(content["q_funcs"])
    members = sorted({name.split(".")[0] for name in weights})
    config = _dict(_dict(about.get("config")).get("params"))
    scaler = _dict(config.get("observation_scaler")).get("type", "pixel")
    kind = _dict(config.get("q_func_factory")).get("type")
    encoder = _dict(_dict(config.get("encoder_factory")).get("params")).get("activation", "relu")
    if scaler not in {"pixel", "none"} or kind not in {None, "mean", "qr"}:
        raise ValueError(
            f"was trained with a {scaler} scaler and {kind} Q-functions, expected pixel or none, mean or qr: explain "
            "it in Python, rlwatch.explain(network, observations)"
        )
    return Saved(
        tuple(_under(weights, f"{member}.") for member in members),
        divisor=NATURE if scaler == "pixel" else 1.0,
        activation=str(encoder),
        head=None if kind is None else "quantiles" if kind == "qr" else "",
        actions=about.get("action_size"),
    )


def _pfrl(content: Content) -> Saved | None:
    weights = dict(_tensors(content))
    mixed = [name for name in weights if name.startswith("main_stream.")]
    if not any(name.startswith("conv_layers.") for name in weights) or not mixed:
        return None
    for name in mixed:  # one layer whose halves are the streams' first layers
        both = weights.pop(name)
        rest = name.removeprefix("main_stream.")
        for stream, half in zip(("a_stream", "v_stream"), both.chunk(2), strict=True):
            weights[f"{stream}.first.{rest}"] = half
    streams = [name for name in weights if re.match(r"[av]_stream\.(?!first)", name)]
    return Saved((weights | {name: weights.pop(name) for name in streams},), head="atoms")


def _dopamine(content: Content) -> Saved | None:
    flat = _flat(_dict(content.get("online_params")) or content)
    named = {re.sub(r"^params\.", "", name): value for name, value in flat.items()}
    if not any(name.endswith("Conv_0.kernel") for name in named):
        return None
    weights: Weights = {}
    for name in sorted(named, key=lambda name: (name.split("_")[0] != "Conv", name)):
        layer, _, part = name.rpartition(".")
        value = torch.from_numpy(np.array(named[name]))
        if part == "kernel":
            value = value.permute(3, 2, 0, 1) if value.ndim == 4 else value.t()  # noqa: PLR2004 - y, x, in, out
        weights[f"{layer}.{'weight' if part == 'kernel' else part}"] = value
    return Saved((weights,), channels_last=True)


FORMS: tuple[Callable[[Content], Saved | None], ...] = (
    _stable_baselines3,
    _cleanrl_c51,
    _tianshou,
    _torchrl,
    _rllib,
    _d3rlpy,
    _pfrl,
    _dopamine,
)


def _state_dict(content: Content) -> Saved:
    """A plain state dict, such as CleanRL's and that of `agents/dqn.py`, with what else stands beside it."""
    weights, aside = network_in(content)
    described = {key: value for key, value in content.items() if isinstance(value, (int, float, str))}
    return Saved(
        (_tensors(weights),),
        bare="game" not in described,
        aside=tuple(aside),
        step=number(int, "step", step_in(content)),
        game=str(described.get("game", "")),
        returns=number(float, "returns", described.get("returns", math.nan)),
    )


def _settled(weights: Weights) -> Weights:
    """The weights as the network acts in evaluation: noisy layers by their means, nothing that is no weight."""
    plain: Weights = {}
    for name, value in weights.items():
        if NOISE.search(name) or SUPPORT.search(name) or NO_PART.search(name) or not value.is_floating_point():
            continue
        for pattern, layer in OF_NOISY_LAYERS:
            name = pattern.sub(layer, name)  # noqa: PLW2901 - the same name, as others call it
        plain[name] = value
    return plain


def _under(content: Mapping[str, Any], prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in _tensors(content).items() if name.startswith(prefix)}


def _tensors(content: Mapping[str, Any]) -> Weights:
    tensors = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            tensors[str(name)] = torch.from_numpy(np.array(value))
        elif isinstance(value, Tensor) and not value.is_sparse:
            tensors[str(name)] = value
    return tensors


def _flat(content: Mapping[Any, Any], before: str = "") -> dict[str, Any]:
    """Nested dicts as one, names joined by dots; in an npz file they may be joined already."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        whole = f"{before}{str(name).replace('/', '.')}"
        flat |= _flat(value, f"{whole}.") if isinstance(value, Mapping) else {whole: value}
    return flat


def _dict(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
