"""How a network takes its observations, found on networks of every convention."""

import pytest
import torch
from torch import nn

from rlwatch.attribution import explain
from rlwatch.attribution.inputs import fit

FRAMES = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """A small Q-network whose first lines follow one of the conventions in use."""

    def __init__(self, prepare, stack=4, features=800):
        super().__init__()
        self.prepare, self.convolution, self.head = prepare, nn.Conv2d(stack, 2, 8, 4), nn.Linear(features, 4)

    def forward(self, x):
        return self.head(self.convolution(self.prepare(x)).relu().flatten(1))


CONVENTIONS = {
    "uint8, divided inside": (lambda x: x.float() / 255, "uint8, NCHW"),
    "uint8, undivided": (lambda x: torch.as_tensor(x, dtype=torch.float32), "uint8, NCHW"),
    "float, divided outside": (lambda x: x, "float in [0, 1], NCHW"),
    "uint8, channels last": (lambda x: x.permute(0, 3, 1, 2) / 255, "uint8, NHWC"),
    "float, channels last": (lambda x: x.permute(0, 3, 1, 2), "float in [0, 1], NHWC"),
}


def divides_floats_only(x):
    if not x.is_floating_point():
        raise TypeError("floats only")
    return x / 255.0


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_each_convention_is_recognised(convention):
    prepare, expected = CONVENTIONS[convention]
    assert fit(Network(prepare), FRAMES).name == expected


@pytest.mark.parametrize(("numbers", "apart"), [(torch.float64, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)])
@pytest.mark.parametrize("prepare", [lambda x: x, divides_floats_only])
def test_floats_are_of_the_type_of_the_networks_weights(prepare, numbers, apart):
    network = Network(prepare)
    expected = explain(network, fit(network, FRAMES)(FRAMES)).relevance.double()
    view = fit(network.to(numbers), FRAMES)
    assert view(FRAMES).dtype == numbers
    found = explain(network, view(FRAMES)).relevance.double()
    assert (found - expected).abs().sum() < apart * expected.abs().sum()


def test_floats_that_the_network_divides_itself_stay_undivided():
    assert fit(Network(divides_floats_only), FRAMES).name == "float in [0, 255], NCHW"


def test_a_network_of_another_stack_is_refused_with_what_each_view_said():
    with pytest.raises(ValueError, match=r"4 × 84 × 84[\s\S]*channels[\s\S]*observe="):
        fit(Network(lambda x: x.float(), stack=3), FRAMES)


def test_a_network_that_flattens_its_frames_first_fits():
    assert fit(nn.Sequential(nn.Flatten(), nn.Linear(28224, 4)), FRAMES).name == "float in [0, 1], NCHW"


def test_a_network_that_crops_its_frames_is_refused_with_the_shape_it_saw():
    with pytest.raises(ValueError, match=r"first layer saw \(4, 64, 64\)"):
        fit(Network(lambda x: x.float()[..., 10:74, 10:74], features=450), FRAMES)


def test_a_network_that_reads_frames_one_by_one_fits():
    encoder, head = nn.Conv2d(1, 2, 8, 4), nn.Linear(3200, 4)
    assert fit(lambda x: head(encoder(x.reshape(-1, 1, 84, 84) / 255).reshape(2, -1)), FRAMES).name == "uint8, NCHW"


def test_frames_that_are_cast_and_divided_by_nothing_are_told_of(caplog):
    fit(Network(lambda x: x.float()), FRAMES)
    assert "[0, 255]" in caplog.text
    assert "observe=" in caplog.text
    caplog.clear()
    fit(Network(lambda x: x / 255), FRAMES)
    assert not caplog.text
