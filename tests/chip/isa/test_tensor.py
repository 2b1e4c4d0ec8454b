"""TensorE against NumPy's products in float64, over dtypes, shapes, generations, and the rules of its pages."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.chip.core import NeuronCore, Options, enter, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.move import memset
from trainshed.chip.isa.tensor import nc_matmul, nc_transpose
from trainshed.chip.words import engine, matmul_perf_mode
from trainshed.numerics.formats import DTYPES

FLOATS = ["float8_e4m3", "float8_e5m2", "float8_e4m3fn", "bfloat16", "float16"]
WIDE = ["float32", "tfloat32"]
double_row = matmul_perf_mode.double_row


def _numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Small integers, exact in every format."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def _rule(run: Any) -> str:
    with pytest.raises(NkiValidationError) as error:
        run()
    return error.value.rule


def _pairs() -> list[tuple[str, str]]:
    legal = [(a, b) for a in FLOATS for b in FLOATS if {a, b} != {"float8_e4m3", "float8_e4m3fn"}]
    return legal + [(a, b) for a in WIDE for b in WIDE]


@pytest.mark.parametrize("pair", _pairs(), ids="-".join)
def test_product_of_every_pair_of_formats(core, tile, empty, values, pair):
    stationary, moving = _numbers(128, 24), _numbers(128, 40, seed=1)
    dst = empty((24, 40), buffer="psum")
    record = nc_matmul(dst, tile(stationary, pair[0]), tile(moving, pair[1]))
    assert np.array_equal(values(dst), stationary.T.astype(np.float64) @ moving)
    assert (record.engine, record.work) == (
        engine.tensor, {"rows": 24, "columns": 40, "depth": 128, "macs": 24 * 40 * 128},
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 1, 1), (128, 128, 512), (32, 1, 512), (7, 128, 3), (64, 65, 66)])
@pytest.mark.parametrize("chip", ["trn1", "trn2", "trn3"])
def test_shapes(make_core, tile, empty, values, chip, shape):
    make_core(chip)
    depth, rows, columns = shape
    stationary, moving = _numbers(depth, rows), _numbers(depth, columns, seed=1)
    dst = empty((rows, columns), buffer="psum")
    nc_matmul(dst, tile(stationary, "bfloat16"), tile(moving, "bfloat16"))
    assert np.array_equal(values(dst), stationary.T @ moving)


def test_the_products_are_accumulated_in_float32(core, tile, empty, values):
    random = np.random.default_rng(5)
    stationary, moving = (random.normal(size=(128, n)).astype(ml_dtypes.bfloat16) for n in (16, 32))
    dst = empty((16, 32), buffer="psum")
    nc_matmul(dst, tile(stationary), tile(moving))
    expected = stationary.astype(np.float64).T @ moving.astype(np.float64)
    assert np.allclose(values(dst), expected, rtol=0, atol=3e-6 * np.abs(expected).max())


def test_free_patterns_of_several_dimensions(core, tile, empty, values):
    stationary, moving = _numbers(64, 2, 3, 4), _numbers(64, 5, 6, seed=1)
    held = empty((24, 2, 6, 5), buffer="psum")
    dst = held[:, 1].permute((0, 2, 1))
    left = tile(stationary).permute((0, 3, 2, 1))
    nc_matmul(dst, left, tile(moving))
    expected = stationary.transpose(0, 3, 2, 1).reshape(64, 24).T @ moving.reshape(64, 30)
    assert np.array_equal(values(dst), expected.reshape(24, 5, 6))


def test_strided_and_sliced_operands(core, tile, empty, values):
    stationary, moving = _numbers(96, 40), _numbers(96, 50, seed=1)
    dst = empty((128, 64), buffer="psum")[32:52, 8:33]
    nc_matmul(dst, tile(stationary)[0:96, 0:40:2], tile(moving)[0:96, 0:50:2])
    assert np.array_equal(values(dst), stationary[:, ::2].T @ moving[:, ::2])


# --- accumulation ---------------------------------------------------------------------------------------------


def test_by_default_the_first_product_overwrites_and_later_ones_add(core, tile, empty, values):
    stationary, moving = tile(_numbers(128, 8)), tile(_numbers(128, 16, seed=1))
    product = _numbers(128, 8).T @ _numbers(128, 16, seed=1)
    dst = empty((8, 16), buffer="psum")
    for count in (1, 2, 3):
        nc_matmul(dst, stationary, moving)
        assert np.array_equal(values(dst), count * product)
    nc_matmul(dst, stationary, moving, accumulate=False)
    assert np.array_equal(values(dst), product)
    nc_matmul(dst, stationary, moving, accumulate=True)
    assert np.array_equal(values(dst), 2 * product)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), min_size=1, max_size=8))
def test_overlapping_products_add_where_they_meet(spans):
    from trainshed.chip.call import Call
    from trainshed.chip.words import MemoryRegion

    core = NeuronCore(target("trn3"), Options())
    before = enter(core)
    try:

        def sbuf(data):
            tensor = core.allocate(data.shape, DTYPES["float32"], MemoryRegion.sbuf)
            Call("test").write("values", tensor, data)
            return tensor

        dst = core.allocate((4, 18), DTYPES["float32"], MemoryRegion.psum)
        expected, seen = np.zeros((4, 18), np.float32), np.zeros(18, bool)
        for i, (start, size) in enumerate(spans):
            stationary, moving = _numbers(32, 4, seed=i), _numbers(32, size, seed=i + 50)
            nc_matmul(dst[:, start : start + size], sbuf(stationary), sbuf(moving))
            expected[:, start : start + size] += stationary.T @ moving
            seen[start : start + size] = True
        for column in np.flatnonzero(seen):
            got = Call("test").read("dst", dst[:, int(column) : int(column) + 1])
            assert np.array_equal(got[:, 0], expected[:, column])
    finally:
        enter(before)


def test_adding_onto_what_was_never_written_is_an_error(core, tile, empty):
    stationary, moving = tile(_numbers(32, 4)), tile(_numbers(32, 8))
    dst = empty((4, 8), buffer="psum")
    assert _rule(lambda: nc_matmul(dst, stationary, moving, accumulate=True)) == "psum-accumulate"
    nc_matmul(dst[:, 0:4], stationary, moving[:, 0:4])
    assert _rule(lambda: nc_matmul(dst, stationary, moving, accumulate=True)) == "psum-accumulate"


def test_onto_memory_that_memset_wrote(make_core, tile, empty, values):
    product = _numbers(32, 4).T @ _numbers(32, 8, seed=1)
    for chip, asked in (("trn3", None), ("trn3", True), ("trn2", None)):
        core = make_core(chip)
        dst = empty((4, 8), buffer="psum")
        memset(dst, 3.0)
        nc_matmul(dst, tile(_numbers(32, 4)), tile(_numbers(32, 8, seed=1)), accumulate=asked)
        assert np.array_equal(values(dst), product + 3)
        assert [f.rule for f in core.findings] == (["psum-value-init"] if chip == "trn2" else [])
    make_core("trn2")
    dst = empty((4, 8), buffer="psum")
    memset(dst, 0.0)
    stationary, moving = tile(_numbers(32, 4)), tile(_numbers(32, 8))
    assert _rule(lambda: nc_matmul(dst, stationary, moving, accumulate=True)) == "psum-accumulate"


def test_bfloat16_psum_adds_in_float32_and_rounds_each_time(core, tile, empty, values):
    random = np.random.default_rng(2)
    parts = [tuple(random.normal(size=(32, n)).astype(ml_dtypes.bfloat16) for n in (8, 16)) for _ in range(3)]
    dst = empty((8, 16), "bfloat16", "psum")
    expected = np.zeros((8, 16), ml_dtypes.bfloat16)
    for stationary, moving in parts:
        nc_matmul(dst, tile(stationary), tile(moving))
        total = stationary.astype(np.float32).T @ moving.astype(np.float32) + expected.astype(np.float32)
        expected = total.astype(ml_dtypes.bfloat16)
    assert np.array_equal(values(dst), expected)


def test_without_values_the_record_says_the_same(make_core, empty):
    make_core("trn3", values=False)
    dst = empty((4, 8), buffer="psum")
    said = [
        nc_matmul(dst, empty((32, 4)), empty((32, 8)), accumulate=asked).attributes["accumulate"]
        for asked in (None, None, False, True)
    ]
    assert said == ["False", "True", "False", "True"]


# --- modes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [double_row, "double_row"])
@pytest.mark.parametrize("pair", [("float8_e4m3", "float8_e5m2"), ("float8_e4m3fn", "float8_e4m3fn")])
def test_double_row_contracts_two_rows_of_each_partition(core, tile, empty, values, pair, mode):
    stationary, moving = _numbers(128, 2, 24), _numbers(128, 2, 40, seed=1)
    dst = empty((24, 40), buffer="psum")
    record = nc_matmul(dst, tile(stationary, pair[0]), tile(moving, pair[1]), perf_mode=mode)
    assert np.array_equal(values(dst), np.einsum("ktm,ktn->mn", stationary, moving))
    assert record.work["depth"] == 256
    assert record.attributes["perf_mode"] == "double_row"


def test_rules_of_double_row(make_core, tile, empty):
    make_core("trn3")
    dst = empty((8, 8), buffer="psum")
    narrow = tile(_numbers(32, 2, 8), "float8_e4m3")
    short, three = tile(_numbers(32, 8), "float8_e4m3"), tile(_numbers(32, 3, 8), "float8_e4m3")
    wide = tile(_numbers(32, 2, 8), "bfloat16")
    assert _rule(lambda: nc_matmul(dst, short, narrow, perf_mode=double_row)) == "matmul-size"
    assert _rule(lambda: nc_matmul(dst, narrow, three, perf_mode=double_row)) == "matmul-size"
    assert _rule(lambda: nc_matmul(dst, wide, narrow, perf_mode=double_row)) == "matmul-dtype"
    assert _rule(lambda: nc_matmul(dst, narrow, narrow, perf_mode=double_row, is_transpose=True)) == "perf-mode"
    assert _rule(lambda: nc_matmul(dst, narrow, narrow, perf_mode="quad_row")) == "perf-mode"
    tiled = {"perf_mode": double_row, "tile_position": (0, 32), "tile_size": (32, 32)}
    assert _rule(lambda: nc_matmul(dst, narrow, narrow, **tiled)) == "matmul-tile"
    make_core("trn1")
    narrow, dst = tile(_numbers(32, 2, 8), "float8_e4m3"), empty((8, 8), buffer="psum")
    assert _rule(lambda: nc_matmul(dst, narrow, narrow, perf_mode=double_row)) == "generation"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e5m2"])
def test_transpose_mode_passes_every_bit(core, tile, empty, values, dtype):
    kind = DTYPES[dtype].storage
    raw = np.random.default_rng(0).integers(0, 256, (64, 24 * kind.itemsize), np.uint8)
    data = raw.view(kind)
    dst = empty((24, 64), dtype, "psum")
    nc_matmul(dst, tile(data), tile(np.eye(64, dtype=kind)), is_transpose=True)
    assert np.array_equal(values(dst).view(np.uint8), np.ascontiguousarray(data.T).view(np.uint8))


def test_transpose_mode_follows_a_permutation(core, tile, empty, values):
    data, order = _numbers(16, 8), np.random.default_rng(0).permutation(16)
    dst = empty((8, 16), buffer="psum")
    nc_matmul(dst, tile(data), tile(np.eye(16, dtype=np.float32)[:, order]), is_transpose=True)
    assert np.array_equal(values(dst), data.T[:, order])


def test_transposed_fp8_in_sixteen_bits(core, tile, empty, values):
    data = np.arange(96, dtype=np.uint8).reshape(32, 3).view(ml_dtypes.float8_e4m3)
    dst = empty((3, 32), "uint16", "psum")
    nc_transpose(dst, tile(data), engine=engine.tensor)
    assert np.array_equal(values(dst), data.view(np.uint8).T.astype(np.uint16))


def test_the_oldest_generation_multiplies_to_transpose(make_core, tile, empty, values):
    make_core("trn1")
    data = _numbers(32, 4)
    data[3, 1], data[5, 2], data[6, 2] = np.nan, np.inf, -np.inf
    by_product, by_transpose = empty((4, 32), buffer="psum"), empty((4, 32), buffer="psum")
    nc_matmul(by_product, tile(data), tile(np.eye(32, dtype=np.float32)), is_transpose=True)
    nc_transpose(by_transpose, tile(data), engine=engine.tensor)
    for dst in (by_product, by_transpose):
        got = values(dst)
        assert np.array_equal(got[[0, 3]], data.T[[0, 3]])
        assert np.isnan(got[[1, 2]]).all()


def test_column_tiles_are_products_of_their_own(core, tile, empty, values):
    moving = _numbers(128, 16, seed=9)
    dst = empty((128, 16), buffer="psum")
    for column in range(4):
        part = dst[32 * column : 32 * column + 20]
        nc_matmul(part, tile(_numbers(128, 20, seed=column)), tile(moving),
                  tile_position=(0, 32 * column), tile_size=(128, 32))  # fmt: skip
        assert np.array_equal(values(part), _numbers(128, 20, seed=column).T @ moving)


@pytest.mark.parametrize(
    ("chip", "position", "size", "good"),
    [("trn1", (64, 0), (64, 128), True), ("trn1", (32, 0), (32, 128), False), ("trn2", (96, 64), (32, 64), True),
     ("trn3", (0, 0), (48, 128), False), ("trn3", (32, 0), (64, 128), False), ("trn3", (128, 0), (32, 128), False),
     ("trn3", (0, 0), (32, 32), True), ("trn3", (0, 0), (), False), ("trn3", (), (32, 32), False)],
)  # fmt: skip
def test_tiles_of_the_array(make_core, tile, empty, chip, position, size, good):
    make_core(chip)
    dst, stationary, moving = empty((16, 8), buffer="psum"), tile(_numbers(32, 16)), tile(_numbers(32, 8))
    run = lambda: nc_matmul(dst, stationary, moving, tile_position=position, tile_size=size)  # noqa: E731
    if good:
        assert run().attributes["tile_position"] == position
    else:
        assert _rule(run) == "matmul-tile"


def test_stationary_is_no_larger_than_its_tile(core, tile, empty):
    dst, stationary, moving = empty((40, 8), buffer="psum"), tile(_numbers(64, 40)), tile(_numbers(64, 8))
    for size in ((32, 128), (64, 32)):
        assert _rule(lambda s=size: nc_matmul(dst, stationary, moving, tile_position=(0, 0), tile_size=s)) == (
            "matmul-tile"
        )


# --- what is legal --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chip", "pair", "dst", "rule"),
    [("trn3", ("float32", "bfloat16"), "float32", "matmul-dtype"),
     ("trn3", ("bfloat16", "tfloat32"), "float32", "matmul-dtype"),
     ("trn3", ("float8_e4m3", "float8_e4m3fn"), "float32", "matmul-dtype"),
     ("trn3", ("int32", "int32"), "float32", "matmul-dtype"),
     ("trn2", ("float8_e4m3fn", "bfloat16"), "float32", "generation"),
     ("trn2", ("bfloat16", "bfloat16"), "bfloat16", "matmul-dtype"),
     ("trn3", ("bfloat16", "bfloat16"), "float16", "matmul-dtype")],
)  # fmt: skip
def test_rules_of_formats(make_core, empty, chip, pair, dst, rule):
    make_core(chip, values=False)
    operands = empty((4, 8), dst, "psum"), empty((32, 4), pair[0]), empty((32, 8), pair[1])
    assert _rule(lambda: nc_matmul(*operands)) == rule


@pytest.mark.parametrize(
    ("chip", "columns", "dst", "good"),
    [("trn1", 512, "float32", True), ("trn2", 513, "float32", False), ("trn3", 4096, "float32", True),
     ("trn3", 4096, "bfloat16", True)],
)  # fmt: skip
def test_columns_of_a_generation(make_core, empty, chip, columns, dst, good):
    make_core(chip, values=False)
    operands = empty((4, columns), dst, "psum"), empty((32, 4), "bfloat16"), empty((32, columns), "bfloat16")
    if good:
        assert nc_matmul(*operands).work["columns"] == columns
    else:
        assert _rule(lambda: nc_matmul(*operands)) == "matmul-size"


def test_a_product_lies_in_one_bank_before_the_newest_generation(make_core, empty):
    for chip in ("trn2", "trn3"):
        make_core(chip, values=False)
        dst, stationary, moving = empty((4, 1024), buffer="psum"), empty((32, 4)), empty((32, 256))
        nc_matmul(dst[:, 256:512], stationary, moving)
        across = dst[:, 400:656]
        if chip == "trn2":
            assert _rule(lambda d=across, s=stationary, m=moving: nc_matmul(d, s, m)) == "psum-bank"
        else:
            nc_matmul(across, stationary, moving)


def test_rules_of_shape_and_memory(core, empty):
    dst, stationary, moving = empty((4, 8), buffer="psum"), empty((32, 4)), empty((32, 8))
    for operands, rule in (
        ((empty((4, 8)), stationary, moving), "memory"),
        ((dst, empty((32, 4), buffer="psum"), moving), "memory"),
        ((dst, stationary, empty((64, 8))), "shape"),
        ((empty((8, 8), buffer="psum"), stationary, moving), "shape"),
        ((dst, empty((32, 130)), moving), "matmul-size"),
        ((dst, np.zeros((32, 4)), moving), "operand"),
    ):
        assert _rule(lambda o=operands: nc_matmul(*o)) == rule


def test_operands_never_written(core, tile, empty):
    dst, moving = empty((4, 8), buffer="psum"), tile(_numbers(32, 8))
    assert _rule(lambda: nc_matmul(dst, empty((32, 4)), moving)) == "uninitialised-read"


# --- indirection ----------------------------------------------------------------------------------------------


def test_indirect_operands_gather_and_scatter_columns(core, tile, empty, values):
    random = np.random.default_rng(4)
    offsets = np.array([random.permutation(32) for _ in range(4)])
    order = offsets.reshape(4, 32)
    index = tile(order.reshape(128, 1).astype(np.uint16))
    data, moving = _numbers(128, 32), _numbers(128, 8, seed=1)
    dst = empty((32, 8), buffer="psum")
    nc_matmul(dst, tile(data, "bfloat16").indirect(index, 32), tile(moving, "bfloat16"))
    picked = np.concatenate([data[32 * g : 32 * g + 32][:, order[g]] for g in range(4)])
    assert np.array_equal(values(dst), picked.T @ moving)

    where = tile(np.array(random.permutation(32), np.uint16).reshape(32, 1))
    held = empty((32, 32), "bfloat16", "psum")
    stationary, wide = tile(_numbers(32, 32), "bfloat16"), tile(_numbers(32, 32, seed=1), "bfloat16")
    product = _numbers(32, 32).T @ _numbers(32, 32, seed=1)
    for count in (1, 2):
        nc_matmul(held.indirect(where, 32), stationary, wide)
        columns = where.storage.data.view(np.uint16)
        assert np.array_equal(values(held)[:, columns].astype(np.float32), count * product)
    tiled = {"tile_position": (32, 0), "tile_size": (32, 128)}
    assert _rule(lambda: nc_matmul(held.indirect(where, 32), stationary, wide, **tiled)) == "matmul-tile"


# --- nc_transpose ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3", "int32", "uint8"])
@pytest.mark.parametrize(("on", "shape"), [(engine.tensor, (128, 64)), (engine.tensor, (1, 128)),
                                           (engine.vector, (32, 2)), (engine.unknown, (128, 128))])  # fmt: skip
def test_transpose(core, tile, empty, values, dtype, on, shape):
    data = np.random.default_rng(0).integers(0, 100, shape).astype(DTYPES[dtype].storage)
    dst = empty(shape[::-1], dtype, "psum" if on is not engine.vector else "sbuf")
    record = nc_transpose(dst, tile(data), engine=on)
    assert np.array_equal(values(dst), data.T)
    assert record.engine is (engine.tensor if on is engine.unknown else on)


def test_transpose_flattens_and_strides(core, tile, empty, values):
    data = _numbers(16, 3, 4)
    held = empty((12, 32), buffer="psum")
    nc_transpose(held[:, 1:32:2], tile(data))
    assert np.array_equal(values(held[:, 1:32:2]), data.reshape(16, 12).T)


def test_rules_of_transpose(core, empty):
    for dst, data, on, rule in (
        (empty((8, 33)), empty((33, 8)), engine.vector, "transpose-size"),
        (empty((64, 64)), empty((64, 64)), engine.unknown, "transpose-size"),
        (empty((8, 16)), empty((16, 8)), engine.tensor, "memory"),
        (empty((8, 16), buffer="psum"), empty((16, 8), "bfloat16"), engine.tensor, "dtype"),
        (empty((8, 8), buffer="psum"), empty((16, 8)), engine.tensor, "shape"),
        (empty((8, 16), buffer="psum"), empty((16, 8)), engine.scalar, "engine"),
    ):
        assert _rule(lambda d=dst, s=data, e=on: nc_transpose(d, s, engine=e)) == rule
