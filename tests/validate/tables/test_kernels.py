"""The kernels table: the published matmul sweep by formula alone, and what each metric means."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from trainshed.hardware import Catalogue
from trainshed.validate.scores import spearman
from trainshed.validate.setup import Setup
from trainshed.validate.table import Row, measurements, read
from trainshed.validate.tables import kernels


@cache
def rows() -> tuple[Row, ...]:
    return tuple(read(measurements() / "kernels.csv"))


def errors(group: str, kernel: str) -> np.ndarray[Any, Any]:
    chosen = [r for r in rows() if r.group == group and r.text("kernel") == kernel and r.metric == "time_s"]
    predictions = kernels.predict(chosen, Setup.default())
    assert all(p.value is not None for p in predictions)
    pairs = zip(chosen, predictions, strict=True)
    return np.array([float(np.asarray(p.value)) / r.value - 1 for r, p in pairs])


def row(**cells: Any) -> Row:
    base = {"id": "k", "group": "g", "tier": "A", "metric": "time_s", "value": 1.0, "chip": "trn2", "cores": 1}
    shape = {"kernel": "matmul", "shape": {"m": 4096, "k": 4096, "n": 4096}, "dtype": "bf16", "flops": 2.0 * 4096**3}
    given = {k: v for k, v in {**base, **shape, **cells}.items() if v is not None}
    return Row(table="kernels", file="k.csv", line=1, cells=given)


def value(**cells: Any) -> float:
    prediction = kernels.predict([row(**cells)], Setup.default())[0]
    assert prediction.value is not None, prediction.skipped
    return float(np.asarray(prediction.value))


def test_the_published_matmul_sweep_follows_from_documented_rates() -> None:
    chosen = [r for r in rows() if r.group == "chipboost_sweep" and r.metric == "time_s"]
    predicted = np.array([float(np.asarray(p.value)) for p in kernels.predict(chosen, Setup.default())])
    published = np.array([r.value for r in chosen])
    found = np.abs(predicted / published - 1)
    assert np.median(found) < 0.06
    assert np.quantile(found, 0.9) < 0.16
    assert spearman(predicted, published) > 0.95


def test_copies_of_short_and_long_rows_follow_too() -> None:
    assert np.all(np.abs(errors("chipboost", "copy")) < 0.1)


def test_no_fitted_constant_moves_a_kernel() -> None:
    names = [c.name for c in Catalogue().chip("trn2").fitted.values()]
    moved = Setup.default().replaced(dict.fromkeys(names, 0.5))
    chosen = [r for r in rows() if r.group == "chipboost_sweep"][:5]
    before, after = (kernels.predict(chosen, s) for s in (Setup.default(), moved))
    assert [p.value for p in before] == [p.value for p in after]


def test_metrics_follow_from_one_tree() -> None:
    seconds = value()
    assert value(metric="mfu") == pytest.approx(2 * 4096**3 / seconds / (2 * 128 * 128 * 2.4e9))
    assert value(metric="hbm_bytes") >= 3 * 4096**2 * 2
    tensor, vector = value(metric="engine_active.tensor"), value(metric="engine_active.vector")
    assert vector < tensor < 1
    assert value(options={"includes_launch_s": 1.0}) == pytest.approx(seconds + 1)


def test_block_sizes_are_caps_on_divisors() -> None:
    options = {"tiles_in_block_m": 2, "tiles_in_block_n": 5, "tiles_in_block_k": 8}
    shape = {"m": 256, "k": 4096, "n": 6144}
    fitted = {**options, "tiles_in_block_n": 4}
    assert value(shape=shape, options=options) == value(shape=shape, options=fitted)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"comparison": "le"}, "an upper bound, not a measurement"),
        ({"kernel": "fft"}, "no formula for a kernel of the family fft"),
        ({"chip": "h100-sxm"}, "not a NeuronCore"),
        ({"chip": "trn9"}, "unknown chip: trn9"),
        ({"options": {"includes_dispatch": 1}}, "host dispatch dominates"),
        ({"metric": "energy_j"}, "no formula for energy_j"),
    ],
)
def test_rows_that_no_formula_expresses_say_why(cells: dict[str, Any], reason: str) -> None:
    assert kernels.predict([row(**cells)], Setup.default())[0].skipped == reason


@pytest.mark.parametrize("kernel", ["mlp_prefill", "mlp_decode", "qkv", "moe_decode", "attention_prefill", "rmsnorm"])
def test_larger_shapes_take_longer(kernel: str) -> None:
    shapes = {
        "qkv": {"batch": 1, "seq": 512, "hidden": 4096, "qkv": 1536, "d": 128},
        "moe_decode": {"tokens": 64, "experts": 64, "topk": 4, "hidden": 2048, "down_rows": 64},
        "attention_prefill": {"heads": 8, "heads_kv": 1, "q": 2048, "kv": 2048, "d": 128},
        "rmsnorm": {"rows": 2048, "cols": 4096},
    }
    shape = shapes.get(kernel, {"batch": 1, "seq": 512, "hidden": 4096, "intermediate": 1024})
    first = next(iter(set(shape) & {"seq", "tokens", "q", "rows"}))
    larger = {**shape, first: 2 * shape[first]}
    assert value(kernel=kernel, shape=larger, flops=None) > value(kernel=kernel, shape=shape, flops=None)


def test_attention_counts_the_pairs_that_its_flops_do() -> None:
    shape = {"heads": 8, "heads_kv": 1, "q": 8192, "kv": 8192, "d": 128}
    whole = 4.0 * 8 * 8192**2 * 128
    cells = {"kernel": "attention_prefill", "shape": shape}
    assert value(**cells, flops=whole / 2) == pytest.approx(value(**cells, flops=whole) / 2, rel=0.05)


def test_shapes_that_lack_a_size_are_skipped() -> None:
    prediction = kernels.predict([row(shape={"m": 128, "n": 512})], Setup.default())[0]
    assert prediction.skipped == "size not stated: k"
