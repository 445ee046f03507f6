"""The common form: a plain torch network from the weights of a saved one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product, takewhile
from typing import Any

import torch
from torch import Tensor, nn

from rlwatch.atari.screen import SIZES, Size
from rlwatch.checkpoints.formats import QUANTILE_HEAD, Saved, Weights
from rlwatch.checkpoints.implicit import Implicit

STRIDES = {
    (8, 4, 3): (4, 2, 1),
    (8, 4): (4, 2),
    (8, 4, 11): (4, 2, 1),
    (4, 4, 4, 4): (2, 2, 2, 2),
    (4, 4, 11): (2, 2, 1),
}
"""Kernel sizes of Mnih 2015, Mnih 2013 and RLlib for pictures of 84, 64 and 42 pixels a side to their strides."""
NORMS = {1, 3}
"""Axes of a norm's weights."""
WIDEST = 2**14
"""Outputs of a layer at most."""
ADVANTAGE = re.compile(r"(^|[._])(a_stream|adv|advantages?)\d*([._]|$)|(^|[._])a(\.|$)|(^|\.)(af|A|Q)(\.|$)")
VALUE = re.compile(
    r"(^|[._])(?<!q[._])(?<!action_)(v_stream|val|values?)\d*([._]|$)|(^|[._])v(\.|$)|(^|\.)(vf|V)(\.|$)"
)
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh}
REMEDY = "explain other networks in Python with rlwatch.explain(network, observations)"


class SavedNetwork(nn.Module):
    """A Q-network that takes uint8 frames: a body, one stream or two, each action's mean of a distribution."""

    def __init__(self, saved: Saved, body: nn.Module, streams: Sequence[nn.Module], actions: int) -> None:
        super().__init__()
        self.body, self.streams = body, nn.ModuleList(streams)
        self.divisor, self.offset, self.actions = saved.divisor, saved.offset, actions
        self.quantiles_first = saved.quantiles_first
        self.support: Tensor | None
        self.register_buffer("support", saved.support)

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values, (probe, action)."""
        pixels = observations if observations.is_floating_point() else observations.float()
        pixels = pixels / self.divisor
        seen = self.body(pixels + self.offset if self.offset else pixels)
        table = self._table(self.streams[0](seen), self.actions)
        if len(self.streams) > 1:
            table = self._table(self.streams[1](seen), 1) + table - table.mean(1, keepdim=True)
        q_values: Tensor = table.mean(2) if self.support is None else (table.softmax(2) * self.support).sum(2)
        return q_values

    def extra_repr(self) -> str:
        """What tells the network from others of the same layers."""
        told = {name: getattr(self, name) for name in ("divisor", "offset", "actions", "quantiles_first")}
        told["support"] = None if self.support is None else self.support.tolist()
        return ", ".join(f"{name}={value}" for name, value in told.items())

    def _table(self, outputs: Tensor, actions: int) -> Tensor:
        """A stream's outputs as (probe, action, number)."""
        if self.quantiles_first:
            return outputs.view(len(outputs), -1, actions).transpose(1, 2)
        return outputs.view(len(outputs), actions, -1)


class Mean(nn.Module):
    """The mean of several networks' Q-values."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values, (probe, action)."""
        return torch.stack([network(observations) for network in self.networks]).mean(0)


def build(saved: Saved) -> nn.Module:
    """The network of a checkpoint whose `head` and `actions` are settled.

    Raises: ValueError when its weights are no network of Mnih's kind on stacks of pictures.
    """
    networks = [_checked(saved, _Parts.of(weights)) for weights in saved.parts]
    return networks[0] if len(networks) == 1 else Mean(networks)


def outputs_of(saved: Saved) -> tuple[int, int]:
    """How many numbers the last layer gives, and how many the value's stream, 0 where there is none.

    Raises: ValueError as `build` does.
    """
    parts = _Parts.of(saved.parts[0])
    last, of_value = (parts.weights[f"{names[-1]}.weight"] for names in (parts.head, parts.value or parts.head))
    return len(last), len(of_value) if parts.value else 0


