"""Traffic of blocked products against the kernels' loops, counted one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.hardware.schema import Chip
from trainshed.ops.base import Rank, Tiles
from trainshed.ops.engines import Engines
from trainshed.ops.tiles import chosen
from trainshed.ops.tiles import given as traffic_of

BF16 = (2.0, 2.0, 2.0)


def loops(m: int, k: int, n: int, tiles: Tiles) -> dict[str, int]:
    """AWS's nki_matmul_fully_optimized, its DMAs and PSUM evictions counted: 128 rows a DMA."""
    count = {"read": 0, "weights": 0, "written": 0, "x": 0, "w": 0, "y": 0, "evicted": 0}
    bm, bn, bk = int(tiles.m), int(tiles.n), int(tiles.k)
    for _ in range(n // bn):
        for _ in range(k // bk):
            for _ in range(bk // 128):
                count["w"] += 128
                count["weights"] += 128 * bn * 2
            for _ in range(m // bm):
                for _ in range(bk // 128):
                    count["x"] += 128
                    count["read"] += 128 * bm * 2
                for _, _ in product(range(bn // 512), range(bm // 128)):
                    count["evicted"] += 128 * 512
        for _ in range(m // 128):
            count["y"] += 128
            count["written"] += 128 * bn * 2
    return count


@pytest.mark.parametrize(("tm", "tn", "tk"), [(1, 1, 1), (2, 6, 8), (1, 12, 4), (2, 3, 32)])
def test_given_blocks_move_what_the_tutorial_kernel_moves(v3: Chip, tm: int, tn: int, tk: int) -> None:
    m, k, n, tiles = 256, 4096, 6144, Tiles(m=128 * tm, n=512 * tn, k=128 * tk)
    told, counted = traffic_of(Engines(rank=Rank(chip=v3)), tiles, m, k, n, BF16), loops(m, k, n, tiles)
    assert (told.read, told.weights, told.written) == (counted["read"], counted["weights"], counted["written"])
    assert told.rows == (counted["x"], counted["w"], counted["y"])
    assert told.evictions * m * n == counted["evicted"]


def test_the_unblocked_kernel_reads_both_operands_again(v3: Chip) -> None:
    tiles = Tiles(m=128, n=512, k=4096, w_reads=2)
    told = traffic_of(Engines(rank=Rank(chip=v3)), tiles, 256, 4096, 6144, BF16)
    assert (told.read, told.weights) == (12 * 256 * 4096 * 2, 2 * 4096 * 6144 * 2)
    assert told.evictions == 1


def test_small_operands_are_read_once_and_accumulate_in_psum(v3: Chip) -> None:
    told = chosen(Engines(rank=Rank(chip=v3)), 64, 8192, 28672, BF16)
    assert told.read == 64 * 8192 * 2
    assert told.weights == 8192 * 28672 * 2
    assert told.evictions == 1


def test_chosen_blocks_keep_tensor_busy_where_both_operands_are_large(v3: Chip) -> None:
    m = k = n = 8192
    told = chosen(Engines(rank=Rank(chip=v3)), m, k, n, BF16)
    tensor = m * k * n / (128 * 128 * 2.4e9)
    assert (told.read + told.weights + told.written) / 362e9 < tensor
    assert told.read > m * k * 2  # SBUF cannot hold everything


@given(st.integers(1, 40000), st.integers(1, 40000), st.integers(1, 40000), st.sampled_from("mkn"))
def test_traffic_never_falls_when_a_dimension_grows(v3: Chip, m: int, k: int, n: int, grown: str) -> None:
    engines, sizes = Engines(rank=Rank(chip=v3)), {"m": m, "k": k, "n": n}
    before, after = chosen(engines, m, k, n, BF16), chosen(engines, **{**sizes, grown: sizes[grown] + 131}, sizes=BF16)
    for name in ("read", "weights", "written", "evictions"):
        assert np.all(getattr(after, name) >= getattr(before, name))
    assert all(a >= b for a, b in zip(after.rows, before.rows, strict=True))
