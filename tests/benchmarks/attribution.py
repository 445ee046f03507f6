"""What every method costs beside stock gradient × input: `python -m tests.benchmarks.attribution [--json]`.

One CPU thread, methods interleaved in one process, in another order each round. A call is timed behind one of the same
method that is not, as in a loop over batches: each finds caches and memory as it has left them itself. The ratio is the
median of each round's ratio, of the processor time of a map. `all actions` are the maps of a quarter of the
observations × 6 actions; integrated gradients and SmoothGrad count each of their 50 gradients, of an eighth of the
observations. zennit and captum take part where they are installed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import json
import random
import statistics
import sys
import time
import tracemalloc
import types
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlwatch.attribution import METHODS, explain, explain_targets
from rlwatch.attribution.methods import QUERYING
from rlwatch.attribution.operations.memory import BLOCKS

ACTIONS = 6
BASELINE = "gradient x input, stock autograd"


def nature_dqn(actions: int = ACTIONS) -> nn.Sequential:
    """The network of Mnih et al. 2015."""
    return nn.Sequential(
        *(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions)),
    )


def stock_gradient_x_input(network: nn.Module, pixels: Tensor) -> Tensor:
    """What everybody writes first."""
    pixels = pixels.detach().requires_grad_()
    return pixels * torch.autograd.grad(network(pixels).amax(1).sum(), pixels)[0]


def forward(network: nn.Module, pixels: Tensor) -> Tensor:
    """Q-values alone."""
    with torch.no_grad():
        return network(pixels)


def zennit_methods(network: nn.Module) -> dict[str, Callable[[Tensor], object]]:
    """The composites of zennit that have the same names."""
    if importlib.util.find_spec("zennit") is None:
        return {}
    if importlib.util.find_spec("torchvision") is None:
        _stand_in_for_torchvision()
    from zennit import composites  # noqa: PLC0415 - a peer that need not be there
    from zennit.rules import Epsilon  # noqa: PLC0415
    from zennit.types import Linear  # noqa: PLC0415

    peers = {
        "epsilon": composites.LayerMapComposite([*composites.layer_map_base(), (Linear, Epsilon())]),
        "epsilon_plus": composites.EpsilonPlus(),
        "epsilon_plus_flat": composites.EpsilonPlusFlat(),
        "epsilon_alpha2_beta1_flat": composites.EpsilonAlpha2Beta1Flat(),
        "epsilon_gamma_box": composites.EpsilonGammaBox(low=0.0, high=1.0),
    }
    return {f"zennit {name}": partial(_zennit, network, composite) for name, composite in peers.items()}


def _stand_in_for_torchvision() -> None:
    """The two classes of torchvision that zennit asks modules about; none of the networks here holds one."""
    names = "torchvision", "torchvision.models", "torchvision.models.resnet"
    modules = {name: types.ModuleType(name) for name in names}
    for block in ("Bottleneck", "BasicBlock"):
        setattr(modules[names[-1]], block, type(block, (nn.Module,), {}))
    sys.modules.update(modules)


def _zennit(network: nn.Module, composite: object, pixels: Tensor) -> Tensor:
    with composite.context(network) as prepared:
        pixels = pixels.detach().requires_grad_()
        q_values = prepared(pixels)
        start = nn.functional.one_hot(q_values.argmax(1), q_values.shape[1]) * q_values.detach()
        return torch.autograd.grad(q_values, pixels, start)[0]


def captum_methods(network: nn.Module) -> dict[str, Callable[[Tensor], object]]:
    """captum's LRP-ε, which knows no nn.Flatten, on a module that flattens by itself."""
    if importlib.util.find_spec("captum") is None:
        return {}
    from captum.attr import LRP  # noqa: PLC0415 - a peer that need not be there

    class Flattening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = network[:6], network[7:]

        def forward(self, pixels: Tensor) -> Tensor:
            return self.head(self.features(pixels).flatten(1))

    module = Flattening()
    return {"captum epsilon": lambda pixels: LRP(module).attribute(pixels, target=module(pixels).argmax(1))}


class Impala(nn.Module):
    """The residual network of Espeholt et al. 2018, functional as in most code."""

    def __init__(self, actions: int = ACTIONS) -> None:
        super().__init__()
        widths = 4, 16, 32, 32
        self.enter = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1) for pair in itertools.pairwise(widths))
        self.inner = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths[1:] for _ in range(4))
        self.dense, self.head = nn.Linear(32 * 11 * 11, 256), nn.Linear(256, actions)

    def forward(self, x: Tensor) -> Tensor:
        for block, enter in enumerate(self.enter):
            x = functional.max_pool2d(enter(x), 3, 2, 1)
            for first, second in zip(
                self.inner[4 * block : 4 * block + 4 : 2], self.inner[4 * block + 1 :: 2], strict=False
            ):
                x = x + second(functional.relu(first(functional.relu(x))))
        return self.head(functional.relu(self.dense(functional.relu(x).flatten(1))))


