"""Saved Q-networks, read offline into one plain torch form."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

NATURE_STRIDES = {(8, 4, 3): (4, 2, 1), (8, 4): (4, 2)}  # kernel sizes of Mnih 2015 and Mnih 2013 to their strides
WRAPPERS = ("model", "model_weights", "state_dict", "q_network")  # keys under which trainings keep the weights
SUFFIXES = (".pt", ".pth", ".cleanrl_model")
SCREEN = 84


@dataclass(frozen=True)
class Checkpoint:
    """A saved network and what is known of it; `step` is -1 and `game` empty where the file does not say."""

    path: Path
    network: nn.Module
    step: int
    game: str = ""
    returns: float = float("nan")


class Scaled(nn.Module):
    """A network that takes uint8 frames: it divides by `divisor` and passes them on."""

    def __init__(self, body: nn.Module, divisor: float) -> None:
        super().__init__()
        self.body, self.divisor = body, divisor

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values, (probe, action)."""
        q_values: Tensor = self.body(observations.float() / self.divisor)
        return q_values


def load(path: str | Path, *, divisor: float = 255.0) -> Checkpoint:
    """The network in a checkpoint of `agents/dqn.py` or in a plain state dict of a Nature-like Q-network.

    `divisor`: what the training divides pixels by before the first convolution; a state dict does not say.

    Raises: FileNotFoundError; ValueError when the file is no checkpoint, is truncated, holds more than weights and
    plain values, or describes a network of another form, each with a remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}: give a file, or a folder that holds {', '.join(SUFFIXES)} files"
        )
    content = _read(path)
    described = {key: value for key, value in content.items() if isinstance(value, (int, float, str))}
    network = Scaled(build(_weights(content, path), path), divisor)
    step = described.get("step", _step_of(path))
    return Checkpoint(
        path, network.eval(), int(step), str(described.get("game", "")), float(described.get("returns", "nan"))
    )


def find(paths: Iterable[str | Path]) -> list[Path]:
    """The checkpoint files named, and those in the folders named, by step and then by name.

    Raises: FileNotFoundError when a path does not exist or a folder holds none.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = [file for file in path.rglob("*") if file.suffix in SUFFIXES and file.name != "resume.pt"]
        if not inside:
            raise FileNotFoundError(f"no checkpoint in {path}: expected files that end in {', '.join(SUFFIXES)}")
        found.extend(inside)
    return sorted(dict.fromkeys(found), key=lambda file: (_step_of(file), str(file)))


def _step_of(path: Path) -> int:
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else -1


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is no readable torch checkpoint ({reason}): expected a file of torch.save that holds only tensors "
            "and plain values; copy it again if it is truncated, or save network.state_dict()"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(  # noqa: TRY004 - it is the file that is wrong, not the caller's type
            f"{path} holds a {type(content).__name__}, expected a state dict: save network.state_dict()"
        )
    return content


def _weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    weights = {
        name: value for name, value in content.items() if isinstance(value, Tensor) and value.is_floating_point()
    }
    if not weights:
        raise ValueError(
            f"{path} holds no weights, got the keys {sorted(map(str, content))[:8]}: save network.state_dict()"
        )
    return weights


def build(weights: Mapping[str, Tensor], path: Path) -> nn.Sequential:
    """A plain chain of convolutions and linear layers with these weights, in the order in which they were saved.

    Raises: ValueError when they are no such chain on stacks of 84 × 84.
    """
    names = [
        name.removesuffix(".weight") for name, value in weights.items() if name.endswith(".weight") and value.ndim > 1
    ]
    convolutions = [name for name in names if weights[f"{name}.weight"].ndim == 4]  # noqa: PLR2004 - out, in, y, x
    linears = [name for name in names if weights[f"{name}.weight"].ndim == 2]  # noqa: PLR2004 - out, in
    kernels = tuple(int(weights[f"{name}.weight"].shape[-1]) for name in convolutions)
    if kernels not in NATURE_STRIDES or not linears:
        raise ValueError(
            f"{path} holds convolutions with kernels {kernels} and {len(linears)} linear layers, expected those of "
            "a Nature DQN (8, 4, 3): explain other networks in Python with rlwatch.explain(network, observations)"
        )
    layers: list[nn.Module] = []
    for name, stride in zip(convolutions, NATURE_STRIDES[kernels], strict=True):
        layers += [_layer(weights, name, stride), nn.ReLU()]
    layers.append(nn.Flatten())
    for name in linears:
        layers += [_layer(weights, name), nn.ReLU()]
    chain = nn.Sequential(*layers[:-1])
    _check_chain(chain, int(weights[f"{convolutions[0]}.weight"].shape[1]), path)
    return chain


def _layer(weights: Mapping[str, Tensor], name: str, stride: int | None = None) -> nn.Module:
    weight, bias = weights[f"{name}.weight"].float(), weights.get(f"{name}.bias")
    outputs, inputs, *kernel = weight.shape
    layer: nn.Conv2d | nn.Linear
    if stride is None:
        layer = nn.Linear(inputs, outputs, bias=bias is not None)
    else:
        layer = nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), stride, bias=bias is not None)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias.float()}))
    return layer


def _check_chain(chain: nn.Sequential, stack: int, path: Path) -> None:
    try:
        with torch.no_grad():
            chain(torch.zeros(1, stack, SCREEN, SCREEN))
    except RuntimeError as error:
        raise ValueError(
            f"{path}: its layers do not fit one another on a stack of {stack} × 84 × 84 ({error}): "
            "explain it in Python with rlwatch.explain(network, observations)"
        ) from error
