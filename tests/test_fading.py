"""A mask that fades the picture, against a replica by torch and planted networks."""

import pytest
import torch
from torch.nn import functional

from rlwatch.attribution.families.copies import blurred
from rlwatch.attribution.families.fading import meaningful_perturbation
from tests.fixtures.perturbed import CHOSEN, NETWORK, SEEN, ask, gradient_of, planted


def picture_with_planted_light():
    picture = torch.full((2, 4, 20, 20), 0.1)
    picture[0, :, 6:9, 3:6] = 1
    picture[1, :, 6:9, 3:6] = 0.7
    picture[:, :, 14:17, 12:15] = 1
    return picture


@pytest.mark.parametrize("frame_by_frame", [False, True])
def test_meaningful_perturbation_finds_the_planted_pixels_and_spares_the_rest(frame_by_frame):
    relevance = meaningful_perturbation(
        planted,
        picture_with_planted_light(),
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        gradient=gradient_of(planted),
        steps=60,
        frame_by_frame=frame_by_frame,
    )
    assert relevance.min() >= 0
    assert relevance.max() <= 1
    assert relevance[:, -1, 7, 4].min() > 0.9
    assert relevance[:, -1, 14:].max() == 0
    assert relevance[:, -1, :, 11:].max() == 0
    assert bool(relevance[:, 0, 7, 4].max() == 0) is frame_by_frame


def test_a_dearer_area_and_dearer_differences_make_a_smaller_and_a_smoother_mask():
    def mask(**settings):
        picture, weights = picture_with_planted_light(), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        return meaningful_perturbation(planted, picture, weights, gradient=gradient_of(planted), steps=60, **settings)

    usual = mask()
    assert mask(area=0.2).sum() < 0.8 * usual.sum()
    assert mask(roughness=1.0).diff(dim=-1).abs().max() < 0.8 * usual.diff(dim=-1).abs().max()


def test_the_mask_ends_where_autograd_and_torch_s_adam_bring_it():
    """A replica of the published objective, with the interpolation by torch."""
    seen, veil = SEEN[:, :, :13], blurred(SEEN[:, :, :13], 3.75)
    fixed = functional.pad(seen, (0, 0, 0, 1)), functional.pad(veil, (0, 0, 0, 1))
    scale = ((NETWORK(fixed[0]) - NETWORK(fixed[1])) * CHOSEN).sum(1).abs().detach()
    mask = torch.ones(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=0.1)
    for _ in range(12):
        shown = functional.interpolate(mask, (13, 13), mode="bilinear", align_corners=True)
        score = (NETWORK(functional.pad(shown * seen + (1 - shown) * veil, (0, 0, 0, 1))) * CHOSEN).sum(1) / scale
        steps = sum(mask.diff(dim=axis).abs().pow(3).sum() for axis in (2, 3))
        optimizer.zero_grad()
        (score.sum() + 0.02 * (1 - mask).sum() + 0.05 * steps).backward(inputs=[mask])
        optimizer.step()
        mask.data.clamp_(0, 1)

    def wider(observations):
        return NETWORK(functional.pad(observations, (0, 0, 0, 1)))

    settings = {"gradient": gradient_of(wider), "steps": 12, "area": 0.02, "roughness": 0.05, "jitter": 0}
    relevance = meaningful_perturbation(wider, seen, CHOSEN, **settings)
    expected = 1 - functional.interpolate(mask.detach(), (13, 13), mode="bilinear", align_corners=True)
    assert expected.max() > 0.3
    torch.testing.assert_close(relevance, expected.expand_as(seen), rtol=0, atol=1e-6)


def test_a_score_that_the_blur_leaves_alone_gives_an_empty_map():
    flat = torch.full((1, 4, 20, 20), 0.5)
    relevance = meaningful_perturbation(
        planted, flat, torch.tensor([[0.0, 1.0]]), gradient=gradient_of(planted), steps=5
    )
    assert relevance.eq(0).all()


def test_meaningful_perturbation_repeats_itself_and_depends_on_the_generator_only_through_the_jitter():
    def mask(seed, **settings):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return meaningful_perturbation(
            ask, SEEN, CHOSEN, gradient=gradient_of(NETWORK), steps=20, generator=generator, **settings
        )

    assert torch.equal(mask(3), mask(3))
    assert torch.equal(mask(None), mask(0))
    assert not torch.equal(mask(3), mask(4))
    assert torch.equal(mask(3, jitter=0), mask(4, jitter=0))
    torch.testing.assert_close(mask(3, batch_size=1), mask(3, batch_size=2))


def test_a_mask_cannot_fade_bytes():
    with pytest.raises(TypeError, match=r"expected floating observations, got torch.uint8: .float\(\) them"):
        meaningful_perturbation(ask, SEEN.byte(), CHOSEN, gradient=gradient_of(NETWORK))


def test_a_power_without_a_slope_is_refused():
    with pytest.raises(ValueError, match=r"power must be at least 1, got 0\.5"):
        meaningful_perturbation(ask, SEEN, CHOSEN, gradient=gradient_of(NETWORK), power=0.5)
