"""Block sizes fitted to shapes, and the error of shapes that do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core.errors import UserError
from trainshed.kernels.measured.shapes import fitted, multiple, part, require, same

POSITIVE = st.integers(1, 200)


@given(cap=POSITIVE, tiles=POSITIVE)
def test_a_fitted_block_is_the_largest_divisor_below_the_cap(cap, tiles):
    block = fitted(cap, tiles)
    assert block <= cap
    assert tiles % block == 0
    assert all(tiles % larger for larger in range(block + 1, min(cap, tiles) + 1))


@pytest.mark.parametrize(("cap", "tiles", "block"), [(12, 12, 12), (12, 4, 4), (5, 12, 4), (16, 5, 5), (8, 10, 5)])
def test_fitted_by_hand(cap, tiles, block):
    assert fitted(cap, tiles) == block


@pytest.mark.parametrize(("cap", "tiles"), [(0, 4), (4, 0), (-1, 4)])
def test_blocks_are_positive(cap, tiles):
    with pytest.raises(UserError, match="positive numbers of tiles"):
        fitted(cap, tiles)


def test_what_does_not_fit_is_told_in_one_sentence():
    assert multiple("matmul.tiled", "K", 384, 128) == 3
    assert part(2, 128) == slice(256, 384)
    with pytest.raises(UserError, match=r"^kernels.measured.matmul.tiled: K: 130; expected a multiple of 128.$"):
        multiple("matmul.tiled", "K", 130, 128)
    with pytest.raises(UserError, match=r"^kernels.measured.m: K of rhs: 3; expected 4.$"):
        same("m", "K of rhs", 3, 4)
    require(True, "m", "K", 1, "anything")
