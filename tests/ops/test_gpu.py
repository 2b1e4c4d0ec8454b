"""GPU and TPU operators against closed forms, and the laws that any roofline must keep."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import Constant, UserError
from trainshed.hardware.schema import Chip, GpuCore
from trainshed.ops.base import Rank, device
from trainshed.ops.gpu import GpuOps, grid_flops

PEAK, BANDWIDTH, GEMM, HBM, ATTENTION, GAP = 1e15, 3e12, 0.8, 0.9, 0.6, 2e-6


def number(name: str, value: float, unit: str = "1") -> Constant:
    return Constant(name=f"chip/test.{name}", value=value, unit=unit, status="given", source="this test")


def chip(**changes: Any) -> Chip:
    core = GpuCore(
        processors=number("gpu.processors", 100, "count"), tile_m=number("gpu.tile_m", 128, "row"),
        tile_n=number("gpu.tile_n", 128, "column"), tile_k=number("gpu.tile_k", 64, "element"), l2=None,
        l2_bandwidth=None, launch=number("gpu.launch", GAP, "s"),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "name": "test", "title": "Test", "vendor": "nobody", "architecture": "gpu", "date": "2026-01-01",
        "cores": number("cores", 1, "count"), "lnc": None, "clock": None,
        "flops": {"bf16": number("flops.bf16", PEAK, "FLOP/s"), "fp8": number("flops.fp8", 2 * PEAK, "FLOP/s")},
        "vector_flops": number("vector_flops", 6e13, "FLOP/s"),
        "special_flops": number("special_flops", 4e12, "element/s"),
        "hbm_capacity": number("hbm_capacity", 80e9, "B"), "hbm_bandwidth": number("hbm_bandwidth", BANDWIDTH, "B/s"),
        "tdp": None, "tdp_alternative": None, "idle_power": None, "energy": {}, "gpu": core,
        "fitted": {
            "gemm_efficiency.bf16": number("fitted.gemm_efficiency.bf16", GEMM),
            "gemm_efficiency.fp8": number("fitted.gemm_efficiency.fp8", GEMM),
            "hbm_efficiency": number("fitted.hbm_efficiency", HBM),
            "attention_efficiency": number("fitted.attention_efficiency", ATTENTION),
            "vector_efficiency": number("fitted.vector_efficiency", 1.0),
        },
    }  # fmt: skip
    return Chip(**{**fields, **changes})


OPS = GpuOps(Rank(chip=chip()))


def matmul(m: Any, k: Any, n: Any, **changes: Any) -> Any:
    return OPS.matmul(**{"what": "x", "m": m, "k": k, "n": n, "dtype": "bf16", "weights": "bf16", **changes})


def attention(**changes: Any) -> Any:
    fields = {
        "what": "a", "sequences": 1, "queries": 8192, "keys": 8192, "heads": 32, "kv_heads": 8, "qk_dim": 128,
        "v_dim": 128, "causal": True, "dtype": "bf16", "kv": "bf16",
    }  # fmt: skip
    return OPS.attention(**{**fields, **changes})


def seconds(cost: Any) -> float:
    return float(np.asarray(cost.time.value))


def test_the_registry_gives_gpu_operators_to_gpus_and_tpus() -> None:
    assert isinstance(device(Rank(chip=chip())), GpuOps)
    assert isinstance(device(Rank(chip=chip(architecture="tpu"))), GpuOps)


def test_a_large_product_runs_at_the_fitted_part_of_peak() -> None:
    ideal = 2 * 16384 * 16384 * 12800 / (PEAK * GEMM)
    assert seconds(matmul(16384, 16384, 12800)) == pytest.approx(ideal, rel=0.03)


def test_a_grid_of_whole_waves_is_counted_exactly() -> None:
    # 10 x 10 tiles of 128 x 128 on 100 processors: one wave, each tile 4096 deep and one slice of 64 to fill
    exact = 2 * 100 * 128 * 128 * (4096 + 64) / (PEAK * GEMM) + GAP
    assert seconds(matmul(1280, 4096, 1280)) == pytest.approx(exact, rel=1e-12)


def test_one_tile_more_than_a_wave_costs_up_to_a_wave() -> None:
    one, more = seconds(matmul(1280, 4096, 1280)) - GAP, seconds(matmul(1281, 4096, 1280)) - GAP
    assert 1.2 * one < more <= 2.0 * one


def test_a_small_grid_splits_its_contraction() -> None:
    whole = 2 * 128 * 128 * 8192 / (PEAK / 100 * GEMM)
    assert seconds(matmul(128, 8192, 128)) - GAP < whole / 10


def test_a_decode_product_is_the_reading_of_its_weights() -> None:
    size = 2 * (8192 * 28672 + 8 * (8192 + 28672))
    assert seconds(matmul(8, 8192, 28672)) == pytest.approx(size / (BANDWIDTH * HBM) + GAP, rel=1e-9)


def test_small_matrices_reach_less_of_the_memory_rate() -> None:
    reached = [2 * k * k / seconds(matmul(1, k, k)) / BANDWIDTH for k in (1024, 2048, 4096, 8192, 16384)]
    assert all(a < b for a, b in pairwise(reached))
    assert reached[0] < 0.4 < 0.85 < reached[-1] < HBM


def test_weights_of_one_byte_halve_a_decode_product_and_resident_ones_are_not_read() -> None:
    half = (seconds(matmul(1, 8192, 25600)) - GAP) / 2
    assert seconds(matmul(1, 8192, 25600, weights="fp8")) - GAP == pytest.approx(half, rel=1e-3)
    assert matmul(1, 8192, 8192, read_weights=False).activity.memory["hbm"] == 2 * 2 * 8192


def test_a_dtype_without_a_rate_of_its_own_runs_in_the_next_one() -> None:
    assert OPS.product_dtype("mxfp8") == "fp8"
    assert OPS.product_dtype("fp16") == "bf16"
    assert seconds(matmul(8192, 8192, 8192, dtype="fp8")) < 0.55 * seconds(matmul(8192, 8192, 8192))


def test_the_activity_of_a_product_is_what_was_asked_for_not_what_was_padded() -> None:
    activity = matmul(100, 200, 300, count=7.0).activity
    assert activity.macs == {"bf16": 7 * 100 * 200 * 300}
    assert activity.memory["hbm"] == 7 * 2 * (100 * 200 + 200 * 300 + 100 * 300)


def experts(tokens: float, active: float, k: float = 4096, n: float = 14336) -> Any:
    return OPS.experts(what="e", tokens=tokens, active=active, k=k, n=n, gated=True, dtype="bf16", weights="bf16")


def test_experts_with_many_tokens_cost_their_products() -> None:
    assert seconds(experts(65536, 8)) == pytest.approx(2 * 65536 * 3 * 4096 * 14336 / (PEAK * GEMM), rel=0.05)


def test_experts_with_few_tokens_cost_the_reading_of_those_that_are_hit() -> None:
    size = 2 * (6.5 * 3 * 4096 * 14336 + 8 * (2 * 4096 + 3 * 14336))
    assert seconds(experts(8, 6.5)) == pytest.approx(size / (BANDWIDTH * HBM) + 2 * GAP, rel=1e-9)


def test_few_tokens_per_expert_waste_their_tiles() -> None:
    assert seconds(experts(16384, 1024, 2048, 768)) > 3 * seconds(experts(16384, 16, 2048, 768))


def test_causal_attention_computes_half_the_square_and_the_diagonal_blocks() -> None:
    pairs = 8192 * (8192 + 1) / 2 + 8192 * 64
    exact = 2 * 32 * pairs * 512 / (PEAK * ATTENTION)
    assert seconds(attention(qk_dim=256, v_dim=256)) - GAP == pytest.approx(exact, rel=0.03)


def test_light_products_are_bound_by_their_exponentials() -> None:
    cost = attention(qk_dim=64, v_dim=0)
    assert seconds(cost) - GAP == pytest.approx(float(cost.activity.scalar) / 4e12, rel=1e-9)


def test_heads_narrower_than_the_matrix_unit_leave_part_of_it_idle() -> None:
    assert seconds(attention(qk_dim=96, v_dim=96)) == pytest.approx(seconds(attention(qk_dim=128, v_dim=128)), rel=0.05)


def test_a_window_counts_its_pairs() -> None:
    assert seconds(attention(paired=8192 * 128)) < 0.06 * seconds(attention(causal=False))


def test_attention_backward_is_two_and_a_half_times_forward() -> None:
    forward, backward = attention(qk_dim=256, v_dim=256), attention(qk_dim=256, v_dim=256, direction="backward")
    assert seconds(backward) - GAP == pytest.approx(2.5 * (seconds(forward) - GAP), rel=1e-9)


def test_decode_attention_is_the_reading_of_its_cache() -> None:
    size = 64 * 4096 * 8 * 256 * 2 + 64 * 32 * 256 * 2
    cost = attention(sequences=64, queries=1, keys=4096, causal=False)
    assert seconds(cost) == pytest.approx(size / (BANDWIDTH * HBM) + GAP, rel=1e-9)


def test_a_latent_cache_is_read_once_for_all_heads() -> None:
    cost = attention(sequences=64, queries=1, keys=4096, causal=False, latent=576, kv="fp8")
    assert cost.activity.memory["hbm"] == 64 * 4096 * 576 + 64 * 32 * 256 * 2


def test_a_pass_is_its_bytes_and_a_fused_one_is_free_but_counted() -> None:
    fields: dict[str, Any] = {"what": "n", "elements": 1e8, "reads": 1, "writes": 1, "vector": 2, "transcendental": 0,
                              "dtype": "bf16"}  # fmt: skip
    assert seconds(OPS.elementwise(**fields)) == pytest.approx(4e8 / (BANDWIDTH * HBM) + GAP)
    fused = OPS.elementwise(**fields, fused=True)
    assert seconds(fused) == 0
    assert fused.activity.vector == 2e8
    assert fused.launches == 0


def test_lookup_and_copy_move_their_bytes_twice() -> None:
    assert OPS.lookup(what="l", tokens=1000, width=4096, dtype="bf16").activity.memory["hbm"] == 2 * 1000 * 4096 * 2
    assert seconds(OPS.copy(what="c", size=3e9)) == pytest.approx(6e9 / (BANDWIDTH * HBM) + GAP)


def scan(tokens: float, direction: str = "forward") -> float:
    shape = {"heads": 128, "key_dim": 128, "value_dim": 64, "groups": 8, "conv_width": 4, "conv_channels": 10240}
    return seconds(OPS.scan(what="s", tokens=tokens, **shape, chunk=128, sequences=1, dtype="bf16",
                            direction=direction))  # fmt: skip


def test_a_scan_grows_with_tokens_and_its_backward_pass_is_twice_as_long() -> None:
    assert scan(65536) - 2 * GAP == pytest.approx(2 * (scan(32768) - 2 * GAP), rel=0.05)
    assert scan(65536, "backward") - 2 * GAP == pytest.approx(2 * (scan(65536) - 2 * GAP), rel=1e-9)


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=6), st.integers(1, 20_000))
def test_arrays_give_what_scalars_give(sizes: list[int], width: int) -> None:
    table = matmul(np.array(sizes, dtype=float), 4096.0, float(width)).time.value
    assert np.allclose(table, [seconds(matmul(float(m), 4096.0, float(width))) for m in sizes], rtol=1e-12)


@given(st.integers(1, 16384), st.integers(64, 16384), st.integers(1, 16384))
def test_no_product_beats_the_roofline(m: int, k: int, n: int) -> None:
    bound = max(2.0 * m * k * n / (PEAK * GEMM), 2.0 * (m * k + k * n + m * n) / (BANDWIDTH * HBM))
    assert seconds(matmul(m, k, n)) >= bound * (1 - 1e-9)


def test_stacked_constants_give_one_row_each() -> None:
    peaks = np.array([[PEAK], [2 * PEAK]])
    varied = chip(flops={"bf16": number("flops.bf16", 0.0, "FLOP/s").with_value(peaks)})
    m = np.array([4096.0, 8192.0])
    value = GpuOps(Rank(chip=varied)).matmul(what="x", m=m, k=8192, n=8192, dtype="bf16", weights="bf16").time.value
    assert np.shape(value) == (2, 2)
    assert np.allclose(np.asarray(value)[0], matmul(m, 8192, 8192).time.value)


def test_every_number_of_the_chip_is_named_in_the_tree() -> None:
    used = set(matmul(4096, 4096, 4096).time.used_constants())
    assert {"chip/test.flops.bf16", "chip/test.fitted.gemm_efficiency.bf16", "chip/test.hbm_bandwidth",
            "chip/test.fitted.hbm_efficiency", "chip/test.gpu.launch"} <= used  # fmt: skip


def test_what_the_chip_cannot_do_is_one_sentence() -> None:
    with pytest.raises(UserError, match="unknown dtype"):
        matmul(1, 1, 1, dtype="fp64")
    with pytest.raises(UserError, match="tile data"):
        GpuOps(Rank(chip=chip(gpu=None))).matmul(what="x", m=1, k=1, n=1, dtype="bf16", weights="bf16")


def test_few_rows_cost_what_one_processors_tile_costs_whatever_the_large_tile() -> None:
    # 8 rows of 128 columns move (8 + 128) / (8 · 128) operands per product: 8.5 times those of a 128 x 128 tile
    def rows(side: float) -> float:
        core = OPS.rank.chip.gpu
        assert core is not None
        large = replace(core, tile_m=number("gpu.tile_m", side, "row"), tile_n=number("gpu.tile_n", side, "column"))
        padded = grid_flops(large, m=1.0, k=8192.0, n=128.0 * 100, count=1.0)
        return float(np.asarray(padded)) / (2 * 8192 * 12800)

    assert rows(256) == pytest.approx(rows(128))
    assert rows(256) == pytest.approx(8 * 8.5, rel=0.02)
