"""How far a network's maps can be trusted: the checks that ask the network again, and what they say in one line."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import nn

from rlwatch.atari import screen
from rlwatch.atari.probe import Probe
from rlwatch.attribution.inputs import Observe
from rlwatch.attribution.randomise import cascade
from rlwatch.measures.flipping import Gain, gains
from rlwatch.measures.sums import Pixels
from rlwatch.measures.validity import correlation, covered, mass, moves, pointing, spearman, ssim
from rlwatch.monitor.asking import Explain, Network, TargetMaps, asking, device_of, weights

Check = tuple[str, str, float]
"""The name of a check, the target whose maps it is about, and its figure."""

SHIFTS = ((0, 1), (1, 0))
"""By how many pixels, down and right, the frames are moved for the check of continuity."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The probe frames that the checks look at, what moves in them, and the pictures that flipping starts from.

    `chosen`: which of the probe's frames these are.
    """

    chosen: Int[np.ndarray, " probe"]
    frames: UInt8[np.ndarray, "probe stack y x"]
    episode: Int[np.ndarray, " probe"]
    masks: Mapping[str, Bool[np.ndarray, "probe stack y x"]]
    starts: Mapping[str, UInt8[np.ndarray, "y x"]]


def sample(probe: Probe, objects: Mapping[str, Pixels], *, count: int = 16) -> Sample:
    """`count` frames at equal distances over the probe, so over its segments; all of them where it has fewer.

    Sixteen are one from the middle of each segment of a probe that ships. Masks of what moves are kept, and `moving`,
    their union; a game whose objects nobody has mapped has none.
    """
    chosen = ((np.arange(min(count, len(probe))) + 0.5) * len(probe) / min(count, len(probe))).astype(int)
    frames = probe.observations()
    masks = {name: _mask(where, frames.shape) for name, where in objects.items()}
    moving = {name: mask[chosen] for name, mask in masks.items() if moves(mask)}
    union = {"moving": np.any(list(moving.values()), axis=0)} if moving else {}
    background = screen.pictures(np.stack([probe.background] * 2)[None], probe.palette, probe.size)[0]
    starts = {"black": np.zeros_like(background), "background": background}
    return Sample(chosen, frames[chosen], probe.episode[chosen], moving | union, starts)


def _mask(where: Pixels, shape: tuple[int, ...]) -> Bool[np.ndarray, "probe stack y x"]:
    mask = np.zeros(math.prod(shape), bool)
    mask[where.index] = True
    return mask.reshape(shape)


def validity(
    network: Network,
    chosen: Sample,
    observe: Observe,
    generator: np.random.Generator,
    *,
    method: Any = "epsilon_gamma_box",
    options: Mapping[str, Any] | None = None,
    other: Any = None,
    stages: int = 5,
    points: int = 12,
    orders: int = 2,
) -> dict[str, float]:
    """The figure of each check by name, one per target, named `<check>_<target>`; NaN where it cannot be made.

    `randomised_<stage>`, `ssim_<stage>`: likeness to the maps of the network with layers drawn anew from the output
    down (`cascade`); 1 = the maps do not depend on these layers. `action`: likeness of the maps of the best and of the
    second best action. `shift`: likeness under a shift of the picture by one pixel, shifted back. `agreement`: with
    those of the composite `other` (epsilon_plus, or epsilon_gamma_box where that is `method`). `gain`, `gain_low`,
    `gain_high`, `deletion_<start>`, `insertion_<start>`: over random maps, see `Gain`. `pointing_<object>`,
    `mass_<object>`: hits and mass on what moves, `chance_<object>` what a map gets that knows nothing. `conservation`:
    sum of relevance / sum of scores. Likeness is signed Spearman of maps summed over the stack. Maps of a score below 0
    are compared with their sign changed: a head that is drawn anew may turn Q, and with it the whole map, negative.

    The same action is explained throughout, whatever a changed network or picture would choose. `points` and `orders`
    bound the queries, see `gains`.

    Raises: ValueError when the network's output holds NaN or infinity.
    """
    ask = asking(network, observe)
    q_values = ask(chosen.frames)
    ranked = np.argsort(-q_values, axis=1, kind="stable")
    explain = Explain(observe, method, ranked[:, 0], options or {})
    maps = explain(network, chosen.frames)
    counted = weights(ranked[:, 0], q_values.shape[1])
    scored = {target: (one.relevance.sum(axis=1), counted[target]) for target, one in maps.items()}
    beaten = gains(ask, chosen.frames, scored, chosen.starts, chosen.episode, generator, points=points, orders=orders)
    alternatives = {
        "action": replace(explain, actions=ranked[:, 1])(network, chosen.frames),
        "agreement": _second_opinion(network, chosen, explain, other),
    }
    checks = chain(
        _randomised(network, chosen, explain, maps, int(generator.integers(2**31)), stages),
        (one for check, changed in alternatives.items() for one in _alike(check, maps, changed)),
        _shifted(network, chosen, explain, maps),
        _placed(maps, chosen),
        (("conservation", target, one.conservation) for target, one in maps.items()),
        (one for target, gain in beaten.items() for one in _gained(target, gain)),
    )
    return {f"{check}_{target}": value for check, target, value in checks}


def _second_opinion(network: Network, chosen: Sample, explain: Explain, other: Any) -> TargetMaps:
    """The maps by another composite; empty where it has no rule for what the network does."""
    other = other or ("epsilon_gamma_box" if explain.method == "epsilon_plus" else "epsilon_plus")
    try:
        return replace(explain, method=other, options={})(network, chosen.frames)
    except NotImplementedError:
        return {}


def _alike(check: str, maps: TargetMaps, changed: TargetMaps) -> Iterator[Check]:
    for target, one in maps.items():
        likeness = _mean(correlation(one.ranks, changed[target].ranks)) if target in changed else math.nan
        yield check, target, likeness


def _randomised(
    network: Network, chosen: Sample, explain: Explain, maps: TargetMaps, seed: int, stages: int
) -> Iterator[Check]:
    """Nothing for a plain function, whose layers nobody can draw anew."""
    if not isinstance(network, nn.Module):
        return
    example = explain.observe(torch.from_numpy(chosen.frames[:1]).to(device_of(network)))
    for stage, drawn in cascade(network, example, seed, stages=stages):
        changed = explain(drawn, chosen.frames)
        yield from _alike(f"randomised_{stage}", maps, changed)
        for target, one in maps.items():
            yield f"ssim_{stage}", target, _mean(ssim(one.summed, changed[target].summed))


def _shifted(network: Network, chosen: Sample, explain: Explain, maps: TargetMaps) -> Iterator[Check]:
    """Likeness of the maps where both pictures show the same; the border repeats into what a shift leaves empty."""
    found: dict[str, list[float]] = {target: [] for target in maps}
    for down, right in SHIFTS:
        edges = ((0, 0), (0, 0), (down, 0), (right, 0))
        height, width = chosen.frames.shape[2:]
        changed = explain(network, np.pad(chosen.frames, edges, mode="edge")[:, :, :height, :width])
        for target, one in maps.items():
            still = one.summed[:, : height - down, : width - right]
            found[target].append(_mean(spearman(still, changed[target].summed[:, down:, right:])))
    for target, likeness in found.items():
        yield "shift", target, _mean(np.array(likeness))


def _placed(maps: TargetMaps, chosen: Sample) -> Iterator[Check]:
    for (target, one), (name, mask) in product(maps.items(), chosen.masks.items()):
        yield f"pointing_{name}", target, _mean(pointing(one.relevance, mask))
        yield f"mass_{name}", target, _mean(mass(one.relevance, mask))
        yield f"chance_{name}", target, covered(mask)


def _gained(target: str, gain: Gain) -> Iterator[Check]:
    found = {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high, **gain.parts}
    yield from ((check, target, value) for check, value in found.items())


def trust(figures: Mapping[str, float], *, dependent: float = 0.9) -> str:
    """One line for a reader: what the maps depend on and whether they beat chance; empty where nothing was checked.

    `dependent`: maps depend on the Q-head where Spearman falls below this when it is drawn anew. Maps that do not react
    keep 0.98 and more, those that do fall below 0.5: 0.9 lies clear of both. Source of the weakness: Sixt et al. 2020,
    arXiv 1912.09818; Huber et al. 2022, arXiv 2101.07312.
    """
    if not figures:
        return ""
    head, everything = figures.get("randomised_head_greedy", math.nan), figures.get("randomised_all_greedy", math.nan)
    unknown = "the maps are flat" if "randomised_head_greedy" in figures else "it cannot be drawn anew"
    answer = f"cannot tell, {unknown}" if math.isnan(head) else "yes" if head < dependent else "no"
    measured = "" if math.isnan(head) else f" (Spearman {head:.2f} after randomising it, {everything:.2f} after all)"
    return "; ".join(
        [
            f"these maps depend on the Q-head: {answer}{measured}",
            f"for the value they {_beats(figures, 'greedy')}, for the choice they {_beats(figures, 'contrast')}",
            *_told(figures),
        ]
    )


def _beats(figures: Mapping[str, float], target: str) -> str:
    gain, low, high = (figures.get(f"{name}_{target}", math.nan) for name in ("gain", "gain_low", "gain_high"))
    if math.isnan(gain):
        return "cannot be compared with random maps"
    interval = f"({100 * low:+.0f} % to {100 * high:+.0f} %)"
    if low > 0:
        return f"beat random maps by {100 * gain:.0f} % {interval}"
    return f"have no power: random maps do as well, gain {100 * gain:+.0f} % {interval}"


def _told(figures: Mapping[str, float]) -> Iterator[str]:
    if not math.isnan(action := figures.get("action_greedy", math.nan)):
        yield f"the second-best action's maps are {action:.2f} alike"
    if not math.isnan(hits := figures.get("pointing_moving_greedy", math.nan)):
        chance = figures["chance_moving_greedy"]
        yield f"the peak lies on a moving object in {100 * hits:.0f} % of frames (chance {100 * chance:.0f} %)"


def _mean(values: Float[np.ndarray, " value"]) -> float:
    """The mean of what could be measured; NaN where nothing could."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else math.nan
