"""What is told before a network runs, or as its first layer does: expected, got, remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from rlwatch.attribution import AlphaBeta, Composite, Epsilon, Gamma, ZPlus, explain

pytestmark = pytest.mark.usefixtures("types_unchecked")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Flatten(), nn.Linear(3200, 4))


def frames():
    return torch.rand(2, 4, 84, 84, generator=torch.Generator().manual_seed(0))


SHAPES = {
    "a single one": (lambda x: x[0], r"expected inputs of shape \(probe, 4, y, x\), got \(4, 84, 84\): .*\[None\]"),
    "two axes": (lambda x: x[0, 0], r"got \(64, 84\): pass stacks of 4"),
    "five axes": (lambda x: x[None], r"got \(1, 2, 4, 84, 84\): pass stacks of 4"),
    "channels last": (
        lambda x: x.permute(0, 2, 3, 1),
        r"got \(2, 84, 84, 4\): .*permute\(0, 3, 1, 2\)",
    ),
    "other channels": (lambda x: x[:, :3], r"got \(2, 3, 84, 84\): pass stacks of 4"),
    "another size": (
        lambda x: x[..., :64, :64],
        r"layer 1 \(linear\) expected 3200 .*, got shape \(2, 1800\)",
    ),
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input", "occlusion"])
def test_observations_of_another_shape_are_refused(kind, method):
    made, said = SHAPES[kind]
    with pytest.raises(ValueError, match=said):
        explain(network(), made(frames()), method)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(None, "got NoneType: pass a module"), (network().state_dict(), "got OrderedDict: .*load_state_dict")],
)
def test_what_is_no_network_is_refused(wrong, said):
    with pytest.raises(TypeError, match=said):
        explain(wrong, frames())


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda x: x.to_sparse(), r"got torch.sparse_coo: pass observations.to_dense\(\)"),
        (lambda x: x.to("meta"), "on the device 'meta'"),
        (lambda x: x.to(torch.complex64), "expected real numbers as observations, got torch.complex64"),
    ],
)
def test_observations_without_numbers_in_memory_are_refused(made, said):
    with pytest.raises(TypeError, match=said):
        explain(network(), made(frames()))


@pytest.mark.parametrize("wrong", [None, "breakout", np.array([{}]), object()])
def test_what_holds_no_numbers_is_no_observation(wrong):
    with pytest.raises(TypeError, match=f"tensor or an array of numbers, got {type(wrong).__name__} of"):
        explain(network(), wrong)


def test_types_of_numbers_that_torch_can_hardly_use_are_refused():
    with pytest.raises(TypeError, match=r"floats or bytes as observations, got torch\.uint16"):
        explain(network(), np.zeros((1, 4, 84, 84), np.uint16))


def test_a_class_and_a_network_without_numbers_are_no_network():
    with pytest.raises(TypeError, match="the training calls, got the class Linear: pass one"):
        explain(nn.Linear, frames())
    with pytest.raises(TypeError, match="one on the device 'meta': load its weights first"):
        explain(network().to("meta"), frames())


def test_a_lazy_layer_is_not_made_by_explaining():
    lazy = nn.Sequential(nn.Conv2d(4, 8, 8, 4), nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(ValueError, match="LazyLinear has no weights yet: call the network once"):
        explain(lazy, frames())
    assert isinstance(lazy[2], nn.LazyLinear)


@pytest.mark.parametrize("method", ["epsilon", "gradient_x_input"])
def test_an_ensemble_under_vmap_is_refused(method):
    members = [network() for _ in range(2)]
    weights = stack_module_state(members)
    one = members[0]

    def ensemble(x):
        return torch.vmap(lambda p, b: functional_call(one, (p, b), (x,)))(*weights).mean(0)

    with pytest.raises(NotImplementedError, match=r"under torch.vmap.*one by one"):
        explain(ensemble, frames(), method)


SETTINGS = {
    "batch_size=1.5": (TypeError, "batch_size must be a whole number, got 1.5"),
    "batch_size='a'": (TypeError, "batch_size must be a whole number, got 'a'"),
    "low='0'": (TypeError, "low must be a number or a tensor, got '0'"),
    "low=1, high=0": (ValueError, "low must not lie above high, got low=1 and high=0"),
    "low=float('nan')": (ValueError, "low must be finite, got nan"),
    "method='greydanus', sigma=0": (ValueError, "sigma must be above 0 and finite, got 0"),
    "method='sarfa', spot=0.0": (ValueError, "spot must be above 0"),
    "method='occlusion', patch=-1": (ValueError, "patch must be at least 1, got -1"),
    "method='occlusion', patch='8'": (TypeError, "patch must be a whole number, got '8'"),
    "method='occlusion', frame_by_frame=1": (TypeError, "frame_by_frame must be True or False, got 1"),
    "method='integrated_gradients', steps=2.5": (TypeError, "steps must be a whole number, got 2.5"),
    "method='meaningful_perturbation', steps=0": (ValueError, "steps must be at least 1, got 0"),
    "method='meaningful_perturbation', rate='x'": (TypeError, "rate must be a number, got 'x'"),
    "method='smoothgrad', sigma=-0.1": (ValueError, "sigma must be at least 0"),
    "method='lime', generator=0": (TypeError, "generator must be a torch.Generator or None, got 0"),
}


@pytest.mark.parametrize(
    "rule", [Epsilon(-1.0), Epsilon(float("nan")), ZPlus(-1e-6), Gamma(-0.5), AlphaBeta(epsilon=-1.0)]
)
def test_a_rule_that_cannot_be_is_refused(rule):
    with pytest.raises(ValueError, match=r"(epsilon|gamma) of .* must be a number of at least 0, got .*"):
        explain(network(), frames(), Composite(rule, Epsilon()))


def test_a_bound_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"broadcast to \(1, 4, 84, 84\), got \(7,\)"):
        explain(network(), frames(), low=torch.zeros(7), high=1)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_another_kind_or_too_small_is_refused(setting):
    kind, said = SETTINGS[setting]
    with pytest.raises(kind, match=said):
        explain(network(), frames(), **eval(f"dict({setting})"))  # noqa: S307


def test_settings_that_may_be_0_may():
    noiseless = explain(network(), frames(), "smoothgrad", sigma=0, samples=1).relevance
    torch.testing.assert_close(noiseless, explain(network(), frames(), "gradient_x_input").relevance)


class Updating(nn.Module):
    """Keeps the mean of each pixel as it is asked."""

    def __init__(self):
        super().__init__()
        self.body = network()
        self.register_buffer("mean", torch.full((4, 84, 84), 0.1))

    def forward(self, x):
        self.mean.mul_(0.1).add_(x.mean(0), alpha=0.9)
        return self.body(x + self.mean)


class Differences(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x):
        return self.body(torch.cat([x[:, 1:] - x[:, :-1], x[:, -1:]], 1))


def test_a_picture_of_one_colour_that_becomes_no_number_gives_no_box():
    def standardised(x):
        return network()((x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True))

    with pytest.raises(ValueError, match="zB needs the lowest and the highest input: expected low= and high="):
        explain(standardised, frames())


@pytest.mark.parametrize("kind", [Updating, Differences])
def test_a_network_without_a_box_is_told_so_and_both_remedies_work(kind):
    net = kind()
    with pytest.raises(ValueError, match=r"% of .* outside of zB's box, by up to .*epsilon_plus"):
        explain(net, frames())
    assert explain(net, frames(), "epsilon_plus").relevance.isfinite().all()
    assert explain(net, frames(), low=-2.0, high=2.0).relevance.isfinite().all()
