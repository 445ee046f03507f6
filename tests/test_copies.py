"""Changed copies of a picture: how they are weighed, asked and made."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from rlwatch.attribution import targets
from rlwatch.attribution.families.copies import action_weights, ask_copies, blurred, reference
from tests.fixtures.perturbed import BEHIND, SEEN, ask


def test_weights_are_those_of_the_action_that_is_best_now():
    q_values = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]])
    assert action_weights(targets.greedy, q_values).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert action_weights(targets.contrast, q_values).tolist() == [[-0.5, 1, -0.5], [1, -0.5, -0.5]]
    assert action_weights(targets.action(2), q_values).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_weights_can_be_had_in_inference_mode():
    with torch.inference_mode():
        assert action_weights(targets.greedy, torch.tensor([[1.0, 3.0]])).tolist() == [[0, 1]]


def test_a_score_that_is_no_weighted_sum_is_refused():
    with pytest.raises(ValueError, match="weighted sum of Q-values"):
        action_weights(lambda q_values: q_values.square().sum(1), torch.tensor([[1.0, 3.0]]))


def test_a_batch_size_of_0_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ask_copies(ask, SEEN, lambda probe, _: SEEN[probe : probe + 1], 1, 0)


def test_blur_is_scipy_s():
    soft = np.stack([[gaussian_filter(frame, 3.0) for frame in stack] for stack in SEEN.numpy()])
    np.testing.assert_allclose(blurred(SEEN, 3.0), soft, rtol=0, atol=1e-12)


def test_a_baseline_is_a_number_the_mean_or_a_background():
    assert reference(SEEN, 0.25).eq(0.25).all()
    assert torch.equal(reference(SEEN, "mean")[:, :, 3, 4], SEEN.mean((2, 3)))
    assert torch.equal(reference(SEEN, BEHIND)[1], BEHIND[0])
    with pytest.raises(ValueError, match="a number, 'mean' or a tensor, got 'median'"):
        reference(SEEN, "median")
    with pytest.raises(ValueError, match=r"broadcasts to the observations' \(2, 4, 14, 13\).*got \(5,\)"):
        reference(SEEN, torch.zeros(5))
    with pytest.raises(ValueError, match="finite baseline, got NaN or infinity: give a number"):
        reference(SEEN, float("nan"))


@pytest.mark.usefixtures("types_unchecked")
def test_none_is_no_baseline():
    with pytest.raises(TypeError, match="got None: leave it out for black"):
        reference(SEEN, None)
