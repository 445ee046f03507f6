"""What a training has left in its event files, read by TensorBoard's own reader; and a probe that costs little."""

import math

from rlwatch import Probe
from rlwatch.monitor.travel import pack, unpack
from tests.fixtures.saved import beginning
from tests.fixtures.watched import read

OBJECTS = {"Breakout": ("ball", "paddle", "bricks"), "Pong": ("ball", "player", "enemy")}


def small(game, segments=2):
    """The first segments of a probe that ships."""
    return beginning(Probe.load(game), segments=segments)


def travelled(value):
    """What another process gets to see of it."""
    return unpack(*pack(value))


def check_run(folder, *, last, least=2, game="Breakout"):
    """The design's tags are there; checkpoints go up from the start to the last step, and no number is missing."""
    accumulator = read(folder)
    scalars, tensors = set(accumulator.Tags()["scalars"]), set(accumulator.Tags()["tensors"])
    for target in ("greedy", "contrast"):
        for name in OBJECTS[game]:
            tags = {f"rlwatch/{kind}/{target}/{name}" for kind in ("lift", "share", "untrained")}
            assert tags <= scalars, tags - scalars
        assert f"rlwatch/clip/{target}" in tensors
    assert {"rlwatch/q/greedy", "rlwatch/q/gap", "rlwatch/cost/explain", "rlwatch/cost/fraction"} <= scalars
    assert any(tag.startswith("rlwatch/findings") for tag in tensors)
    assert any(tag.startswith("rlwatch/validity/") for tag in scalars)
    events = accumulator.Scalars("rlwatch/q/greedy")
    steps = [event.step for event in events]
    assert len(steps) >= least, steps
    assert steps == sorted(set(steps)), steps
    assert steps[-1] == last, steps
    assert all(math.isfinite(event.value) for event in events)
    assert events[0].value != events[-1].value  # it is the network that learns
    return steps
