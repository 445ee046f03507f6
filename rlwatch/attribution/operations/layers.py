"""One call of a convolution or a linear map: how it runs forward and transposed, with other inputs and weights."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from rlwatch.attribution.operations.convolution import LAST, Convolution, in_cache, may_lie_last
from rlwatch.attribution.operations.memory import empty, empty_like

Made = TypeVar("Made")
LARGE = 1 << 23
"""Multiplications of a dense layer from which oneDNN pays."""
Box = tuple[Tensor, Tensor]
"""The lowest and the highest inputs that a layer can have."""


@dataclass(frozen=True)
class Dense:
    """The map of `functional.linear`.

    On a CPU oneDNN multiplies what is large, as it does for convolutions: it takes half the time of torch's own choice
    where that uses no 512-bit vectors.
    """

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The map itself."""
        if not _onednn_pays(inputs, weight):
            return functional.linear(inputs, weight, bias)
        return functional.linear(inputs.to_mkldnn(), weight, bias).to_dense()

    def transposed(self, outputs: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """The adjoint map, from outputs back to inputs of `shape`."""
        if not _onednn_pays(outputs, weight):
            return (outputs @ weight).view(shape)
        rows = outputs.reshape(-1, len(weight)).to_mkldnn()
        adjoint = torch.ops.aten.mkldnn_linear_backward_input
        inputs: Tensor = adjoint([len(rows), weight.shape[1]], rows, weight).to_dense()
        return inputs.view(shape)


def _onednn_pays(values: Tensor, weight: Tensor) -> bool:
    """True if oneDNN can multiply two float tensors, and there is enough to do."""
    return (
        values.device.type == "cpu"
        and values.dtype == weight.dtype == torch.float32
        and values.shape[:-1].numel() * weight.numel() >= LARGE
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
    )


@dataclass
class Layer:
    """One call of a map in a forward pass, as a rule sees it.

    `padding` is what the layer itself has put around its inputs, as functional.pad takes it. `outputs` may be 0 where
    they are negative if the layer is `rectified`. `valued`: what the rule returns is multiplied by the inputs, so that
    relevance itself arrives at the pixels. A rule that returns relevance itself may write it to `destination`.
    """

    map: Dense | Convolution
    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    outputs: Tensor
    index: int = 0
    first: bool = False
    valued: bool = False
    padding: Sequence[int] = ()
    box: Callable[[], Box | None] = lambda: None
    consumers: set[str] = field(default_factory=set)
    versions: tuple[tuple[int, ...], int] = ((), 0)
    made: dict[Hashable, Any] = field(default_factory=dict)
    destination: Tensor | None = None

    @property
    def kind(self) -> Literal["convolution", "dense"]:
        """Which of the two maps it is."""
        return "convolution" if isinstance(self.map, Convolution) else "dense"

    @property
    def rectified(self) -> bool:
        """True if nothing but ReLUs reads the outputs: relevance is 0 wherever an output is negative."""
        return self.consumers == {"relu"}

    @property
    def read(self) -> tuple[int, ...]:
        """The states of what the layer has read, as autograd knows them, too."""
        return tuple(one._version for one in (self.inputs, self.weight, self.bias) if one is not None)  # noqa: SLF001

    def replace_outputs(self, outputs: Tensor) -> None:
        """Takes `outputs` for those of the layer, and notes their state."""
        self.outputs = outputs
        self.versions = self.versions[0], outputs._version  # noqa: SLF001 - how autograd knows it, too

    def parts(self) -> list[slice]:
        """Rows of the call that fit the cache together; one part where the rows cannot be taken apart."""
        rows = len(self.inputs)
        if isinstance(self.map, Dense) or rows != len(self.outputs):
            return [slice(0, rows)]
        return in_cache(rows, self.inputs, self.outputs)

    def part(self, rows: slice) -> Layer:
        """The same call for some of its rows."""
        return replace(self, inputs=self.inputs[rows], outputs=self.outputs[rows])

    def ones(self) -> Tensor:
        """One row of inputs that are 1, but 0 where the layer has padded them."""
        ones = torch.ones_like(self.inputs[:1])
        return functional.pad(functional.pad(ones, [-side for side in self.padding]), list(self.padding))

    @property
    def positive(self) -> Tensor:
        """The positive weights, 0 for the others."""
        return self.once("positive", lambda: torch.clamp(self.weight, min=0, out=empty_like(self.weight)))

    @property
    def negative(self) -> Tensor:
        """The negative weights, 0 for the others."""
        return self.once("negative", lambda: torch.clamp(self.weight, max=0, out=empty_like(self.weight)))

    @property
    def magnitude(self) -> Tensor:
        """The weights without their signs."""
        return self.once("magnitude", lambda: torch.abs(self.weight, out=empty_like(self.weight)))

    @cached_property
    def nonnegative(self) -> bool:
        """True if no input is below 0."""
        return bool(self.inputs.amin() >= 0)

    @property
    def channels_first(self) -> int:
        """The number of axes of outputs whose second axis holds the channels."""
        return 4 if self.kind == "convolution" else 2

    def per_output(self, values: Tensor) -> Tensor:
        """One number per channel, to be added to the outputs."""
        return values.view(-1, 1, 1) if self.kind == "convolution" else values

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's map with other inputs and weights."""
        return self.map.forward(inputs, weight, bias)

    def once(self, name: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` makes, made for the first part of the call that asks for it by this name."""
        if name not in self.made:
            self.made[name] = make()
        made: Made = self.made[name]
        return made

    def transposed_pair(self, outputs: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """The adjoint with each of two sets of weights, which takes less time at once."""
        if not isinstance(self.map, Convolution) or self.map.groups > 1:
            return self.transposed(outputs, first), self.transposed(outputs, second)
        count, channels, *picture = self.inputs.shape
        both = self.once(("pair", id(first), id(second)), lambda: torch.cat([first, second], 1))
        found = self._adjoint(outputs, both, (count, 2 * channels, *picture))
        return found[:, :channels], found[:, channels:]

    def transposed(self, outputs: Tensor, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """The adjoint of the layer's map with other weights; in the memory of `into` where that saves time."""
        return self._adjoint(outputs, weight, self.inputs.shape, into)

    def transposed_sum(
        self, g: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], into: Tensor | None = None
    ) -> Tensor:
        """The sum of the adjoints of g × two factors, each with its weights, which takes less time at once."""
        (up, with_up), (down, with_down) = first, second
        if not self._joinable():
            return self.transposed(g * up, with_up).add_(self.transposed(g * down, with_down))
        weight = self.once(("sum", id(with_up), id(with_down)), lambda: torch.cat([with_up, with_down]))
        channels = g.shape[1]
        last = self.kind == "convolution" and may_lie_last(g)
        both = empty((len(g), 2 * channels, *g.shape[2:]), g, last=last)
        torch.mul(g, up, out=both[:, :channels])
        torch.mul(g, down, out=both[:, channels:])
        return self.transposed(both, weight, into)

    def _joinable(self) -> bool:
        return self.map.groups == 1 if isinstance(self.map, Convolution) else self.outputs.ndim == 2  # noqa: PLR2004

    def _adjoint(self, outputs: Tensor, weight: Tensor, shape: Sequence[int], into: Tensor | None = None) -> Tensor:
        convolution = self.map
        if not isinstance(convolution, Convolution) or not convolution.shuffles or outputs.dtype == torch.bfloat16:
            return self.map.transposed(outputs, weight, shape)
        last = self.inputs.is_contiguous(memory_format=LAST)
        make = partial(convolution.blocks, weight, last=last)
        _, blocks = self.once(("blocks", id(weight)), lambda: (weight, make()))
        return convolution.shuffled(outputs, blocks, shape, into, last=last)
