"""Which pictures of a probe a network takes: their size, and how many are stacked."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlwatch.atari import screen
from rlwatch.atari.probe import Probe
from rlwatch.atari.screen import Size
from rlwatch.attribution.checks import check_network
from rlwatch.attribution.inputs import BYTES, Observe, View, first_input, fit
from rlwatch.attribution.lrp.interception import Interception
from rlwatch.attribution.sandbox.untouched import check_made, parts_of
from rlwatch.monitor.asking import Network, device_of
from rlwatch.unwrap import unwrapped

DEPTHS = (4, 1, 2, 8)
"""How many stacked pictures are tried of a network that does not say what its first convolution reads."""
COLOURS = 3
RESIZES = (
    "rlwatch: the network makes pictures of another size of those it is given, and is asked about the probe's own of "
    "%d × %d, which may differ a little from its own: where that matters, leave the resizing to observe="
)
NEAR = 1.0
"""Pixels by which a picture may be moved: no more than masks are widened by."""
log = logging.getLogger("rlwatch")


def matched(network: Network, probe: Probe) -> tuple[Probe, Observe]:
    """The probe as the network sees it, and how its uint8 frames are handed over; found by trial, as it stands first.

    Raises: ValueError when the network takes none of its views or has no weights yet, or when its channels may be
        colours; TypeError when it is nothing that can be called.
    """
    check_network(network)
    check_made(module for module in parts_of(network) if isinstance(module, nn.Module))
    try:
        return probe, _fit(network, probe)
    except ValueError as error:
        refusal = error
    if probe.size != screen.SIZE:
        raise refusal
    depths = _depths(network)
    for size, depth in product(screen.SIZES, depths):
        try:
            seen = seen_as(probe, depth, size)
        except ValueError as error:
            raise ValueError(f"{error}\n{refusal}") from None
        with suppress(ValueError):
            observe = _fit(network, seen)
            if _runs(network, observe, probe):
                log.warning(RESIZES, *size)
            return seen, observe
    sizes = ", ".join(f"{lines} × {columns}" for lines, columns in screen.SIZES)
    raise ValueError(
        f"{refusal}\nStacks of {', '.join(map(str, depths))} in {sizes} were tried as well: for others take "
        "probe=Probe.load(...).seen(depth, (lines, columns))."
    )


def behind(network: Network, observe: Observe | None, probe: Probe) -> tuple[Network, Observe | None]:
    """The network with `observe` as its first part, and what then makes observations of the probe's frames: nothing.

    As a part of the network it is asked anew at each checkpoint, for what it knows may change, and the box of its
    pictures is known. It stays apart if it takes frames through NumPy or fails, which is told of where it is asked.
    """
    if observe is None or isinstance(observe, View):
        return network, observe
    asked = network if isinstance(network, nn.Module) else unwrapped(network)
    joined = _Behind(asked, observe) if isinstance(asked, nn.Module) else lambda frames: asked(observe(frames))
    with suppress(Exception):
        if first_input(unwrapped(joined), _there(joined, probe.observations(2)), stop=True) is not None:
            return joined, BYTES
    return network, observe


class _Behind(nn.Module):
    """A network that is given what `observe` makes of frames."""

    def __init__(self, network: nn.Module, observe: Observe) -> None:
        super().__init__()
        self.network, self.training = network, network.training
        self.observe = (observe,)  # where nobody looks for parts of the network, which it may hold itself

    def forward(self, frames: Tensor) -> Any:
        """What the network returns."""
        return self.network(self.observe[0](frames))


def seen_as(probe: Probe, depth: int, size: Size) -> Probe:
    """The probe as an agent sees it whose observations have so many channels of so many lines and columns.

    Raises: ValueError when the channels may be colours, unless the probe has as many pictures already; as Probe.seen.
    """
    if (probe.stack.shape[1], probe.size) == (depth, size):
        return probe
    if depth % COLOURS == 0:
        raise ValueError(
            f"expected stacks of grey pictures, got {depth} channels, which may be colours: where they are grey "
            f"pictures say so, probe=Probe.load({probe.game!r}).seen({depth}, (lines, columns)); maps of "
            "colours can be made with rlwatch.explain, but not measured"
        )
    return probe.seen(depth, size)


def check_places(network: Network, probe: Probe, observe: Observe) -> None:
    """Make sure that the first layer reads the probe's pictures where they are, and in their order.

    A patch of one picture of a stack after the other turns from black to white, at two places of no symmetry: what
    changes of what the layer reads must lie there.

    Raises: ValueError when it lies elsewhere.
    """
    depth, (height, width) = probe.stack.shape[1], (side // 7 for side in probe.size)
    black = np.repeat(probe.observations(1), 2 * depth, axis=0)
    white, middles = black.copy(), np.zeros((2 * depth, 2))
    for row, (start, picture) in enumerate(product(((0.25, 0.5), (0.6, 0.2)), range(depth))):
        y, x = (int(part * side) for part, side in zip(start, probe.size, strict=True))
        for frames, colour in ((black, 0), (white, 255)):
            frames[row, picture, y : y + height, x : x + width] = colour
        middles[row] = y + (height - 1) / 2, x + (width - 1) / 2
    before, after = (first_input(network, observe(_there(network, one)), stop=True) for one in (black, white))
    if before is None or after is None or before.shape != black.shape:
        return  # which is told of where it is explained
    _check_moves((after.float() - before.float()).abs().cpu().numpy(), middles)


def _check_moves(difference: Float[np.ndarray, "row stack y x"], middles: Float[np.ndarray, "row 2"]) -> None:
    """Raises: ValueError when what differs lies in another picture, or elsewhere, than was changed."""
    for row, (place, middle) in enumerate(zip(difference, middles, strict=True)):
        changed, found = row % len(place), int(place.max(axis=(1, 2)).argmax())
        if not place.max() > 0:
            continue
        if found != changed:
            raise ValueError(
                f"the network must read the pictures of a stack oldest first, as the probe holds them: where number "
                f"{changed + 1} changes, number {found + 1} of what its first layer reads does; maps of another order "
                "can be made with rlwatch.explain, but not measured"
            )
        weights = np.where(place[found] > place[found].max() / 2, place[found], 0)
        seen = [np.average(np.arange(weights.shape[axis]), weights=weights.sum(1 - axis)) for axis in (0, 1)]
        if np.abs(seen - middle).max() > NEAR:
            raise ValueError(
                f"maps must lie where the probe's objects are: what changes at pixel {_at(middle)} (y, x) changes what "
                f"the network's first layer reads at {_at(seen)}. If it augments its pictures while it trains, pass "
                "Read(q_network, lambda network, frames: ...) of rlwatch.unwrap, which leaves that out; maps of "
                "pictures that are turned or cut can be made with rlwatch.explain, but not measured"
            )


def _at(place: Sequence[float] | Float[np.ndarray, " 2"]) -> str:
    return ", ".join(f"{side:.1f}" for side in place)


def _there(network: Network, frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).to(device_of(network))


def _fit(network: Network, probe: Probe) -> Observe:
    return fit(network, _there(network, probe.observations(2)))


def _runs(network: Network, observe: Observe, probe: Probe) -> bool:
    """Whether the network takes the probe's pictures as they are, too."""
    frames = _there(network, probe.observations(2))
    try:
        with torch.no_grad():
            Interception(frames, None).ask(lambda frames: network(observe(frames)))
    except Exception:  # noqa: BLE001 - whatever a foreign network raises
        return False
    return True


def _depths(network: Network) -> Sequence[int]:
    """How many pictures the network may stack."""
    layers = nn.Module.modules(network) if isinstance(network, nn.Module) else iter(())
    channels = next((layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d)), None)
    return DEPTHS if channels is None else (channels,)