@dataclass(frozen=True)
class _Parts:
    """Names of layers in their order: the trunk, then the head or, where the head is dueling, advantage and value."""

    weights: Weights
    trunk: list[str]
    head: list[str]
    value: list[str]

    @classmethod
    def of(cls, weights: Weights) -> "_Parts":
        """The parts of a network, told by the names of its layers.

        Raises: ValueError when they are no Nature DQN's.
        """
        names = _layers(weights)
        levels = takewhile(lambda parts: len(set(parts)) == 1, zip(*(name.split(".") for name in names), strict=False))
        shared = ".".join(parts[0] for parts in levels)  # a network may be called value_net as a whole
        advantage = [name for name in names if ADVANTAGE.search(name.removeprefix(shared))]
        value = [name for name in names if VALUE.search(name.removeprefix(shared)) and name not in advantage]
        behind = [name for name in names if name.startswith(f"{QUANTILE_HEAD}.")]
        head = advantage if value else behind or names[-1:]
        parts = cls(weights, [name for name in names if name not in value + head], head, value)
        if value and not head:
            raise ValueError(
                f"it holds a stream of the value, {value[0]!r}, and none that is called advantage: an actor and a "
                f"critic give no Q-values; {REMEDY}"
            )
        parts.check()
        return parts

    def check(self) -> None:
        """Raises: ValueError when the layers are of other shapes than a Nature DQN's."""
        kernels = [self.shape(name)[2:] for name in self.of_axes(4)]
        known = any(kernels == [(size, size) for size in sizes] for sizes in STRIDES)
        if not known or any(len(self.shape(name)) != 2 for name in self.head + self.value):  # noqa: PLR2004 - out, in
            others = len(self.trunk + self.head + self.value) - len(kernels)
            raise ValueError(
                f"it holds convolutions with kernels {tuple(kernel[0] for kernel in kernels)} and {others} other "
                f"layers, expected those of a Nature DQN (8, 4, 3): {REMEDY}"
            )
        if max(one.numel() and len(one) for one in self.weights.values()) > WIDEST:
            raise ValueError(f"it holds a layer of more than {WIDEST:,} outputs: {REMEDY}")

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a layer's weights."""
        return tuple(self.weights[f"{name}.weight"].shape)

    def of_axes(self, count: int) -> list[str]:
        """The layers of the trunk whose weights have so many axes: 4 convolutions, 2 linear, 1 or 3 norms."""
        return [name for name in self.trunk if len(self.shape(name)) == count]

    @property
    def behind_convolutions(self) -> list[str]:
        """The linear layers that read the last convolution's outputs."""
        return self.of_axes(2)[:1] or [names[0] for names in (self.head, self.value) if names]


def _layers(weights: Weights) -> list[str]:
    """The names of the layers, in their order.

    Raises: ValueError when there is something else, or a layer of which nobody knows what it does.
    """
    names = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
    rest = weights.keys() - {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    if rest:
        raise ValueError(f"it holds {min(rest)!r}, expected only layers, those of a Nature DQN: {REMEDY}")
    scales = [name for name in names if weights[f"{name}.weight"].ndim in NORMS and f"{name}.bias" not in weights]
    if scales:
        raise ValueError(f"it holds {scales[0]!r}, which may be an RMSNorm or a PReLU for want of a bias: {REMEDY}")
    return names


def _checked(saved: Saved, parts: _Parts) -> nn.Module:
    """The network, seen to run.

    Raises: ValueError when its layers do not fit one another.
    """
    stack = parts.shape(parts.trunk[0])[1]
    try:
        network = _network(saved, parts).eval()
        with torch.no_grad():
            network(torch.zeros(1, stack, *_sides(parts, same=saved.channels_last)[0]))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"its layers do not fit one another ({reason}): {REMEDY}") from error
    return network


def _network(saved: Saved, parts: _Parts) -> nn.Module:
    sides = _sides(parts, same=saved.channels_last)
    weights = dict(parts.weights)
    if saved.channels_last:
        for name in (f"{name}.weight" for name in parts.behind_convolutions):
            rows = weights[name].view(len(weights[name]), *sides[-1], -1)
            weights[name] = rows.permute(0, 3, 1, 2).flatten(1)
    body: list[nn.Module] = []
    for name in parts.trunk:
        if name in parts.of_axes(2)[:1]:
            body.append(nn.Flatten())
        body += _modules(saved, parts, weights, name, sides)
    body += [] if parts.of_axes(2) else [nn.Flatten()]
    streams = [
        nn.Sequential(*[module for name in names for module in _modules(saved, parts, weights, name, sides)][:-1])
        for names in (parts.head, parts.value)
        if names
    ]
    if saved.embedding:
        return Implicit(saved, nn.Sequential(*body), streams[0])
    return SavedNetwork(saved, nn.Sequential(*body), streams, saved.actions or 0)


