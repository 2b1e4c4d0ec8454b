"""Layouts as numbers: which access patterns the hardware has."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.chip.layout import expressible, joined


def places(dims):
    """Every place a pattern walks, in order."""
    found = np.zeros((), np.int64)
    for size, stride in dims:
        found = found[..., None] + np.arange(size) * stride
    return found.reshape(-1).tolist()


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-6, 6)), max_size=5))
def test_joined_dimensions_walk_the_same_places_and_no_two_join(dims):
    found = joined([size for size, _ in dims], [stride for _, stride in dims])
    assert places(found) == places(dims)
    assert all(size > 1 for size, _ in found)
    assert all(outer != size * inner for (_, outer), (size, inner) in pairwise(found))


@pytest.mark.parametrize(
    ("size", "stride", "dims"),
    [
        (65535, 1, 1), (2, 32767, 1), (2, -32768, 1), (65535, 0, 1),
        (2, 32768, 0), (2, -32769, 0),
        (65536, 1, 2), (200_000, 1, 2), (200_000, 0, 2),
        (65537, 1, 0),  # a prime
        (65536, 16383, 2), (65536, 16384, 0),  # an inner dimension of two needs a stride twice as long outside
    ],
)  # fmt: skip
def test_dimensions_of_a_pattern(size, stride, dims):
    assert expressible(size, stride) == dims


@given(st.integers(65536, 400_000), st.integers(-40_000, 40_000))
def test_a_long_dimension_splits_where_two_factors_fit(size, stride):
    """Against the definition: some inner size leaves both sizes in uint16 and both strides in int16."""
    fits = any(
        size % inner == 0 and size // inner <= 65535 and -32768 <= stride <= 32767 and abs(stride) * inner <= 32767
        for inner in range(1, 32768)
    )
    assert bool(expressible(size, stride)) == fits
