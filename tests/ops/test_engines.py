"""Engine times against the vendor's own formulas and curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainshed.core import Constant, UserError
from trainshed.hardware.schema import Chip
from trainshed.ops.base import Rank
from trainshed.ops.engines import Engines, whole

#: Bytes per partition of one DMA → throughput as a part of that at 32 KiB, read off AWS's DMA overview page.
SIZE_CURVE = {
    32: 0.012,
    64: 0.026,
    128: 0.050,
    256: 0.103,
    512: 0.206,
    1024: 0.422,
    2048: 0.813,
    4096: 0.966,
    8192: 0.983,
}


@pytest.fixture
def engines(v3: Chip) -> Engines:
    return Engines(rank=Rank(chip=v3))


def test_a_matmul_streams_a_column_per_cycle_and_never_less_than_64(engines: Engines) -> None:
    assert engines.tensor("bf16", 512, 1).value == pytest.approx(512 / 2.4e9)
    assert engines.tensor("bf16", 8, 1).value == pytest.approx(64 / 2.4e9)
    assert engines.tensor("fp32", 512, 1).value == pytest.approx(4 * 512 / 2.4e9)


def test_a_vector_instruction_takes_its_columns_and_about_a_hundred_cycles(engines: Engines) -> None:
    tile = 128 * 512
    assert engines.vector(tile, width=512).value == pytest.approx(512 / 0.96e9 + 104e-9)
    assert engines.vector(tile, width=512, lanes="narrow").value == pytest.approx(128 / 0.96e9 + 104e-9)
    assert engines.vector(128, width=1).value == pytest.approx(64 / 0.96e9 + 104e-9)
    assert engines.scalar(tile, width=512).value == pytest.approx(512 / 1.2e9 + 104e-9)


@pytest.mark.parametrize(("size", "fraction"), SIZE_CURVE.items())
def test_dma_rows_follow_the_published_size_curve(engines: Engines, size: int, fraction: float) -> None:
    def rate(row: float) -> float:
        engine = engines.dma(("x", 128 * row, 128)).children[0][1]
        return float(128 * row / engine.value)

    assert rate(size) / rate(32768) == pytest.approx(fraction, rel=0.2)


def test_long_rows_reach_the_slower_of_dma_engines_and_the_share_of_hbm(engines: Engines) -> None:
    cost = engines.dma(("x", 1e9, 1e9 / 8192))
    assert cost.value == pytest.approx(1e9 / (2.9e12 / 8))
    assert {child.what for _, child in cost.children} == {"DMA engines", "HBM"}


def test_cores_of_a_rank_split_the_work(v3: Chip) -> None:
    one, two = Engines(rank=Rank(chip=v3)), Engines(rank=Rank(chip=v3, cores=2))
    for cost in (lambda e: e.tensor("bf16", 1e6, 2e3), lambda e: e.vector(1e6, width=512), lambda e: e.hbm(1e6)):
        assert cost(one).value == pytest.approx(2 * cost(two).value)


def test_exponentials_move_to_vector_where_it_has_them(v3: Chip, v4: Chip) -> None:
    older = Engines(rank=Rank(chip=v3)).exponential(128 * 1200, width=1200)
    assert older.what == "ScalarE exponential"
    assert older.value == pytest.approx(1e-6 + 104e-9)
    newer = Engines(rank=Rank(chip=v4)).exponential(128 * 1200, width=1200)
    assert newer.what == "VectorE exponential"
    assert newer.value == pytest.approx(1e-6 / 4 + 104e-9)


def test_transposes_beside_other_matmuls_are_still_issued(v3: Chip, v4: Chip) -> None:
    hidden = Constant(name="hidden", value=1.0, unit="1", status="given", source="this test")
    assert v4.neuron is not None
    beside = replace(v4, neuron=replace(v4.neuron, background_transpose=hidden))
    taken, issued = (
        Engines(rank=Rank(chip=chip)).transpose("bf16", 12800, what="turned").value for chip in (v3, beside)
    )
    assert taken == pytest.approx(12800 / 2.4e9)
    assert issued == pytest.approx(100 * 64 / 2.4e9)


def test_quantising_uses_the_instruction_for_it(v3: Chip, v4: Chip) -> None:
    assert Engines(rank=Rank(chip=v4)).quantise(512 * 960, "mxfp8").value == pytest.approx(1e-6)
    assert Engines(rank=Rank(chip=v4)).quantise(512 * 960, "fp8").value > 1e-6
    assert Engines(rank=Rank(chip=v3)).quantise(512 * 960, "mxfp8").value > 1e-6


def test_products_run_in_the_next_wider_dtype_that_there_is(v3: Chip, v4: Chip) -> None:
    assert Engines(rank=Rank(chip=v3)).product("mxfp4") == "fp8"
    assert Engines(rank=Rank(chip=v3)).product("int8") == "bf16"
    assert Engines(rank=Rank(chip=v4)).product("nvfp4") == "mxfp4"
    with pytest.raises(UserError, match="unknown product dtype"):
        Engines(rank=Rank(chip=v3)).product("fp64")


def test_a_chip_without_the_data_of_its_cores_is_refused(coreless: Chip) -> None:
    with pytest.raises(UserError, match="without its engines"):
        Engines(rank=Rank(chip=coreless))


def test_whole_counts_padded_tiles() -> None:
    assert np.array_equal(whole(np.array([1, 128, 129, 0]), 128), [1, 1, 2, 0])
