"""The choice of blocks: what it covers, what fits, and which operand stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core.errors import UserError
from trainshed.kernels.blocks import blocks, turned

sizes = st.integers(1, 70_000)
DTYPES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1, "mxfp8": 4, "mxfp4": 2}
SBUF = {"trn1": 192 * 1024, "trn2": 224 * 1024, "trn3": 256 * 1024}


@given(sizes, sizes, sizes, st.sampled_from(list(DTYPES)), st.sampled_from(list(SBUF)), st.sampled_from([1, 2]))
def test_blocks_cover_the_product_and_fit(m, k, n, dtype, target, cores):
    cut = blocks(m, k, n, dtype, target, cores)
    packed = 4 if dtype.startswith("mx") else 1
    covered = (cut.depth * cut.steps + cut.rest) * packed
    assert covered == k if packed == 1 else k <= covered < k + 128 * cut.steps
    assert 1 <= cut.depth <= 128
    assert cut.depth + (cut.rest > 0) <= 128
    assert cut.rest < cut.steps
    assert cut.rows <= 1024
    assert cut.rows == m or cut.rows % 128 == 0
    assert cut.width <= 512
    assert cut.columns % cores == 0
    assert n <= cut.columns * cut.width < n + cut.columns
    assert cut.steps % cut.pair == cut.x_steps % cut.pair == cut.w_steps % cut.pair == 0
    wide, out_size = cut.width * DTYPES[dtype], max(DTYPES[dtype] // packed, 2)
    x_row = (cut.steps if cut.x_stays else 2 * cut.x_steps) * cut.rows * DTYPES[dtype]
    w_row = (cut.steps * cut.columns // cores if cut.w_stays else 2 * cut.w_steps) * wide
    out = 2 * -(-cut.rows // 128) * cut.stored * cut.width * out_size
    assert x_row + w_row + out <= SBUF[target]
    assert not cut.apart or cut.x_stays
    assert not cut.apart or x_row + 2 * cut.steps * wide + out <= SBUF[target]


@given(sizes, sizes, st.sampled_from(list(DTYPES)))
def test_what_a_layout_rests_on_is_the_same_on_all_generations(k, n, dtype):
    kept = {(b.width, b.columns) for b in (blocks(1, k, n, dtype, target) for target in SBUF)}
    assert len(kept) == 1


def test_tiles_of_k_are_even():
    cut = blocks(1, 300, 512, "bf16", "trn2")
    assert (cut.steps, cut.depth, cut.rest, cut.pair) == (3, 100, 0, 1)
    assert (blocks(1, 257, 1, "bf16", "trn2").depth, blocks(1, 257, 1, "bf16", "trn2").rest) == (85, 2)
    assert (blocks(1, 300, 1, "fp8", "trn2").steps, blocks(1, 300, 1, "fp8", "trn1").steps) == (4, 3)
    mx = blocks(1, 600, 512, "mxfp8", "trn3")
    assert (mx.steps, mx.depth) == (2, 96)


def test_what_stays_on_chip():
    square = blocks(4096, 4096, 4096, "bf16", "trn2")
    assert (square.rows, square.x_stays, square.w_stays) == (1024, True, False)
    deep = blocks(4096, 53248, 4096, "bf16", "trn2")
    assert (deep.rows, deep.x_stays) == (1024, False)
    narrow = blocks(65536, 1024, 512, "bf16", "trn2")
    assert narrow.w_stays
    assert not blocks(1024, 1024, 512, "bf16", "trn2").w_stays, "one block of rows reads w once anyway"
    assert blocks(1, 53248, 4096, "bf16", "trn1").x_stays


def test_double_rows_from_the_second_generation_of_training_chips_on():
    pairs = {target: blocks(128, 512, 512, "fp8", target).pair for target in SBUF}
    assert pairs == {"trn1": 1, "trn2": 2, "trn3": 2}


def test_operands_are_exchanged_where_rows_fill_their_tiles_badly():
    assert turned(192, 4096, "bf16")
    assert turned(64, 2048, "fp32")
    assert not turned(64, 2048, "bf16"), "weights come too slowly for TensorE to matter"
    assert not turned(2048, 4096, "bf16")
    assert not turned(4096, 192, "bf16"), "it is exchanged already"
    assert not turned(4096, 16, "bf16"), "short matmuls take as long as those of 64 columns"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 1, "bf16", "trn2"), "kernels.blocks: m: 0; expected at least 1"),
        ((1, 1, 1, "int3", "trn2"), "unknown dtype: 'int3'"),
        ((1, 1, 1, "bf16", "h100-sxm"), "chip: 'h100-sxm'; expected one of NeuronCores"),
    ],
)
def test_bad_sizes_dtypes_and_chips(arguments, message):
    with pytest.raises(UserError, match=message):
        blocks(*arguments)
