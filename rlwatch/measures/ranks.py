"""The ranks of numbers, as rank correlations compare them."""

import numpy as np
from jaxtyping import Float


def ranks(values: Float[np.ndarray, "row value"]) -> Float[np.ndarray, "row value"]:
    """The rank of each value in its row, 1 = least; equal values share the mean of theirs.

    As `rankdata` of SciPy's stats, which takes longer to load than a checkpoint to be explained, and 30 MB.
    """
    return np.stack([_ranks(row) for row in values]) if len(values) else np.empty(values.shape)


def _ranks(row: Float[np.ndarray, " value"]) -> Float[np.ndarray, " value"]:
    _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    mean: Float[np.ndarray, " value"] = counts.cumsum() - (counts - 1) / 2
    return mean[inverse]
