"""What `explain` was asked for, checked, and answered part by part of the observations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlwatch.attribution.box import Bound, box_of
from rlwatch.attribution.checks import check_bounds, check_dense, check_network, check_numbers, check_whole
from rlwatch.attribution.families.gradient import GRADIENT_METHODS, gradient_x_input
from rlwatch.attribution.lrp.composites import COMPOSITES
from rlwatch.attribution.lrp.rules import RuleOf
from rlwatch.attribution.lrp.signals import BoxOf
from rlwatch.attribution.methods import METHODS, QUERYING, check_options, generator_state, of_part, queried, rewind
from rlwatch.attribution.passes import Network, run
from rlwatch.attribution.targets import Targets, each_of, streams_in, unknown
from rlwatch.unwrap import parameters_of, unwrapped

Observations = Tensor | npt.NDArray[np.generic]
Method = str | RuleOf
Answer = list[Tensor]
"""Q-values, then score and relevance of each target; of every action Q-values and all relevance in one tensor."""


@dataclass(frozen=True)
class Request:
    """Observations that a method explains to a network; `fallback` says why it is not the method asked for."""

    network: Network
    observed: Tensor
    method: str
    rule_of: RuleOf | None
    box: BoxOf
    options: Mapping[str, Any]
    begin: Tensor | None
    fallback: str = ""

    def part(self, start: int, size: int, targets: Targets) -> Answer:
        """What is found of `size` observations from `start` on.

        Raises: as `explain_targets` does.
        """
        observed = self.observed[start : start + size]
        with quiet(observed.device.type):
            if self.method not in QUERYING:
                return self._passed(observed, targets)
            rewind(self.options, self.begin)
            options = of_part(self.options, slice(start, start + size), len(self.observed))
            found = queried(self.network, observed, targets, self.method, options)
            return [found[0], torch.stack(found[2::2], 1)] if targets is None else found

    def _passed(self, observed: Tensor, targets: Targets) -> Answer:
        relevance_of = GRADIENT_METHODS.get(self.method, gradient_x_input)
        keep, valued = streams_in(targets), relevance_of is gradient_x_input
        passed = run(self.network, observed, self.rule_of, self.box, keep=keep, valued=valued)
        each = each_of(targets, passed.q_values.shape[1])
        together = passed.memory(len(each)) if targets is None else None
        found = [passed.q_values.detach()]
        for index, target in enumerate(each):
            score, into = passed.score(target), None if together is None else together[:, index]
            relevance = passed.relevance(score, relevance_of, last=index == len(each) - 1, into=into)
            found += [score.detach(), relevance]
        return found if together is None else [found[0], together]

    def by_gradient(self, refusal: NotImplementedError) -> Request:
        """The same by gradient × input, as a warning says."""
        warnings.warn(f"gradient_x_input is used instead of {self.method}: {refusal}", RuntimeWarning, stacklevel=4)
        return Request(self.network, self.observed, "gradient_x_input", None, self.box, {}, None, fallback=str(refusal))


def request(
    network: Network,
    observations: Observations,
    method: Method,
    *,
    batch_size: int = 64,
    low: Bound = None,
    high: Bound = None,
    **options: Any,
) -> Request:
    """The request, checked as far as it can be before the network runs.

    Raises: as `explain_targets` does.
    """
    rule_of, name = _rules(method)
    check_options(name, options)
    check_network(network)
    check_bounds(low, high)
    network = unwrapped(network)
    observed = _checked(network, observations, batch_size)
    extremes = cache(observed.aminmax)
    if observed.is_floating_point() and not all(extreme.isfinite() for extreme in extremes()):
        raise ValueError("observations must be finite, got NaN or infinity: look for a division by 0 before them")
    box = cache(partial(box_of, network, observed, extremes, low, high))
    if low is not None or high is not None:
        with quiet(observed.device.type):
            box()  # which refuses observations outside of it
    begin = generator_state(options)
    return Request(network, observed, name, rule_of, box, options | {"batch_size": batch_size}, begin)


@contextmanager
def quiet(device: str) -> Iterator[None]:
    """The modes of torch in which a network is explained, whatever those of the caller."""
    with ExitStack() as stack:
        for mode in (torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(device, enabled=False)):
            stack.enter_context(mode)
        yield


def _rules(method: Method) -> tuple[RuleOf | None, str]:
    if callable(method):
        return method, getattr(method, "__name__", repr(method))
    if method not in METHODS:
        raise ValueError(unknown("method", method, list(METHODS)))
    return COMPOSITES.get(method), method


def _checked(network: Network, observations: Observations, batch_size: int) -> Tensor:
    """The observations as a tensor; an array goes to the device of the network's weights."""
    check_whole("batch_size", batch_size)
    if not isinstance(observations, Tensor):
        array = np.ascontiguousarray(observations)
        check_numbers(observations, array.dtype)
        device = next((weight.device for weight in parameters_of(network)), None)
        observations = torch.tensor(array, device=device)
    check_dense(observations)
    if not observations.numel():
        raise ValueError(f"expected at least one observation, got shape {tuple(observations.shape)}")
    return observations
