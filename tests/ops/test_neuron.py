"""NeuronCore operators: closed forms, measured kernels, and the laws that overlapping engines must keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import Constant, Cost
from trainshed.hardware.schema import Chip
from trainshed.ops import DeviceOps, OpCost, Rank, Tiles, device
from trainshed.ops.neuron import NeuronOps

PEAK = 2 * 128 * 128 * 2.4e9


@pytest.fixture(scope="module")
def ops(v3: Chip) -> DeviceOps:
    return device(Rank(chip=v3))


@pytest.fixture(scope="module")
def bench(v3: Chip) -> NeuronOps:
    """Kernels by themselves rather than in a graph."""
    return NeuronOps(Rank(chip=v3), alone=True)


@pytest.fixture(scope="module")
def ops4(v4: Chip) -> DeviceOps:
    return device(Rank(chip=v4))


def matmul(ops: DeviceOps, m: Any, k: Any, n: Any, **changes: Any) -> OpCost:
    return ops.matmul(**{"what": "x", "m": m, "k": k, "n": n, "dtype": "bf16", "weights": "bf16", **changes})


def attention(ops: DeviceOps, **changes: Any) -> OpCost:
    sizes = {
        "what": "a", "sequences": 1, "queries": 8192, "keys": 8192, "heads": 4, "kv_heads": 1, "qk_dim": 128,
        "v_dim": 128, "causal": True, "dtype": "bf16", "kv": "bf16",
    }  # fmt: skip
    return ops.attention(**{**sizes, **changes})


def scan(ops: DeviceOps, **changes: Any) -> OpCost:
    sizes = {
        "what": "s", "tokens": 8192, "heads": 16, "key_dim": 128, "value_dim": 64, "groups": 1, "conv_width": 4,
        "conv_channels": 1280, "chunk": 128, "sequences": 1, "dtype": "bf16",
    }  # fmt: skip
    return ops.scan(**{**sizes, **changes})


def engine(cost: OpCost, name: str) -> float:
    """Seconds of the node of that name, wherever it is."""
    return next(float(np.asarray(node.value)) for node in cost.time.walk() if node.what == name)


def seconds(cost: OpCost) -> float:
    return float(np.asarray(cost.time.value))


def test_a_large_product_stays_below_the_arrays_peak_and_above_what_kernels_reach(ops: DeviceOps) -> None:
    rate = 2 * 4096**3 / seconds(matmul(ops, 4096, 4096, 4096))
    assert 66.7e12 < rate < PEAK < 667e12 / 8


def test_fp8_doubles_the_rate_by_its_depth_and_fp32_quarters_it(ops: DeviceOps) -> None:
    tensor = engine(matmul(ops, 4096, 4096, 4096), "TensorE")
    fp8 = matmul(ops, 4096, 4096, 4096, dtype="fp8", weights="fp8", activations="fp8")
    fp32 = matmul(ops, 4096, 4096, 4096, dtype="fp32", weights="fp32", activations="fp32")
    assert engine(fp8, "TensorE") == pytest.approx(tensor / 2)
    assert engine(fp32, "TensorE") == pytest.approx(tensor * 4)


def test_mx_products_reach_four_times_bf16(ops4: DeviceOps) -> None:
    bf16, mx = (matmul(ops4, 8192, 8192, 8192, dtype=d, weights=d) for d in ("bf16", "mxfp8"))
    assert engine(mx, "TensorE") == pytest.approx(engine(bf16, "TensorE") / 4)
    assert engine(mx, "VectorE quantise") > 0
    assert mx.activity.macs == {"mxfp8": 8192.0**3}


# Published times of AWS's blocked tutorial kernel on one NeuronCore-v3 (chipboost, SDK 2.32).
@pytest.mark.parametrize(
    ("m", "k", "n", "tiles", "measured"),
    [
        (128, 4096, 6144, Tiles(m=128, n=6144, k=512), 151.2e-6),
        (256, 4096, 6144, Tiles(m=256, n=1024, k=1024), 280.4e-6),
        (256, 6144, 4096, Tiles(m=128, n=4096, k=512), 193.2e-6),
        (512, 4096, 2048, Tiles(m=128, n=2048, k=512), 137.6e-6),
    ],
)
def test_blocked_kernels_take_what_was_measured(
    bench: NeuronOps, m: int, k: int, n: int, tiles: Tiles, measured: float
) -> None:
    assert seconds(matmul(bench, m, k, n, tiles=tiles)) == pytest.approx(measured, rel=0.08)


def test_small_blocks_of_k_make_vector_the_slowest_engine(bench: NeuronOps) -> None:
    cost = matmul(bench, 256, 4096, 6144, tiles=Tiles(m=256, n=3072, k=128))
    adds = 2 * 12 * 32
    assert engine(cost, "VectorE") == pytest.approx(adds * (512 / 0.96e9 + 104e-9))
    assert seconds(cost) > engine(cost, "VectorE") > engine(cost, "TensorE")


def test_activations_that_fit_stay_on_chip_inside_a_graph(ops: DeviceOps, bench: NeuronOps) -> None:
    small, large = (256 * 4096, 65536 * 4096)
    assert matmul(ops, 256, 4096, 4096).activity.memory["hbm"] == 4096 * 4096 * 2
    assert matmul(bench, 256, 4096, 4096).activity.memory["hbm"] == (4096 * 4096 + 2 * small) * 2
    assert matmul(ops, 65536, 4096, 4096).activity.memory["hbm"] >= (4096 * 4096 + 2 * large) * 2
    assert matmul(bench, 256, 4096, 4096).activity.written == small * 2


def test_a_compilers_gaps_slow_tensor_alone(v3: Chip, ops: DeviceOps) -> None:
    gap = Constant(name="engine/x.tensor_gap", value=512 / 2.4e9, unit="s", status="given", source="this test")
    slow = device(Rank(chip=v3, tensor_gap=gap))
    before, after = (matmul(o, 4096, 4096, 4096) for o in (ops, slow))
    assert engine(after, "TensorE") == pytest.approx(2 * engine(before, "TensorE"))
    assert engine(after, "DMA") == engine(before, "DMA")
    assert "engine/x.tensor_gap" in after.time.used_constants()


def test_decode_takes_the_weights_over_the_share_of_hbm(ops: DeviceOps) -> None:
    cost = matmul(ops, 1, 8192, 28672)
    assert seconds(cost) == pytest.approx(8192 * 28672 * 2 / (2.9e12 / 8), rel=0.02)
    resident = matmul(ops, 1, 8192, 28672, read_weights=False)
    assert seconds(resident) < seconds(cost) / 3


def test_narrow_weights_are_dequantised_on_vector(bench: NeuronOps) -> None:
    cost = matmul(bench, 1, 4096, 4096, weights="mxfp4")
    assert engine(cost, "VectorE dequantise") > 0
    assert cost.activity.memory["hbm"] == pytest.approx(4096 * 4096 * (0.5 + 1 / 32) + 2 * 8192)


def test_two_cores_halve_a_large_product(v3: Chip, ops: DeviceOps) -> None:
    both = device(Rank(chip=v3, cores=2))
    assert seconds(matmul(both, 4096, 4096, 4096)) == pytest.approx(
        seconds(matmul(ops, 4096, 4096, 4096)) / 2, rel=0.05
    )


def test_experts_read_the_active_ones_and_compute_the_routed_copies(ops: DeviceOps) -> None:
    cost = ops.experts(what="e", tokens=64, active=16, k=2048, n=768, gated=True, dtype="bf16", weights="bf16")
    weights = 16 * 3 * 2048 * 768 * 2
    assert cost.activity.memory["hbm"] == pytest.approx(weights, rel=0.05)
    assert cost.activity.macs["bf16"] == 64 * 3 * 2048 * 768
    more = ops.experts(what="e", tokens=64, active=32, k=2048, n=768, gated=True, dtype="bf16", weights="bf16")
    assert seconds(more) > 1.8 * seconds(cost)


def test_causal_prefill_skips_the_blocks_above_the_diagonal(ops: DeviceOps) -> None:
    full, causal = attention(ops, causal=False), attention(ops)
    # tiles of 128 x 128 up to the diagonal, and one more per tile that hides what is above it
    assert engine(causal, "TensorE") == pytest.approx(engine(full, "TensorE") * (0.5 + 128 / 8192), rel=0.01)
    assert engine(causal, "ScalarE") < 0.6 * engine(full, "ScalarE")


def test_prefill_attention_reaches_what_the_library_kernel_does(ops: DeviceOps) -> None:
    # nki-library's attention_cte: 30 % of the array at 2k, 46 % at 16k with heads of 128.
    cost = attention(ops, queries=16384, keys=16384, heads=1)
    mfu = 4 * 128 * 16384**2 / 2 / seconds(cost) / PEAK
    assert 0.30 < mfu < 0.50


def test_decode_attention_takes_the_cache_over_hbm(ops: DeviceOps) -> None:
    cost = attention(ops, sequences=64, queries=1, keys=8192, heads=8, kv_heads=1)
    cache = 64 * 8192 * 2 * 128 * 2
    assert seconds(cost) == pytest.approx(cache / (2.9e12 / 8), rel=0.05)
    eight_bit = attention(ops, sequences=64, queries=1, keys=8192, heads=8, kv_heads=1, kv="fp8")
    assert seconds(eight_bit) < 0.75 * seconds(cost)


def test_short_contexts_of_many_heads_waste_the_dma(ops: DeviceOps) -> None:
    few, many = (attention(ops, sequences=s, queries=1, keys=128, heads=h, kv_heads=h) for s, h in ((1, 1), (16, 32)))
    cache = 16 * 32 * 128 * 2 * 128 * 2
    assert seconds(many) > 2 * cache / 435e9
    assert seconds(few) < 10e-6


def test_a_latent_cache_is_read_once_for_all_heads(ops: DeviceOps) -> None:
    mla = attention(
        ops, sequences=32, queries=1, keys=4096, heads=16, kv_heads=16, qk_dim=192, latent=576, causal=False
    )
    assert mla.activity.memory["hbm"] == pytest.approx(32 * 4096 * 576 * 2, rel=0.01)
    prompt = attention(ops, queries=4096, keys=4096, heads=16, kv_heads=16, qk_dim=192, latent=576)
    assert prompt.activity.macs["bf16"] < 16 * 4096**2 * (192 + 128 + 128)


def test_pairs_that_a_mask_leaves_out_cost_nothing(ops: DeviceOps) -> None:
    windowed = attention(ops, paired=8192 * 128.0)
    left = (128 + 127 / 2) / 8192  # of a row, with the part of the tile on the diagonal
    assert engine(windowed, "VectorE maximum") < 1.5 * left * engine(attention(ops, causal=False), "VectorE maximum")


def test_backward_passes_take_their_multiple(ops: DeviceOps) -> None:
    # scores, their transposes and values; then five products, and one transpose again
    full, back = attention(ops, causal=False), attention(ops, causal=False, direction="backward")
    assert engine(back, "TensorE") == pytest.approx(6 / 3 * engine(full, "TensorE"), rel=1e-6)
    assert back.activity.macs["bf16"] == pytest.approx(2.5 * full.activity.macs["bf16"])
    for name in ("TensorE", "VectorE", "ScalarE"):
        assert engine(scan(ops, direction="backward"), name) == pytest.approx(2 * engine(scan(ops), name))


def test_v4_moves_exponentials_to_vector(ops: DeviceOps, ops4: DeviceOps) -> None:
    elements = 4 * 8192**2
    fast = engine(attention(ops4, causal=False), "VectorE exponential")
    assert fast == pytest.approx(elements / 128 / 4 / 1.2e9 + elements / 128 / 1024 * 104e-9)
    assert engine(attention(ops4), "ScalarE") < engine(attention(ops), "ScalarE")


def test_elementwise_takes_the_longest_of_its_engines(ops: DeviceOps) -> None:
    n = 128 * 2048 * 64
    moved = ops.elementwise(what="copy", elements=n, reads=1, writes=1, vector=0, transcendental=0, dtype="bf16")
    assert seconds(moved) == pytest.approx(4 * n / (2.9e12 / 8), rel=0.06)
    gelu = ops.elementwise(
        what="gelu", elements=n, reads=1, writes=1, vector=1, transcendental=4, dtype="bf16", fused=True
    )
    assert seconds(gelu) == pytest.approx(4 * n / (128 * 1.2e9), rel=0.1)
    assert gelu.activity.memory["hbm"] == 0
    assert gelu.launches == 0


def test_a_scan_step_moves_its_states(ops: DeviceOps) -> None:
    step = scan(ops, tokens=64, sequences=64)
    states = 2 * 64 * 16 * 128 * 64 * 4
    assert step.activity.memory["hbm"] == pytest.approx(states, rel=0.05)
    assert seconds(scan(ops)) < seconds(scan(ops, tokens=16384)) < 2.1 * seconds(scan(ops))


def test_lookups_pay_their_rows_and_copies_cross_hbm_twice(ops: DeviceOps) -> None:
    rows = ops.lookup(what="l", tokens=4096, width=64, dtype="bf16")
    assert seconds(rows) > 2 * 4096 * 89e-9 / 16
    assert seconds(ops.copy(what="c", size=1e9)) == pytest.approx(2e9 / (2.9e12 / 8), rel=0.01)


KINDS: dict[str, Callable[[DeviceOps, float], OpCost]] = {
    "matmul": lambda ops, x: matmul(ops, 256 * x, 4096, 4096),
    "experts": lambda ops, x: ops.experts(
        what="e", tokens=64 * x, active=8, k=512, n=512, gated=False, dtype="bf16", weights="bf16"
    ),
    "attention": lambda ops, x: attention(ops, sequences=x),
    "elementwise": lambda ops, x: ops.elementwise(
        what="x", elements=1e6 * x, reads=1, writes=1, vector=1, transcendental=1, dtype="fp32"
    ),
    "scan": lambda ops, x: scan(ops, sequences=x, tokens=8192 * x),
    "lookup": lambda ops, x: ops.lookup(what="l", tokens=1e4 * x, width=4096, dtype="bf16"),
    "copy": lambda ops, x: ops.copy(what="c", size=1e6 * x),
}


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_give_what_their_elements_give(ops: DeviceOps, kind: str) -> None:
    many = KINDS[kind](ops, np.array([1.0, 2.0, 7.0]))  # type: ignore[arg-type]
    for i, x in enumerate((1.0, 2.0, 7.0)):
        one = KINDS[kind](ops, x)
        assert np.broadcast_to(many.time.value, 3)[i] == pytest.approx(seconds(one))
        assert np.broadcast_to(many.activity.memory["hbm"], 3)[i] == pytest.approx(one.activity.memory["hbm"])
        assert many.time.at(i, (3,)).value == pytest.approx(seconds(one))


@pytest.mark.parametrize("kind", KINDS)
def test_no_work_takes_no_time(ops: DeviceOps, kind: str) -> None:
    if kind == "experts":
        nothing = ops.experts(what="e", tokens=0, active=0, k=512, n=512, gated=True, dtype="bf16", weights="bf16")
    else:
        nothing = KINDS[kind](ops, 0.0)
    assert nothing.launches == 0
    assert seconds(nothing) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_leaf_of_time_rests_on_constants(ops: DeviceOps, kind: str) -> None:
    def leaves(cost: Cost) -> list[Cost]:
        return [node for node in cost.walk() if not node.children]

    for leaf in leaves(KINDS[kind](ops, 2.0).time):
        assert leaf.constants or not np.any(leaf.value), leaf.what


SIZES = st.integers(1, 20000)


@given(SIZES, SIZES, SIZES, st.sampled_from("mkn"), st.integers(1, 5000))
def test_products_never_get_faster_by_growing(ops: DeviceOps, m: int, k: int, n: int, grown: str, by: int) -> None:
    sizes = {"m": m, "k": k, "n": n}
    before, after = matmul(ops, **sizes), matmul(ops, **{**sizes, grown: sizes[grown] + by})
    assert seconds(after) >= seconds(before) * (1 - 1e-12)
    assert seconds(before) >= 2 * m * k * n / PEAK
    for name in ("TensorE", "VectorE", "DMA"):
        assert seconds(before) >= engine(before, name)


@given(
    st.integers(1, 64), st.integers(1, 8192), st.integers(1, 8192), st.integers(1, 16), st.booleans(),
    st.sampled_from(["sequences", "keys", "heads"]),
)  # fmt: skip
def test_attention_never_gets_faster_by_growing(
    ops: DeviceOps, sequences: int, queries: int, keys: int, heads: int, causal: bool, grown: str
) -> None:
    sizes = {"sequences": sequences, "queries": queries, "keys": keys, "heads": heads}
    more = {**sizes, grown: sizes[grown] * 2}
    before, after = (attention(ops, kv_heads=1, causal=causal, **s) for s in (sizes, more))
    assert seconds(after) >= seconds(before) * (1 - 1e-12)
    pairs = np.minimum(queries * keys, queries * keys - min(queries, keys) * (min(queries, keys) - 1) / 2)
    assert engine(before, "ScalarE") >= sequences * heads * (pairs if causal else queries * keys) / (128 * 1.2e9)


def test_operators_name_their_kernels(ops: DeviceOps) -> None:
    engines = matmul(ops, 4096, 4096, 4096).time.children[0][1]
    assert engines.kernel is not None
    assert engines.kernel.family == "gemm.matmul"
    assert {name: float(np.asarray(size)) for name, size in engines.kernel.tiles.items()} == {
        "rows": 1024.0, "columns": 512.0, "of k": 4096.0,
    }  # fmt: skip
