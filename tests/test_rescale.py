"""DeepLIFT's rescale rule: against captum, its books on every network, and what it refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from rlwatch.attribution import explain
from tests.fixtures import captum_maps
from tests.fixtures.networks import build
from tests.fixtures.zoo import ZOO, network_of, observations_of

MAPS = np.load(captum_maps.FILE)
REFUSED = {"layer norm": "layer_norm", "c51": "softmax", "lstm": "lstm", "gru": "gru"}


@pytest.mark.parametrize(("name", "network"), [("", captum_maps.network), ("_pooled", captum_maps.pooled)])
def test_the_map_is_captums(name, network):
    for number, action in enumerate(captum_maps.ACTIONS.tolist()):
        found = explain(
            network(),
            captum_maps.observations()[number : number + 1],
            "deep_lift",
            f"action={action}",
            baseline=captum_maps.background(),
        )
        np.testing.assert_allclose(found.relevance[0], MAPS[f"deep_lift{name}"][number], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind not in REFUSED])
def test_relevance_adds_up_to_what_the_score_lies_above_the_baselines(kind):
    network, seen = network_of(kind), observations_of(kind)
    background = observations_of(kind, seed=1)[:1]
    pictures = background.permute(0, 3, 1, 2) if "channels last" in kind else background
    with torch.no_grad():
        q_values, behind = network(seen), network(background)
    best = q_values.argmax(1)
    found = explain(network, seen, "deep_lift", baseline=pictures)
    rise = q_values.gather(1, best[:, None])[:, 0] - behind[0, best]
    torch.testing.assert_close(found.relevance.sum((1, 2, 3)), rise, rtol=0, atol=1e-9)
    assert found.relevance.abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_rule_is_named_with_a_method_that_works(kind):
    with pytest.raises(NotImplementedError, match=f"deep_lift has no rule for {REFUSED[kind]}.*integrated_gradients"):
        explain(network_of(kind), observations_of(kind), "deep_lift")


CHOOSING = {
    "where": lambda hidden: torch.where(hidden > 0, hidden, 0),
    "a mask": lambda hidden: hidden * (hidden > 0),
    "other observations": lambda hidden: hidden - hidden.mean(0),
}


@pytest.mark.parametrize("way", CHOOSING)
def test_a_map_that_does_not_add_up_is_refused(way):
    network = network_of("nature")
    asked = nn.Sequential(*list(network)[:6])

    def ask(x):
        return network[8](CHOOSING[way](asked(x)))

    with pytest.raises(NotImplementedError, match=r"chooses by the numbers.*mixes observations.*integrated_gradients"):
        explain(ask, observations_of("nature"), "deep_lift")


@pytest.mark.parametrize("numbers", [torch.float16, torch.bfloat16])
def test_half_numbers_give_the_map_of_whole_ones(numbers):
    network, seen = network_of("nature"), observations_of("nature")
    seen[:, :, :10] = 0
    expected = explain(network, seen, "deep_lift").relevance.float()
    found = explain(copy.deepcopy(network).to(numbers), seen.to(numbers), "deep_lift").relevance.float()
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()


def test_max_pooling_that_returns_places_is_refused():
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.head = nn.Conv2d(4, 3, 4, 4), nn.Linear(12, 3)

        def forward(self, x):
            values, _ = nn.functional.max_pool2d(self.one(x), 2, return_indices=True)
            return self.head(values.flatten(1))

    with pytest.raises(NotImplementedError, match="indices"):
        explain(build(Placed), observations_of("nature"), "deep_lift")


def test_where_nothing_differs_from_the_baseline_there_is_no_relevance():
    network, seen = network_of("nature"), observations_of("nature")
    seen[:, :, :10] = 0.5
    relevance = explain(network, seen, "deep_lift", baseline=0.5).relevance
    assert (relevance[:, :, :10] == 0).all()
    assert relevance[:, :, 10:].abs().max() > 0
