"""``serving.csv``: what a row means, and that rows priced together equal rows priced alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, find, read
from trainshed.validate.tables.serving import predict

FILE = str(find("serving")[1])
SETUP = Setup.default()
BASE = {
    "id": "x", "group": "test", "tier": "A", "metric": "tpot_s", "value": 1.0, "chip": "h100-sxm", "primary": True,
    "system": "hgx-h100", "chips": 4, "model": "llama-3.1-8b", "mode": "closed", "isl": 1000.0, "osl": 200.0,
    "concurrency": 16.0, "tp": 4, "dtype_weights": "bf16", "framework": "vllm", "framework_version": "0.12.0",
    "speculation": "none",
}  # fmt: skip


def row(**changes: Any) -> Row:
    cells = {k: v for k, v in (BASE | changes).items() if v is not None}
    return Row(table="serving", file=FILE, line=1, cells=cells)


def one(**changes: Any) -> Prediction:
    (prediction,) = predict([row(**changes)], SETUP)
    return prediction


def value(**changes: Any) -> float:
    prediction = one(**changes)
    assert prediction.value is not None, prediction.skipped
    return float(np.asarray(prediction.value))


def test_figures_of_one_run_agree() -> None:
    e2e = value(metric="e2e_s")
    assert e2e == pytest.approx(value(metric="ttft_s") + 199 * value())
    rate = value(metric="output_tokens_per_s")
    assert rate == pytest.approx(16 * 200 / e2e)
    assert value(metric="output_tokens_per_s_per_chip") == pytest.approx(rate / 4)
    assert value(metric="total_tokens_per_s") == pytest.approx(rate * 6)
    joules = value(metric="energy_per_output_token_j")
    assert joules == pytest.approx(4 * value(metric="power_per_chip_w") / rate)


def test_a_running_batch_has_no_queue() -> None:
    changes = {"group": "mlenergy_gpqa", "isl": None}
    assert value(**changes, metric="output_tokens_per_s") == pytest.approx(16 / value(**changes))


def test_a_batch_that_is_queued_at_once_is_static() -> None:
    static = {"concurrency": None, "metric": "batch_latency_s"}
    assert value(**static, mode="offline", requests=8) == pytest.approx(value(**static, mode="static", batch=8.0))


def test_four_bit_weights_of_a_sparse_model_are_its_experts() -> None:
    sparse = {"model": "gpt-oss-120b", "dtype_weights": "mxfp4", "chips": 4}
    assert value(**sparse) < value(**(sparse | {"dtype_weights": "bf16"}))


def test_versions_and_makers_choose_the_engine() -> None:
    old, new = value(framework_version="0.6.1"), value(framework_version="0.19.0")
    assert old != new
    amd = {"chip": "mi300x", "system": "mi300x-8", "framework_version": "0.6.1"}
    assert value(**amd) > 0


def test_what_nobody_published_is_skipped_with_a_reason() -> None:
    assert "acceptance rate" in one(speculation="eagle3").skipped
    assert one(metric="tpot_s.p99").skipped == "a closed form knows means only"
    assert "unknown system" in one(system="nowhere").skipped
    assert "published config" in one(model="no-such-model").skipped


def test_pools_have_a_plan_each() -> None:
    pools = {
        "disaggregated": True, "tp": None, "prefill_plan": "tp2 x2", "decode_plan": "tp4 x1", "chips": 8,
    }  # fmt: skip
    assert value(**pools) < value()


@pytest.fixture(scope="module")
def sample() -> list[Row]:
    rows = [r for r in read(find("serving")[1]) if r.counted]
    return rows[:: len(rows) // 60]


def test_rows_together_equal_rows_alone(sample: list[Row]) -> None:
    together = predict(sample, SETUP)
    for r, p in zip(sample[::4], together[::4], strict=True):
        (alone,) = predict([r], SETUP)
        assert alone.skipped == p.skipped
        if p.value is not None and alone.value is not None:
            assert np.asarray(alone.value) == pytest.approx(np.asarray(p.value), rel=1e-9)


def test_stacked_constants_give_what_each_gives(sample: list[Row]) -> None:
    names = ["engine/vllm-0.5.decode_share", "chip/h100-sxm.fitted.hbm_efficiency"]
    columns = {names[0]: np.array([[0.9], [0.7], [0.9]]), names[1]: np.array([[0.85], [0.85], [0.7]])}
    sample = sample[::3]
    stacked = predict(sample, SETUP.replaced(columns))
    for k in range(3):
        single = predict(sample, SETUP.replaced({n: float(c[k, 0]) for n, c in columns.items()}))
        for a, b in zip(stacked, single, strict=True):
            if a.value is not None and b.value is not None:
                assert np.ravel(np.broadcast_to(a.value, (3,)) if np.size(a.value) == 1 else a.value)[k] == (
                    pytest.approx(float(np.ravel(b.value)[0]), rel=1e-9)
                )


def test_nearly_all_counted_rows_are_covered(sample: list[Row]) -> None:
    assert np.mean([p.value is not None for p in predict(sample, SETUP)]) > 0.9