def own_methods(network: nn.Module) -> dict[str, Callable[[Tensor], object]]:
    """The methods of rlwatch that take one pass, and several targets from one."""
    methods: dict[str, Callable[[Tensor], object]] = {
        name: partial(lambda method, pixels: explain(network, pixels, method), name)
        for name in METHODS
        if name not in QUERYING
    }
    return methods | {"deep_lift": lambda pixels: explain(network, pixels, "deep_lift")}


def several(network: nn.Module, pixels: Tensor) -> dict[str, tuple[Callable[[Tensor], object], int]]:
    """Methods that make another number of maps, or of gradients, than there are observations; and that number."""
    some = pixels[: max(len(pixels) // 4, 1)]
    few = pixels[: max(len(pixels) // 8, 1)]
    methods: dict[str, tuple[Callable[[Tensor], object], int]] = {
        "epsilon_gamma_box, greedy and contrast": (lambda _: explain_targets(network, pixels), 2 * len(pixels)),
        "integrated_gradients, a gradient": (lambda _: explain(network, few, "integrated_gradients"), 50 * len(few)),
        "smoothgrad, a gradient": (lambda _: explain(network, few, "smoothgrad"), 50 * len(few)),
    }
    for name in ("epsilon", "epsilon_plus", "epsilon_gamma_box"):
        methods[f"{name}, all actions"] = (partial(_all_actions, network, some, name), ACTIONS * len(some))
    return methods


def _all_actions(network: nn.Module, pixels: Tensor, method: str, _: Tensor) -> object:
    return explain(network, pixels, method, target="all")


def peak(method: Callable[[Tensor], object], pixels: Tensor) -> float:
    """Megabytes that a call has allocated at most at a time, what it returns included: torch's most and NumPy's."""
    BLOCKS.clear()
    with torch.profiler.profile(profile_memory=True) as profiled:
        tracemalloc.start()
        made = method(pixels)
        array_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    del made
    return (highest + array_bytes) / 1e6


def measure(
    methods: dict[str, tuple[Callable[[Tensor], object], int]], pixels: Tensor, rounds: int
) -> dict[str, dict[str, float]]:
    """Of each method the median time of a map, the median ratio to the baseline of the same round, and the memory."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    order = random.Random(0)  # noqa: S311 - who runs behind whom is left to chance
    for turn in range(rounds + 1):
        for name, (method, maps) in order.sample([*methods.items()], len(methods)):
            method(pixels)
            started = time.process_time()
            method(pixels)
            if turn:
                seconds[name].append((time.process_time() - started) / maps)
        gc.collect()
    return {
        name: {
            "milliseconds": 1000 * statistics.median(times),
            "ratio": statistics.median(own / base for own, base in zip(times, seconds[BASELINE], strict=True)),
            "maps_per_second": 1 / statistics.median(times),
            "megabytes": peak(methods[name][0], pixels),
        }
        for name, times in seconds.items()
    }


def compared(network: nn.Module, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """All methods on one network and batch size."""
    pixels = torch.rand(batch, 4, 84, 84)
    once = {BASELINE: partial(stock_gradient_x_input, network), "forward": partial(forward, network)}
    once |= own_methods(network) | zennit_methods(network)
    once |= captum_methods(network) if isinstance(network, nn.Sequential) else {}
    methods = {name: (method, batch) for name, method in once.items()} | several(network, pixels)
    return measure(methods, pixels, rounds)


def table(found: dict[str, dict[str, float]]) -> str:
    """The figures as Markdown."""
    lines = ["| method | maps a second | time of a map × | peak MB |", "|---|---:|---:|---:|"]
    for name, one in found.items():
        lines.append(f"| {name} | {one['maps_per_second']:.0f} | {one['ratio']:.2f} | {one['megabytes']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Prints a table per network and batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of tables")
    parser.add_argument("--batches", type=int, nargs="+", default=[64])
    parser.add_argument("--networks", nargs="+", default=["nature"], choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.networks:
        torch.manual_seed(0)
        network = NETWORKS[name]()
        for batch in options.batches:
            found = compared(network, batch, options.rounds)
            setting = {"network": name, "batch": batch}
            print(
                json.dumps(setting | {"methods": found}) if options.json else f"\n{name}, batch {batch}\n{table(found)}"
            )


NETWORKS = {"nature": nature_dqn, "impala": Impala}

if __name__ == "__main__":
    main()
