"""Undefined elements may move and be computed on; a result may not depend on them."""

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError


def run(kernel, *arrays, **options):
    simulated = nki.simulate(kernel, **options)
    return simulated(*arrays), simulated


DATA = np.arange(64 * 8, dtype=np.float32).reshape(64, 8)


def half_loaded(a):
    """A tile of 128 partitions of which only 64 are loaded."""
    tile = nl.ndarray((128, 8), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile[0:64], src=a)
    return tile


def test_an_operand_nothing_was_written_to_is_an_error_at_its_line():
    def kernel(a):
        tile = nl.ndarray((64, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=a, src=tile)
        return a

    with pytest.raises(NkiValidationError, match=r"test_undefined\.py:\d+: dma_copy, src: uninitialised sbuf read"):
        run(kernel, DATA.copy())


def test_padding_may_be_computed_on_where_the_result_does_not_depend_on_it():
    def kernel(a):
        tile = half_loaded(a)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
        out = nl.ndarray(a.shape, dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile[0:64])
        return out

    result, simulated = run(kernel, DATA)
    np.testing.assert_array_equal(result, 2 * DATA)
    assert "undefined-elements" in {finding.rule for finding in simulated.profile.findings}


@pytest.mark.parametrize("row", [64, 127])
def test_a_result_that_holds_one_undefined_row_is_an_error_and_names_the_read(row):
    def kernel(a):
        tile = half_loaded(a)
        copied = nl.ndarray((128, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=copied, src=tile)
        out = nl.ndarray((1, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=copied[row : row + 1])
        return out

    with pytest.raises(NkiValidationError, match="tensor_copy, src: uninitialised read, and elements of the result"):
        run(kernel, DATA)


def test_writing_over_an_undefined_element_makes_it_defined():
    def kernel(a):
        tile = half_loaded(a)
        copied = nl.ndarray((128, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=copied, src=tile)
        nisa.memset(dst=copied[64:128], value=7.0)
        out = nl.ndarray((128, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=copied)
        return out

    result, _ = run(kernel, DATA)
    np.testing.assert_array_equal(result, np.concatenate([DATA, np.full((64, 8), 7, np.float32)]))


@pytest.mark.parametrize(("rows", "good"), [(slice(0, 8), True), (slice(8, 9), False)])
def test_a_matmul_spreads_what_is_undefined_to_rows_of_the_stationary_operand_only(rows, good):
    def kernel(a):
        stationary = nl.ndarray((64, 16), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=stationary[:, 0:8], src=a)
        moving = nl.load(a)
        product = nl.ndarray((16, 8), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=product, stationary=stationary, moving=moving)
        copied = nl.ndarray((16, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=copied, src=product)
        out = nl.ndarray((rows.stop - rows.start, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=copied[rows])
        return out

    if good:
        np.testing.assert_allclose(run(kernel, DATA)[0], DATA.T @ DATA, rtol=1e-6)
    else:
        with pytest.raises(NkiValidationError, match="nc_matmul, stationary"):
            run(kernel, DATA)


def test_a_reduction_is_undefined_where_one_of_its_elements_is():
    def kernel(a):
        tile = nl.ndarray((64, 9), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile[:, 0:8], src=a)
        nisa.memset(dst=tile[0:32, 8:9], value=0.0)
        total = nl.ndarray((64, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=total, op=nl.add, data=tile, axis=1)
        out = nl.ndarray((32, 1), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=total[0:32])
        return out

    np.testing.assert_allclose(run(kernel, DATA)[0][:, 0], DATA[:32].sum(axis=1))


def padded_lanes(lanes, columns=4):
    """A tile of 128 partitions of which only some are written, by tensor_copy from another."""
    full = nl.ndarray((128, columns), dtype=nl.int32, buffer=nl.sbuf)
    nisa.memset(dst=full, value=1)
    tile = nl.ndarray((128, columns), dtype=nl.int32, buffer=nl.sbuf)
    for lane in lanes:
        nisa.dma_copy(dst=tile[lane : lane + 1], src=full[lane : lane + 1])
    return tile


def first_row_of(instruction, lanes, row):
    """A kernel whose result is one partition of what an instruction makes of a padded tile."""

    def kernel(a):
        tile = instruction(padded_lanes(lanes))
        out = nl.ndarray((1, tile.shape[1]), dtype=tile.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile[row : row + 1])
        return out

    return kernel


def shuffled(tile):
    out = nl.ndarray(tile.shape, dtype=tile.dtype, buffer=nl.sbuf)
    nisa.memset(dst=out, value=9)
    nisa.nc_stream_shuffle(dst=out, src=tile, shuffle_mask=[16, 1] + [255] * 30)
    return out


def nonzeros(tile):
    out = nl.ndarray((128, tile.shape[1] + 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.nonzero_with_count(dst=out, src=tile)
    return out


@pytest.mark.parametrize(
    ("instruction", "row", "good"),
    [(shuffled, 0, True), (shuffled, 1, False), (shuffled, 2, True), (shuffled, 32, True), (shuffled, 33, False),
     (nonzeros, 0, True), (nonzeros, 48, True), (nonzeros, 32, False)],
)  # fmt: skip
def test_partitions_that_move_take_their_marks_along(instruction, row, good):
    kernel = first_row_of(instruction, [0, 16, 48], row)
    if good:
        run(kernel, DATA)
    else:
        with pytest.raises(NkiValidationError, match="uninitialised read"):
            run(kernel, DATA)


@pytest.mark.parametrize("column", [0, 1])
def test_a_sum_over_partitions_is_undefined_only_where_a_column_is(column):
    def kernel(a):
        tile = nl.ndarray((64, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile[:, 1:8], src=a[:, 1:8])
        total = nl.ndarray((1, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_partition_reduce(dst=total, op=nl.add, data=tile)
        out = nl.ndarray((1, 1), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=total[:, column : column + 1])
        return out

    if column:
        np.testing.assert_array_equal(run(kernel, DATA)[0], [[DATA[:, 1].sum()]])
    else:
        with pytest.raises(NkiValidationError, match="uninitialised read"):
            run(kernel, DATA)


@pytest.mark.parametrize(("row", "good"), [(0, True), (2, True), (3, False), (32, True), (35, True), (64, False)])
def test_scales_of_undefined_groups_are_undefined_and_no_others(row, good):
    """Partitions 24 to 31 and 64 to 127 are not loaded: the fourth scale, and those of the upper quadrants."""

    def kernel(a):
        tile = nl.ndarray((128, 8), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile[0:24], src=a[0:24])
        nisa.dma_copy(dst=tile[32:64], src=a[32:64])
        data = nl.ndarray((128, 2), dtype=nl.float8_e4m3fn_x4, buffer=nl.sbuf)
        scale = nl.ndarray((128, 2), dtype=nl.uint8, buffer=nl.sbuf)
        nisa.quantize_mx(dst=data, src=tile, dst_scale=scale)
        out = nl.ndarray((1, 2), dtype=nl.uint8, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=scale[row : row + 1])
        return out

    given = DATA.astype(nl.bfloat16.storage)
    if good:
        assert run(kernel, given)[0].shape == (1, 2)
    else:
        with pytest.raises(NkiValidationError, match="quantize_mx, src"):
            run(kernel, given)


@pytest.mark.parametrize(("weights", "good"), [(0.0, True), (0.5, False)])
def test_undefined_rows_of_an_mx_product_do_not_matter_against_zero_weights(weights, good):
    """AWS's MX kernels quantise the rest of a tile and multiply it by zeros."""

    def kernel(a, w):
        hidden = nl.ndarray((64, 16), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.dma_copy(dst=hidden[0:32], src=a)
        other = nl.load(w)
        operands = []
        for tile in (hidden, other):
            data = nl.ndarray((64, 4), dtype=nl.float8_e4m3fn_x4, buffer=nl.sbuf)
            scale = nl.ndarray((64, 4), dtype=nl.uint8, buffer=nl.sbuf)
            nisa.quantize_mx(dst=data, src=tile, dst_scale=scale)
            operands.append((data, scale))
        product = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.psum)
        (first, first_scale), (second, second_scale) = operands
        nisa.nc_matmul_mx(
            dst=product, stationary=first, moving=second, stationary_scale=first_scale, moving_scale=second_scale
        )
        copied = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=copied, src=product)
        out = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=copied)
        return out

    a = np.ones((32, 16), nl.bfloat16.storage)
    w = np.concatenate([np.ones((32, 16)), np.full((32, 16), weights)]).astype(nl.bfloat16.storage)
    if good:
        np.testing.assert_array_equal(run(kernel, a, w)[0], np.full((4, 4), 128, np.float32))
    else:
        with pytest.raises(NkiValidationError, match="uninitialised read"):
            run(kernel, a, w)


@pytest.mark.parametrize("written", [1, 0])
def test_scales_of_a_quadrant_nobody_wrote_do_not_matter_against_zero_weights(written):
    """AWS's MoE kernels leave the scales of padded quadrants alone; without any written scale there is no operand."""

    def kernel(a, w):
        operands = []
        for given in (a, w):
            tile = nl.load(given)
            data = nl.ndarray((64, 4), dtype=nl.float8_e4m3fn_x4, buffer=nl.sbuf)
            scale = nl.ndarray((64, 4), dtype=nl.uint8, buffer=nl.sbuf)
            nisa.quantize_mx(dst=data, src=tile, dst_scale=scale)
            operands.append((data, scale))
        (first, first_scale), (second, second_scale) = operands
        partly = nl.ndarray((64, 4), dtype=nl.uint8, buffer=nl.sbuf)
        if written:
            nisa.tensor_copy(dst=partly[0:4], src=first_scale[0:4])
        product = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul_mx(
            dst=product, stationary=first, moving=second, stationary_scale=partly, moving_scale=second_scale
        )
        copied = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=copied, src=product)
        out = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=copied)
        return out

    a = np.ones((64, 16), nl.bfloat16.storage)
    w = np.concatenate([np.ones((32, 16)), np.zeros((32, 16))]).astype(nl.bfloat16.storage)
    if written:
        np.testing.assert_array_equal(run(kernel, a, w)[0], np.full((4, 4), 128, np.float32))
    else:
        with pytest.raises(NkiValidationError, match="stationary_scale: uninitialised sbuf read"):
            run(kernel, a, w)


@pytest.mark.parametrize(("affinity", "index", "good"), [(True, -1, True), (False, -1, False), (False, 3, True)])
def test_rows_skipped_by_a_gather_are_undefined_but_may_be_computed_on(affinity, index, good):
    """AWS's MoE kernels gather no row for tokens that are not routed, even where that is a whole tile."""

    def kernel(a, where):
        indices = nl.load(where)
        gathered = nl.ndarray((32, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(
            dst=gathered, oob_mode=nisa.oob_mode.skip,
            src=a.ap(pattern=[[8, 32], [1, 8]], vector_offset=indices.ap([[1, 32], [1, 1]]), indirect_dim=0),
        )  # fmt: skip
        doubled = nl.ndarray((32, 8), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=doubled, data=gathered, op0=nl.multiply, operand0=2.0)
        if affinity:
            nisa.memset(dst=doubled, value=0.0)
        out = nl.ndarray((32, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=doubled)
        return out

    a, where = np.ones((64, 8), np.float32), np.full((32, 1), index, np.int32)
    if good:
        np.testing.assert_array_equal(run(kernel, a, where)[0], np.full((32, 8), 0 if affinity else 2, np.float32))
    else:
        with pytest.raises(NkiValidationError, match="dma_copy, dst: uninitialised read, and elements of the result"):
            run(kernel, a, where)
