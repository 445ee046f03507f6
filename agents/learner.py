"""The network, its loss, and the update: how a batch of transitions becomes a gradient step."""

import copy
import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program uses
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from agents.replay import Batch

TRIM_EVERY = 250  # updates


class QNetwork(nn.Module):
    """The network of Mnih et al. 2015; it takes uint8 stacks of four frames, oldest first."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(4, 32, 8, stride=4), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(64 * 7 * 7, 512), nn.ReLU()),
        )
        self.head = nn.Linear(512, actions)

    def forward(self, stacks: UInt8[Tensor, "batch stack y x"]) -> Float[Tensor, "batch actions"]:
        """Q-values in float32."""
        features: Tensor = self.features(stacks / 255)
        # Q-values of two actions often differ by less than bfloat16 can tell: the head stays in float32
        with torch.autocast("cpu", enabled=False):
            q_values: Tensor = self.head(features.float())
        return q_values


def td_loss(
    network: Callable[[Tensor], Tensor], target_network: Callable[[Tensor], Tensor], batch: Batch, gamma: float
) -> tuple[Tensor, Tensor]:
    """Huber loss of the one-step temporal difference, and the mean Q-value of the actions taken."""
    with torch.no_grad():
        future = target_network(batch.frames[:, 1:]).amax(1)
        goal = batch.rewards + gamma * (1 - batch.done) * future
    taken = network(batch.frames[:, :4]).gather(1, batch.actions[:, None]).squeeze(1)
    return F.smooth_l1_loss(taken, goal), taken.detach().mean()


def multiplies_bfloat16() -> bool:
    """True if the processor multiplies bfloat16 natively, as far as this version of torch can tell."""
    asked = "_is_avx512_bf16_supported", "_is_amx_tile_supported"  # there is no public name
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def give_back_memory() -> None:
    """Return what is free of the heap to the system.

    Before version 2.38 glibc does not always find room for aligned memory in what it has got back (its bug 14581), and
    PyTorch aligns all: without this the heap grows by up to 20 MB a second.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in every C library
        if trim is not None:
            trim(0)


class Gradients(NamedTuple):
    """What a share of a batch adds: to (loss, mean Q-value), and to the gradient of each parameter."""

    told: Float[Tensor, " 2"]
    parameters: tuple[Tensor, ...]


class Learner:
    """Brings a network's Q-values nearer to the rewards: a gradient step per batch, which `threads` share out.

    Each thread takes a share of the batch from end to end. PyTorch's own threads meet at every operator instead: on two
    idle cores that is no faster, and on busy ones up to forty times slower. They are off in the whole program.
    """

    def __init__(
        self, q_network: QNetwork, *, learning_rate: float, gamma: float, threads: int, bfloat16: bool
    ) -> None:
        torch.set_num_threads(1)
        self.q_network, self.target_network = q_network, copy.deepcopy(q_network)
        self.optimizer = torch.optim.Adam(q_network.parameters(), lr=learning_rate, fused=True)
        self.gamma, self.threads, self.bfloat16 = gamma, threads, bfloat16
        self.updates = 0
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def update(self, batch: Batch) -> Float[Tensor, " 2"]:
        """The loss and the mean Q-value of a batch before the gradient step on it."""
        parts = self.shared_out(batch)
        shares = zip(*(part.parameters for part in parts), strict=True)
        for parameter, (gradient, *others) in zip(self.q_network.parameters(), shares, strict=True):
            for other in others:
                gradient.add_(other)
            parameter.grad = gradient
        self.optimizer.step()
        self.updates += 1
        if self.updates % TRIM_EVERY == 0:
            give_back_memory()
        return torch.stack([part.told for part in parts]).sum(0)

    def shared_out(self, batch: Batch) -> list[Gradients]:
        """The gradients of the batch's shares, the first of which is this thread's own."""
        whole = len(batch.actions)
        first, *others = (Batch(*share) for share in zip(*(x.chunk(self.threads) for x in batch), strict=True))
        waiting = [self.pool.submit(self.gradients, share, whole) for share in others]
        return [self.gradients(first, whole), *(each.result() for each in waiting)]

    def gradients(self, share: Batch, whole: int) -> Gradients:
        """What a share of a batch of `whole` transitions adds."""
        part = len(share.actions) / whole
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            loss, q_value = td_loss(self.q_network, self.target_network, share, self.gamma)
        gradients = torch.autograd.grad(part * loss, list(self.q_network.parameters()))
        return Gradients(part * torch.stack([loss.detach(), q_value]), gradients)

    def copy_to_target(self) -> None:
        """Give the target network the present weights."""
        self.target_network.load_state_dict(self.q_network.state_dict())
