"""Beta-1 indices: their arithmetic, masks as boxes, affine expressions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.nki.beta1.index import Mask, affine, arange, boxes, mgrid, par_dim


def test_grid_has_an_open_axis_per_dimension() -> None:
    grid = mgrid[0:4, 2:8:2, 0:3]
    p, x, y = grid
    assert (p.shape, x.shape, y.shape) == ((4, 1, 1), (1, 3, 1), (1, 1, 3))
    assert x.ravel().tolist() == [2, 4, 6]
    assert grid.p is p
    assert grid.x is x
    assert grid.y is y
    with pytest.raises(AttributeError, match="z of a grid of 3"):
        _ = grid.z


def test_par_dim_is_a_size() -> None:
    assert par_dim(128) == 128
    assert par_dim(128) // 2 == 64


def test_comparisons_keep_their_expression() -> None:
    p, f = mgrid[0:4, 0:6]
    mask = 2 * p + 1 < f
    assert isinstance(mask, Mask)
    assert mask.comparison == "lt"
    assert mask.expression is not None
    assert np.array_equal(mask.expression, 2 * np.arange(4)[:, None] + 1 - np.arange(6)[None, :])
    assert bool(mask), "a mask is an object, not a truth value"


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-9, 9), st.integers(1, 5), st.integers(1, 5))
def test_affine_expressions_are_found(a: int, b: int, c: int, rows: int, columns: int) -> None:
    p, f = mgrid[0:rows, 0:columns]
    found = affine(np.asarray(a * p + b * f + c))
    assert found is not None
    start, steps = found
    assert start == c
    assert steps == (a if rows > 1 else 0, b if columns > 1 else 0)


def test_what_is_not_affine_is_not() -> None:
    assert affine(np.arange(8) ** 2) is None
    assert affine(np.arange(8) // 3) is None


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 7), st.integers(0, 7), st.integers(-4, 12))
def test_boxes_cover_a_mask_exactly(rows: int, columns: int, high: int, wide: int, limit: int) -> None:
    p, f = mgrid[0:rows, 0:columns]
    for mask in ((p < high) & (f < wide), (p + 2 * f < limit), p < high, f >= wide):
        seen = np.zeros((rows, columns), int)
        for box in boxes(np.asarray(mask), (rows, columns)):
            seen[box] += 1
        assert np.array_equal(seen, np.broadcast_to(np.asarray(mask), (rows, columns)).astype(int))


def test_a_product_of_conditions_is_one_box() -> None:
    p, f = mgrid[0:128, 0:512]
    assert boxes(np.asarray((p < 100) & (f < 300)), (128, 512)) == [(slice(0, 100), slice(0, 300))]
    assert boxes(np.asarray(p < 200), (128, 512)) == [(slice(0, 128), slice(0, 512))]
    assert boxes(np.asarray(arange(4) < 0), (4,)) == []
