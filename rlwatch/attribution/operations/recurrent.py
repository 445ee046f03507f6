"""LSTM and GRU, step by step, so that relevance goes back through time.

Of a product of a gate and a signal the signal takes all; where signals are added each takes its part, like anywhere.
Source: Arras et al. 2017, doi 10.18653/v1/W17-5221; 2019, doi 10.1007/978-3-030-28954-6_11. They damp the sum of
signals by ε = 0.001 and leave out its bias; we leave the damping to the composite's rule for dense layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rlwatch.attribution.operations.activations import pass_through
from rlwatch.attribution.operations.refusal import Refusal

Map = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A linear layer by its inputs, weights and bias, which hands on relevance by the composite's rule."""

Weights = Sequence[Tensor | None]
"""Of inputs and of the hidden state, then their biases."""


def lstm_step(layer: Map, inputs: Tensor, state: Sequence[Tensor], weights: Weights) -> tuple[Tensor, Tensor]:
    """Hidden state and cell after one step; the candidate is one dense layer that reads inputs and hidden state."""
    hidden, cell = state
    weight, bias = _joined(weights)
    both = torch.cat([inputs, hidden.expand(len(inputs), -1)], 1)
    size = len(weight) // 4
    gates = functional.linear(both.detach(), weight, bias).sigmoid()
    enter, forget, leave = gates[:, :size], gates[:, size : 2 * size], gates[:, 3 * size :]
    of_candidate = slice(2 * size, 3 * size)
    candidate = layer(both, weight[of_candidate], None if bias is None else bias[of_candidate])
    cell = forget * cell + enter * pass_through(torch.tanh, candidate)
    return leave * pass_through(torch.tanh, cell), cell


def gru_step(layer: Map, inputs: Tensor, state: Sequence[Tensor], weights: Weights) -> tuple[Tensor]:
    """Hidden state after one step; the candidate is the sum of a dense layer and a gated one."""
    (hidden,) = state
    of_inputs, of_hidden, input_bias, hidden_bias = _constant(weights)
    size = len(of_inputs) // 3
    from_inputs = functional.linear(inputs.detach(), of_inputs[: 2 * size], _rows(input_bias, 0, 2 * size))
    from_hidden = functional.linear(hidden.detach(), of_hidden[: 2 * size], _rows(hidden_bias, 0, 2 * size))
    reset, keep = (from_inputs + from_hidden).sigmoid().chunk(2, 1)
    candidate = layer(inputs, of_inputs[2 * size :], _rows(input_bias, 2 * size, 3 * size))
    candidate = candidate + reset * layer(hidden, of_hidden[2 * size :], _rows(hidden_bias, 2 * size, 3 * size))
    return ((1 - keep) * pass_through(torch.tanh, candidate) + keep * hidden,)


def unfolded(name: str, layer: Map, *args: object, **kwargs: object) -> tuple[Tensor, ...] | Tensor:
    """The outputs of torch's function `name`: lstm_cell, gru_cell, lstm or gru.

    Raises: NotImplementedError for packed sequences, or projections of the hidden state.
    """
    if name == "lstm_cell":
        inputs, state, *weights = args
        return lstm_step(layer, inputs, state, _four(weights))  # type: ignore[arg-type]
    if name == "gru_cell":
        inputs, hidden, *weights = args
        return gru_step(layer, inputs, (hidden,), _four(weights))[0]  # type: ignore[arg-type]
    if kwargs or isinstance(args[2], Tensor) or isinstance(args[3], (tuple, list)):
        raise Refusal(f"{name} of packed sequences")
    return _sequence(name, layer, *args)  # type: ignore[arg-type]


def _sequence(
    name: str,
    layer: Map,
    inputs: Tensor,
    state: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    biased: bool,
    layers: int,
    _dropout: float,
    _train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """Outputs at every time, and the last state of every layer and direction."""
    step = lstm_step if name == "lstm" else gru_step
    states: Sequence[Tensor] = [state] if isinstance(state, Tensor) else state
    directions, each = 1 + bidirectional, 2 + 2 * biased
    if len(weights) != layers * directions * each:
        raise Refusal(f"{name} with projections of its hidden state")
    times = inputs.unbind(1 if batch_first else 0)
    ends: list[Sequence[Tensor]] = []
    for level in range(layers):
        ways = []
        for direction in range(directions):
            number = level * directions + direction
            own = _four(weights[number * each : (number + 1) * each])
            outputs, end = _run(step, layer, times[::-1] if direction else times, [one[number] for one in states], own)
            ways.append(outputs[::-1] if direction else outputs)
            ends.append(end)
        times = tuple(torch.cat(one, 1) for one in zip(*ways, strict=True))
    last = (torch.stack(one) for one in zip(*ends, strict=True))
    return torch.stack(times, 1 if batch_first else 0), *last


def _run(
    step: Callable[..., tuple[Tensor, ...]], layer: Map, times: Sequence[Tensor], state: Sequence[Tensor], own: Weights
) -> tuple[list[Tensor], Sequence[Tensor]]:
    outputs = []
    for inputs in times:
        state = step(layer, inputs, state, own)
        outputs.append(state[0])
    return outputs, state


def _four(weights: Sequence[Tensor | None]) -> Weights:
    return [*weights, None, None][:4]


def _constant(weights: Weights) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    of_inputs, of_hidden, *biases = (None if one is None else one.detach() for one in weights)
    if of_inputs is None or of_hidden is None:
        raise Refusal("a recurrent cell without weights")
    return of_inputs, of_hidden, biases[0], biases[1]


def _joined(weights: Weights) -> tuple[Tensor, Tensor | None]:
    """The weights and the bias of inputs and hidden state together."""
    of_inputs, of_hidden, input_bias, hidden_bias = _constant(weights)
    bias = None if input_bias is None or hidden_bias is None else input_bias + hidden_bias
    return torch.cat([of_inputs, of_hidden], 1), bias


def _rows(bias: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if bias is None else bias[start:stop]
