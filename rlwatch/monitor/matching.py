"""Which pictures of a probe a network takes: their size, and how many are stacked."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import product

import torch
from torch import nn

from rlwatch.atari import screen
from rlwatch.atari.probe import Probe
from rlwatch.atari.screen import Size
from rlwatch.attribution.checks import check_network
from rlwatch.attribution.inputs import Observe, fit
from rlwatch.attribution.lrp.interception import Interception
from rlwatch.attribution.sandbox.untouched import check_made, parts_of
from rlwatch.monitor.asking import Network, device_of

DEPTHS = (4, 1, 2, 8)
"""How many stacked pictures are tried of a network that does not say what its first convolution reads."""
COLOURS = 3
RESIZES = (
    "rlwatch: the network makes pictures of another size of those it is given, and is asked about the probe's own of "
    "%d × %d, which may differ a little from its own: where that matters, leave the resizing to observe="
)
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
        seen = seen_as(probe, depth, size)
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


def _fit(network: Network, probe: Probe) -> Observe:
    return fit(network, torch.from_numpy(probe.observations(2)).to(device_of(network)))


def _runs(network: Network, observe: Observe, probe: Probe) -> bool:
    """Whether the network takes the probe's pictures as they are, too."""
    frames = torch.from_numpy(probe.observations(2)).to(device_of(network))
    try:
        with torch.no_grad():
            Interception(frames, None).ask(lambda frames: network(observe(frames)))
    except Exception:  # noqa: BLE001 - whatever a foreign network raises
        return False
    return True


def _depths(network: Network) -> Sequence[int]:
    """How many pictures the network may stack."""
    layers = network.modules() if isinstance(network, nn.Module) else iter(())
    channels = next((layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d)), None)
    return DEPTHS if channels is None else (channels,)
