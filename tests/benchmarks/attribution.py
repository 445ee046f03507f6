"""What every method costs beside stock gradient × input: `python -m tests.benchmarks.attribution [--json]`.

Nature DQN, one CPU thread, methods interleaved in one process; the ratio is the median of each round's ratio. zennit
and captum take part where they can be imported.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from rlwatch.attribution import METHODS, explain, explain_targets
from rlwatch.attribution.methods import QUERYING

BASELINE = "gradient x input, stock autograd"


def nature_dqn(actions: int = 6) -> nn.Sequential:
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
    from zennit import composites  # noqa: PLC0415  (a peer that need not be there)
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
    from captum.attr import LRP  # noqa: PLC0415  (a peer that need not be there)

    class Flattening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = network[:6], network[7:]

        def forward(self, pixels: Tensor) -> Tensor:
            return self.head(self.features(pixels).flatten(1))

    module = Flattening()
    return {"captum epsilon": lambda pixels: LRP(module).attribute(pixels, target=module(pixels).argmax(1))}


def own_methods(network: nn.Module) -> dict[str, Callable[[Tensor], object]]:
    """The methods of rlwatch that take one pass, and several targets from one."""
    methods: dict[str, Callable[[Tensor], object]] = {
        name: partial(lambda method, pixels: explain(network, pixels, method), name)
        for name in METHODS
        if name not in QUERYING
    }
    return methods | {"epsilon_gamma_box, greedy and contrast": lambda pixels: explain_targets(network, pixels)}


def measure(methods: dict[str, Callable[[Tensor], object]], pixels: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each method and median ratio to the baseline of the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(rounds + 1):
        for name, method in methods.items():
            started = time.perf_counter()
            method(pixels)
            if turn:
                seconds[name].append(time.perf_counter() - started)
        gc.collect()
    return {
        name: {
            "milliseconds": 1000 * statistics.median(times),
            "ratio": statistics.median(own / base for own, base in zip(times, seconds[BASELINE], strict=True)),
            "maps_per_second": len(pixels) / statistics.median(times),
        }
        for name, times in seconds.items()
    }


def main() -> None:
    """Prints one line per method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, pixels = nature_dqn(), torch.rand(arguments.batch, 4, 84, 84)
    methods = {BASELINE: partial(stock_gradient_x_input, network), "forward": partial(forward, network)}
    methods |= own_methods(network) | zennit_methods(network) | captum_methods(network)
    results = measure(methods, pixels, arguments.rounds)
    if arguments.json:
        print(json.dumps(results))
        return
    for name, result in results.items():
        speed = f"{result['milliseconds']:8.1f} ms {result['ratio']:6.2f} x {result['maps_per_second']:8.0f} maps/s"
        print(f"{name:42} {speed}")


if __name__ == "__main__":
    main()
