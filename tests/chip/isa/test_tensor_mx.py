"""Matmuls of MX operands and quantize_mx, against loops over scale groups; where scales lie; the rules."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from trainshed.chip.call import Call
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.quantize import quantize_mx
from trainshed.chip.isa.tensor import nc_matmul_mx
from trainshed.chip.words import engine

Array = np.ndarray[Any, Any]
FORMATS = {
    "float8_e4m3fn_x4": (ml_dtypes.float8_e4m3fn, np.uint32), "float8_e5m2_x4": (ml_dtypes.float8_e5m2, np.uint32),
    "float4_e2m1fn_x4": (ml_dtypes.float4_e2m1fn, np.uint16),
}  # fmt: skip


def _mx(name: str, partitions: int, free: int, seed: int) -> tuple[Array, Array, Array]:
    """Random containers ``[P, F]``, scale bytes ``[P / 8, F]`` and the float64 values ``[P, F, 4]`` they mean."""
    random = np.random.default_rng(seed)
    kind, word = FORMATS[name]
    elements = random.choice([-6, -3, -1.5, -1, 0, 0.5, 1, 2, 4], (partitions, free, 4)).astype(kind)
    scales = random.integers(120, 134, (partitions // 8, free), np.uint8)
    width = 8 * np.dtype(word).itemsize // 4
    bits = elements.view(np.uint8).astype(np.uint64) & (2**width - 1)
    containers = sum(bits[..., i] << np.uint64(width * i) for i in range(4)).astype(word)
    wide = elements.astype(np.float64)
    for group in range(partitions // 8):
        wide[8 * group : 8 * group + 8] *= np.exp2(scales[group].astype(np.float64) - 127)[None, :, None]
    return containers, scales, wide


def _placed(scales: Array, offset: int = 0) -> tuple[Array, Array]:
    """Scale bytes on the rows of a 128-row tile where the hardware reads them, and those rows."""
    rows = np.array([32 * (g // 4) + g % 4 + offset for g in range(scales.shape[0])])
    held = np.full((128, scales.shape[1]), 255, np.uint8)
    held[rows] = scales
    return held, rows


def _close(got: Array, expected: Array, most: float = 1e-6) -> None:
    """Equal but for the rounding of a sum of 512 products in float32."""
    assert np.abs(got - expected).max() <= most * np.abs(expected).max()


def _rule(run: Any) -> str:
    with pytest.raises(NkiValidationError) as error:
        run()
    return error.value.rule


@pytest.mark.parametrize("dst_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scale_dtype", ["uint8", "float8_e8m0fnu"])
@pytest.mark.parametrize("left", FORMATS)
@pytest.mark.parametrize("right", FORMATS)
def test_any_mix_of_formats(core, tile, empty, values, left, right, scale_dtype, dst_dtype):
    first, first_scales, first_values = _mx(left, 128, 16, 0)
    second, second_scales, second_values = _mx(right, 128, 24, 1)
    scales = [
        tile(_placed(s)[0].view(ml_dtypes.float8_e8m0fnu if scale_dtype != "uint8" else np.uint8), scale_dtype)
        for s in (first_scales, second_scales)
    ]
    dst = empty((16, 24), dst_dtype, "psum")
    record = nc_matmul_mx(dst, tile(first, left), tile(second, right), *scales)
    expected = np.einsum("pmi,pni->mn", first_values, second_values)
    got = values(dst)
    if dst_dtype == "bfloat16":
        _close(got.astype(np.float64), expected, 2**-8)
    else:
        _close(got, expected)
    assert record.engine is engine.tensor
    assert record.work == {"rows": 16, "columns": 24, "depth": 512, "macs": 512 * 16 * 24}


@pytest.mark.parametrize("partitions", [32, 64, 96, 128])
@pytest.mark.parametrize("offset", [0, 4, 8, 12])
def test_scales_are_read_four_rows_to_a_quadrant_from_their_offset(core, tile, empty, values, partitions, offset):
    name = "float8_e4m3fn_x4"
    first, first_scales, first_values = _mx(name, partitions, 8, 2)
    second, second_scales, second_values = _mx(name, partitions, 8, 3)
    held = empty((128, 8), "uint8")
    for row, group in zip(_placed(first_scales, offset)[1], first_scales, strict=True):
        Call("test").write("scales", held[int(row) : int(row) + 1], group[None])
    dst = empty((8, 8), buffer="psum")
    moving_scale = tile(_placed(second_scales)[0])
    nc_matmul_mx(dst, tile(first, name), tile(second, name), held[offset:], moving_scale)
    _close(values(dst), np.einsum("pmi,pni->mn", first_values, second_values))


def test_small_scale_tiles_and_row_tiles_and_accumulation(core, tile, empty, values):
    name = "float8_e5m2_x4"
    total = np.zeros((8, 6))
    dst = empty((8, 6), buffer="psum")
    for seed, row in enumerate((0, 32, 64)):
        first, first_scales, first_values = _mx(name, 32, 8, seed)
        second, second_scales, second_values = _mx(name, 32, 6, seed + 9)
        operands = tile(first, name), tile(second, name), tile(first_scales), tile(second_scales)
        nc_matmul_mx(dst, *operands, tile_position=(row, 0), tile_size=(32, 128))
        total += np.einsum("pmi,pni->mn", first_values, second_values)
        _close(values(dst), total)
    nc_matmul_mx(dst, *operands, accumulate=False)
    _close(values(dst), np.einsum("pmi,pni->mn", first_values, second_values))


def test_rules_of_mx_matmuls(make_core, empty):
    make_core("trn3", values=False)

    def operands(partitions=32, rows=8, columns=8, dtype="float8_e4m3fn_x4", dst="float32", scale="uint8", **tiles):
        return lambda: nc_matmul_mx(
            empty((rows, columns), dst, "psum"), empty((partitions, rows), dtype), empty((partitions, columns), dtype),
            empty((128, rows), scale), empty((128, columns), scale), **tiles,
        )  # fmt: skip

    operands()()
    operands(columns=4096)()
    assert _rule(operands(partitions=16)) == "mx-layout"
    assert _rule(operands(rows=7)) == "matmul-size"
    assert _rule(operands(dtype="float8_e4m3")) == "matmul-dtype"
    assert _rule(operands(dst="float16")) == "matmul-dtype"
    assert _rule(operands(scale="int8")) == "dtype"
    assert _rule(operands(tile_position=(0, 32), tile_size=(32, 32))) == "matmul-tile"
    dst, data, scale = empty((8, 8), buffer="psum"), empty((64, 8), "float8_e4m3fn_x4"), empty((128, 8), "uint8")
    assert _rule(lambda: nc_matmul_mx(dst, data, data, scale[0:8], scale)) == "mx-scale"
    assert _rule(lambda: nc_matmul_mx(dst, data, data, scale[0:, 0:4], scale)) == "mx-scale"
    assert _rule(lambda: nc_matmul_mx(dst, data, data, scale[2:], scale)) == "start-partition"
    make_core("trn2", values=False)
    assert _rule(operands()) == "generation"


@pytest.mark.parametrize("rule", ["0.4", "0.5"])
@pytest.mark.parametrize("source", ["bfloat16", "float16"])
@pytest.mark.parametrize(("name", "largest", "most"), [("float8_e4m3fn_x4", 8, 448.0), ("float8_e5m2_x4", 15, 57344.0)])
@pytest.mark.parametrize("partitions", [32, 128])
def test_quantize_mx_group_by_group(make_core, tile, empty, values, rule, source, name, largest, most, partitions):
    make_core("trn3", quantize_rule=rule)
    random = np.random.default_rng(partitions)
    kind = ml_dtypes.bfloat16 if source == "bfloat16" else np.float16
    data = (random.normal(size=(partitions, 24)) * np.exp2(random.integers(-6, 6, (partitions, 24)))).astype(kind)
    data[0:8, 0:4] = 0
    dst, scale = empty((partitions, 6), name), empty((partitions if partitions > 32 else 4, 6), "uint8")
    record = quantize_mx(dst, tile(data), scale)
    assert (record.engine, record.work) == (engine.vector, {"elements": 24})
    got = values(dst).view(FORMATS[name][0]).reshape(partitions, 24)
    for group in range(partitions // 8):
        row = 32 * (group // 4) + group % 4
        stored = values(scale[row : row + 1])[0]
        for column in range(6):
            block = data[8 * group : 8 * group + 8, 4 * column : 4 * column + 4].astype(np.float64)
            amax = np.abs(block).max()
            exponent = int(np.floor(np.log2(amax))) - largest + (rule == "0.5") if amax else -127
            assert stored[column] == exponent + 127
            expected = np.clip(block / 2.0**exponent, -most, most).astype(np.float32).astype(FORMATS[name][0])
            held = got[8 * group : 8 * group + 8, 4 * column : 4 * column + 4]
            assert np.array_equal(held.view(np.uint8), expected.view(np.uint8))


def test_scales_of_four_tensors_share_a_tile(core, tile, empty, values):
    shared = empty((128, 16), "float8_e8m0fnu")
    parts = []
    for i in range(4):
        data = (np.random.default_rng(i).normal(size=(128, 64)) * 2.0 ** (3 * i)).astype(ml_dtypes.bfloat16)
        dst = empty((128, 16), "float8_e4m3fn_x4")
        quantize_mx(dst, tile(data), shared[4 * i :])
        parts.append((data.astype(np.float64).reshape(128, 16, 4), dst))
    for i in (0, 3):
        other = (i + 1) % 4
        psum = empty((16, 16), buffer="psum")
        nc_matmul_mx(psum, parts[i][1], parts[other][1], shared[4 * i :], shared[4 * other :])
        expected = np.einsum("pmi,pni->mn", parts[i][0], parts[other][0])
        assert np.abs(values(psum) - expected).max() < 0.05 * np.abs(expected).max()
    used = values(shared).view(np.uint8).any(axis=1)
    assert np.flatnonzero(used).tolist() == [32 * q + r for q in range(4) for r in range(16)]


def test_rules_of_quantize_mx(make_core, empty):
    make_core("trn3", values=False)
    good = {"dst": ((64, 4), "float8_e4m3fn_x4"), "src": ((64, 16), "bfloat16"), "dst_scale": ((64, 4), "uint8")}

    def run(**changed):
        return lambda: quantize_mx(**{name: empty(*spec) for name, spec in {**good, **changed}.items()})

    run()()
    for changed, rule in (
        ({"src": ((64, 16), "float32")}, "dtype"),
        ({"dst": ((64, 4), "float4_e2m1fn_x4")}, "dtype"),
        ({"dst_scale": ((64, 4), "int32")}, "dtype"),
        ({"src": ((64, 18), "bfloat16")}, "mx-layout"),
        ({"src": ((48, 16), "bfloat16")}, "mx-layout"),
        ({"dst": ((64, 8), "float8_e5m2_x4")}, "shape"),
        ({"dst_scale": ((8, 4), "uint8")}, "mx-scale"),
        ({"src": ((64, 16), "bfloat16", "psum")}, "memory"),
    ):
        assert _rule(run(**changed)) == rule
    make_core("trn2", values=False)
    assert _rule(run()) == "generation"
