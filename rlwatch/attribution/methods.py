"""The methods by name, and what each may be told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlwatch.attribution.checks import check_setting
from rlwatch.attribution.families.copies import action_weights
from rlwatch.attribution.families.fading import meaningful_perturbation
from rlwatch.attribution.families.gradient import GRADIENT_METHODS
from rlwatch.attribution.families.paths import integrated_gradients, simple_taylor, smoothgrad
from rlwatch.attribution.families.perturbation import greydanus, occlusion, sarfa
from rlwatch.attribution.families.rescale import check_sums, deep_lift, rescaling
from rlwatch.attribution.families.sampling import lime, shap
from rlwatch.attribution.lrp.composites import COMPOSITES
from rlwatch.attribution.lrp.rules import RuleOf, Zero
from rlwatch.attribution.operations.treatment import Treatment, treatment
from rlwatch.attribution.passes import Network, Pass, run
from rlwatch.attribution.targets import Target, Targets, each_of, streams_in, unknown

Method = Callable[..., Tensor]

PERTURBING: dict[str, Method] = {
    "occlusion": occlusion,
    "greydanus": greydanus,
    "sarfa": sarfa,
    "lime": lime,
    "shap": shap,
    "meaningful_perturbation": meaningful_perturbation,
}
"""Methods that ask for the Q-values of changed pictures."""

SLOPING: dict[str, Method] = {
    "simple_taylor": simple_taylor,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
}
"""Methods that ask for the gradient at other pictures."""

COMPARING: dict[str, Method] = {"deep_lift": deep_lift}
"""Methods that compare each layer's answer with its answer to a baseline."""

QUERYING = PERTURBING | SLOPING | COMPARING
"""Methods that ask the network many times."""

METHODS = (*COMPOSITES, *GRADIENT_METHODS, *QUERYING)

CONSERVING = frozenset({*COMPOSITES, "gradient_x_input", "simple_taylor", "integrated_gradients", "deep_lift", "shap"})
"""Methods whose maps add up to the score, up to what is absorbed."""

_OWN = frozenset({"batch_size", "gradient"})
"""Keywords that `explain` itself gives."""


@dataclass(frozen=True)
class Queries:
    """A network that is asked what it says to other pixels than those of `origin`, about one target."""

    network: Network
    origin: Pass
    target: Target

    def ask(self, pictures: Float[Tensor, "copy stack y x"]) -> Float[Tensor, "copy column"]:
        """The target's table for these pixels."""
        return self._run(pictures).table(self.target).detach()

    def gradient(
        self, pictures: Float[Tensor, "copy stack y x"], weights: Float[Tensor, "copy column"]
    ) -> Float[Tensor, "copy stack y x"]:
        """The gradient of Σ weights · table at these pixels; 0 where nothing depends on them."""
        passed = self._run(pictures)
        with torch.enable_grad():
            total = (passed.table(self.target) * weights).sum()
        _, direct = passed.gradients(total, last=True)
        return torch.zeros_like(pictures) if direct is None else direct.reshape(pictures.shape)

    def multipliers(
        self,
        pictures: Float[Tensor, "probe stack y x"],
        baselines: Float[Tensor, "probe stack y x"],
        weights: Float[Tensor, "probe column"],
    ) -> Float[Tensor, "probe stack y x"]:
        """What the differences of pictures from their baselines are multiplied with, by DeepLIFT's rescale rule.

        Raises: NotImplementedError as `check_sums` does.
        """
        passed = self._run(torch.cat([pictures, baselines]), lambda _: Zero(), rescaling)
        with torch.enable_grad():
            seen, base = [(part * weights).sum(1) for part in passed.table(self.target).chunk(2)]
            total = seen.sum()
        _, direct = passed.gradients(total, last=True)
        found = torch.zeros_like(pictures) if direct is None else direct[: len(direct) // 2].reshape(pictures.shape)
        check_sums(found * (pictures - baselines), seen.detach(), base.detach())
        return found

    def _run(self, pictures: Tensor, rule_of: RuleOf | None = None, treat: Treatment = treatment) -> Pass:
        one = self.origin.observations[:1]
        observations = one.expand(len(pictures), *one.shape[1:])
        return run(self.network, observations, rule_of, instead=pictures, keep=self.target.of_streams, treat=treat)


def check_options(method: str, options: Mapping[str, object]) -> None:
    """Nothing, if the method knows these keywords, and they are of its kind.

    Raises: TypeError when it does not know one of them, or one is of another kind; ValueError when one is too small.
    """
    known = settings(method)
    for name in options.keys() - set(known):
        if not known:
            raise TypeError(f"method {method!r} has no keywords of its own, got {name!r}: leave it out")
        raise TypeError(unknown(f"keyword of method {method!r}", name, known))
    for name, value in options.items():
        if name in known:
            check_setting(method, name, value, inspect.signature(QUERYING[method]).parameters[name].default)


def settings(method: str) -> list[str]:
    """The names of the keywords of a method's own."""
    if method not in QUERYING:
        return []
    keywords = inspect.signature(QUERYING[method]).parameters.values()
    return [one.name for one in keywords if one.kind is one.KEYWORD_ONLY and one.name not in _OWN]


def queried(
    network: Network, observations: Tensor, targets: Targets, method: str, options: Mapping[str, Any]
) -> list[Tensor]:
    """Q-values, then score and relevance of each target, by a method of QUERYING; `options` hold its `batch_size`.

    A generator among the options starts for each target where it stands now, so targets share what is drawn.
    """
    origin = run(network, observations, keep=streams_in(targets))
    pictures = origin.picture(origin.pixels)
    found = [origin.q_values.detach()]
    begin = generator_state(options)
    for target in each_of(targets, origin.q_values.shape[1]):
        rewind(options, begin)
        table = origin.table(target).detach()
        queries = Queries(network, origin, target)
        relevance = _answer(method, queries, pictures, action_weights(target.score, table), options)
        found += [target.score(table), relevance.contiguous()]
    return found


def _answer(method: str, queries: Queries, pictures: Tensor, weights: Tensor, options: Mapping[str, Any]) -> Tensor:
    gradient = {"gradient": queries.gradient} if method == "meaningful_perturbation" else {}
    asked: dict[str, Callable[..., Tensor]]
    asked = dict.fromkeys(PERTURBING, queries.ask) | dict.fromkeys(COMPARING, queries.multipliers)
    return QUERYING[method](asked.get(method, queries.gradient), pictures, weights, **gradient, **options)


def generator_state(options: Mapping[str, Any]) -> Tensor | None:
    """Where the generator among the options stands; None if there is none."""
    generator = options.get("generator")
    return None if generator is None else generator.get_state()


def rewind(options: Mapping[str, Any], state: Tensor | None) -> None:
    """Puts the generator among the options back."""
    if state is not None:
        options["generator"].set_state(state)


def of_part(options: Mapping[str, Any], part: slice | Int[Tensor, " part"], probes: int) -> dict[str, Any]:
    """The options for some of the probes: what is given per probe is cut."""
    return {
        name: value[part]
        if isinstance(value, Tensor) and value.ndim == 4 and len(value) == probes  # noqa: PLR2004 - a picture per probe
        else value
        for name, value in options.items()
    }
