import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from rlwatch.measures.ranks import ranks


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(-2, 2)))
def test_ranks_are_scipys_and_equal_values_share_theirs(values):
    assert np.array_equal(ranks(values), rankdata(values, axis=1))


def test_no_rows_have_no_ranks():
    assert ranks(np.empty((0, 3))).shape == (0, 3)
