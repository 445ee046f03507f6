"""How a network takes its observations: tried once, on the network as it stands."""

import logging
import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from rlwatch.attribution.lrp.interception import Interception
from rlwatch.attribution.lrp.pixels import PixelsReached
from rlwatch.attribution.passes import pictures
from rlwatch.unwrap import parameters_of

log = logging.getLogger("rlwatch")

Observe = Callable[[Tensor], Tensor]
SAID = 300
"""Letters of a refusal that are passed on."""


@dataclass(frozen=True)
class View:
    """One way to hand uint8 frames (probe, stack, y, x) to a network: the type of its numbers and the order of axes."""

    name: str
    scale: float | None
    channels_last: bool
    numbers: torch.dtype = torch.float32

    def __call__(self, observations: Tensor) -> Tensor:
        """The frames as the network takes them."""
        view = observations if self.scale is None else observations.to(self.numbers) * self.scale
        return view.permute(0, 2, 3, 1).contiguous() if self.channels_last else view


VIEWS = tuple(
    View(f"{numbers}, {'NHWC' if channels_last else 'NCHW'}", scale, channels_last)
    for channels_last, (numbers, scale) in product(
        (False, True), (("uint8", None), ("float in [0, 255]", 1.0), ("float in [0, 1]", 1 / 255))
    )
)
BYTES = VIEWS[0]
"""The frames as they are."""


def fit(network: Callable[[Tensor], Any], observations: UInt8[Tensor, "probe stack y x"]) -> View:
    """The view of uint8 frames that the network takes, found by trying each on a few of them.

    A network that turns uint8 into floats itself gets uint8; if it does not divide by 255, a warning says so. One that
    takes floats only and divides by 255 itself gets floats in [0, 255]; one that does not gets [0, 1], since most
    trainings scale outside. Floats are of the type of its weights. Where neither is what the training does, hand
    `observe=` to the caller instead.

    Raises: ValueError when the network takes none of them, with what each attempt said.
    """
    refusals = []
    for view in (replace(view, numbers=_type_of(network)) for view in VIEWS):
        try:
            seen = first_input(network, view(observations))
        except Exception as error:  # noqa: BLE001 - whatever a foreign network raises is the reason
            said = next(iter(str(error).splitlines()), "")
            refusals.append(f"{view.name}: {type(error).__name__}: {textwrap.shorten(said, SAID, placeholder=' …')}")
            continue
        if seen is None:
            refusals.append(f"{view.name}: it ran, but no layer was seen to read the frames: is it scripted, or NumPy?")
        elif seen.shape[1:] != observations.shape[1:]:
            refusals.append(f"{view.name}: its first layer saw {tuple(seen.shape[1:])}")
        elif view.scale != 1 or seen.max() <= 1:
            if view.scale is None and seen.max() > 1:
                log.warning(
                    "rlwatch: the network casts uint8 frames and divides them by nothing: it is asked about numbers in "
                    "[0, 255]. If the training scales them, give observe=, such as lambda frames: frames.float() / 255 "
                    "(of a saved network --divisor 255)"
                )
            return view
    raise ValueError(_none_fits(observations, refusals))


def _none_fits(observations: Tensor, refusals: list[str]) -> str:
    """What is said where a network takes none of the views, which have been refused so."""
    expected = " × ".join(str(size) for size in observations.shape[1:])
    return (
        f"the network must take the probe's stacks of {expected} (stack, y, x); it took none of its views:\n  "
        + "\n  ".join(refusals)
        + "\nGive observe=, a function from the probe's uint8 frames to what the network takes; of a network that cuts "
        "its pictures up before its first layer, or reads them in two ways, pixels of rlwatch.unwrap; of one that "
        "wants more than frames Read(q_network, lambda network, frames: network(frames, hidden)) of rlwatch.unwrap; of "
        "a scripted one the eager network that it was made from."
    )


def _type_of(network: object) -> torch.dtype:
    """The type of the network's first weights that are no whole numbers."""
    types = (weight.dtype for weight in parameters_of(network) if weight.is_floating_point())
    return next(types, torch.float32)


def first_input(network: Callable[[Tensor], Any], observations: Tensor, *, stop: bool = False) -> Tensor | None:
    """What the first layer is given, in a pass that leaves no trace on the network; `stop`: and goes no further."""
    interception = Interception(observations, None, stop=stop)
    with torch.inference_mode(mode=False), torch.no_grad(), suppress(PixelsReached):
        interception.ask(network)
    pixels = interception.pixels.explained
    if pixels is None:
        return None
    try:
        return pictures(pixels.detach(), pixels.detach(), observations)
    except ValueError:  # no picture of each observation: its shape says what it is
        return pixels.detach()
