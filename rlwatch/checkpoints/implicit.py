"""Saved networks that are asked for quantiles by their fractions: IQN and FQF."""

import math

import torch
from torch import Tensor, nn

from rlwatch.checkpoints.formats import Saved, Weights

FRACTIONS = 32
"""Of IQN, at the middles of as many equal parts of (0, 1). Source: Dabney et al. 2018, arXiv 1806.06923: K = 32."""


class Implicit(nn.Module):
    """A Q-network whose head is given what the body sees times an embedding of each fraction; Q is the mean.

    IQN draws its fractions anew each time; here they are fixed. FQF proposes them by what the body sees, and weights
    each by the part of (0, 1) that it stands for; like there, the proposal is not what Q rests on.
    Source: Yang et al. 2019, arXiv 1911.02140 (FQF).
    """

    def __init__(self, saved: Saved, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head, self.divisor, self.offset = body, head, saved.divisor, saved.offset
        self.embed = nn.Sequential(_linear(saved.embedding), nn.ReLU())
        self.propose = _linear(saved.proposal) if saved.proposal else None
        self.register_buffer("middles", (torch.arange(FRACTIONS) + 0.5) / FRACTIONS)
        self.register_buffer("waves", torch.arange(1, saved.embedding["weight"].shape[1] + 1))
        self.middles: Tensor
        self.waves: Tensor

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values, (probe, action)."""
        pixels = observations if observations.is_floating_point() else observations.float()
        seen = self.body(pixels / self.divisor + self.offset)
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - gates: relevance goes through what they let pass
            fractions, weights = self._fractions(seen.detach())
            gates = self._embedded(fractions)
        quantiles = self.head(seen.unsqueeze(1) * gates)
        q_values: Tensor = (quantiles * weights.unsqueeze(-1)).sum(1)
        return q_values

    def extra_repr(self) -> str:
        """What tells the network from others of the same layers."""
        return f"divisor={self.divisor}, offset={self.offset}"

    def _fractions(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """The fractions of each observation and their weights, (probe, fraction)."""
        if self.propose is None:
            return self.middles[None], torch.full_like(self.middles, 1 / FRACTIONS)[None]
        logits = self.propose(seen)
        parts = (logits - logits.logsumexp(1, keepdim=True)).softmax(1)  # as Categorical: waves magnify rounding
        ends = nn.functional.pad(parts.detach().cumsum(1), (1, 0))
        return (ends[:, :-1] + ends[:, 1:]) / 2, ends.diff(dim=1)

    def _embedded(self, fractions: Tensor) -> Tensor:
        embedded: Tensor = self.embed(torch.cos(math.pi * self.waves * fractions.unsqueeze(-1)))
        return embedded.detach()


def _linear(weights: Weights) -> nn.Linear:
    rows, columns = weights["weight"].shape
    layer = nn.Linear(columns, rows)
    layer.load_state_dict(weights)
    return layer