def _modules(saved: Saved, parts: _Parts, weights: Weights, name: str, sides: list[Size]) -> list[nn.Module]:
    """A layer, what pads its inputs before it, and its activation unless a norm stands between."""
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    place = parts.trunk.index(name) if name in parts.trunk else len(parts.trunk)
    normed = place + 1 < len(parts.trunk) and len(parts.shape(parts.trunk[place + 1])) in NORMS
    after = [] if normed else [ACTIVATIONS[saved.activation]()]
    if weight.ndim == 4:  # noqa: PLR2004 - out, in, y, x
        number = parts.of_axes(4).index(name)
        stride = _strides(parts)[number]
        size = weight.shape[2]
        borders = _borders(sides[number], sides[number + 1], size, stride)
        pad = [nn.ZeroPad2d(borders)] if any(borders) else []
        sizes = weight.shape[1], weight.shape[0], (size, size), stride
        return [*pad, _filled(nn.Conv2d, sizes, weight, bias), *after]
    if weight.ndim == 2:  # noqa: PLR2004 - out, in
        return [_filled(nn.Linear, (weight.shape[1], weight.shape[0]), weight, bias), *after]
    return [_filled(nn.LayerNorm, (list(weight.shape),), weight, bias), *after]


def _borders(before: Size, behind: Size, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Pixels that are added left, right, above and below, as TensorFlow does it."""
    above, left = (max((out - 1) * stride + kernel - into, 0) for into, out in zip(before, behind, strict=True))
    return left // 2, left - left // 2, above // 2, above - above // 2


def _filled(kind: type[nn.Module], sizes: tuple[Any, ...], weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer with these weights; none are drawn for it, and none allocated: torch would load SymPy for that."""
    layer = kind(*sizes, bias=bias is not None, device="meta")
    given = {"weight": weight} | ({} if bias is None else {"bias": bias})
    layer.load_state_dict({name: one.float().contiguous() for name, one in given.items()}, assign=True)
    return layer


def _strides(parts: _Parts) -> tuple[int, ...]:
    return STRIDES[tuple(parts.shape(name)[2] for name in parts.of_axes(4))]


def _sides(parts: _Parts, *, same: bool) -> list[Size]:
    """Lines and columns before and behind each convolution, by the inputs of the layer that reads the last one.

    `same`: they may be padded as TensorFlow does it.

    Raises: ValueError when they are none of these, or another layer may be the one that reads the last one.
    """
    known, inputs = _known_sides(parts, same=same), parts.shape(parts.behind_convolutions[0])[1]
    for name in (*parts.of_axes(2), *parts.head, *parts.value):
        other = parts.shape(name)[1]
        if other > inputs and other in known:
            raise ValueError(
                f"its convolutions may be read by {parts.behind_convolutions[0]!r} ({inputs} numbers) or by {name!r} "
                f"({other}), expected one layer that can, as IQN's embedding of fractions makes it two: {REMEDY}"
            )
    if inputs in known:
        return known[inputs]
    sizes = ", ".join(f"{lines} × {columns}" for lines, columns in SIZES)
    raise ValueError(
        f"its layers do not fit one another: behind the convolutions it reads {inputs} numbers, which pictures of none "
        f"of the known sizes give ({sizes}): {REMEDY}"
    )


def _known_sides(parts: _Parts, *, same: bool) -> dict[int, list[Size]]:
    """How many numbers the last convolution gives of pictures of the known sizes, and what `_sides` says of these."""
    channels = parts.shape(parts.of_axes(4)[-1])[0]
    known: dict[int, list[Size]] = {}
    for size, padded in product(SIZES, (False, True) if same else (False,)):
        sides = [size]
        for name, stride in zip(parts.of_axes(4), _strides(parts), strict=True):
            kernel = 1 if padded else parts.shape(name)[2]
            lines, columns = ((side - kernel) // stride + 1 for side in sides[-1])
            sides.append((lines, columns))
        if min(map(min, sides)) > 0:
            known.setdefault(channels * sides[-1][0] * sides[-1][1], sides)
    return known
