"""``collectives.csv``: what a row means, and that rows priced together equal rows priced alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainshed.fabric import Group, collective
from trainshed.validate.setup import Setup
from trainshed.validate.table import Row, find, read
from trainshed.validate.tables.collectives import predict

BASE = {
    "id": "x", "group": "xla_nvl72", "tier": "B", "metric": "time_s", "value": 1.0, "chip": "gb200",
    "system": "gb200-nvl72", "collective": "all_gather", "size_bytes": 1e8, "ranks": 16, "scope": "alone",
    "dtype": "fp32", "memory": "hbm", "primary": True,
}  # fmt: skip
SETUP = Setup.default()


def row(**changes: Any) -> Row:
    cells = {k: v for k, v in (BASE | changes).items() if v is not None}
    return Row(table="collectives", file="test", line=1, cells=cells)


def value(**changes: Any) -> float:
    (prediction,) = predict([row(**changes)], SETUP)
    assert prediction.value is not None, prediction.skipped
    return float(np.asarray(prediction.value))


def test_a_time_is_that_of_the_fabric() -> None:
    levels = SETUP.catalogue.system("gb200-nvl72").levels
    time = collective("all_gather", size=1e8, group=Group(ranks=16), levels=levels, dtype="fp32").time
    assert value() == pytest.approx(float(np.asarray(time.value)))


def test_bandwidths_follow_from_the_time() -> None:
    assert value(metric="algbw_bytes_per_s") == pytest.approx(1e8 / value())
    assert value(metric="busbw_bytes_per_s") == pytest.approx(15 / 16 * 1e8 / value())
    reduced = value(collective="all_reduce", metric="busbw_bytes_per_s")
    assert reduced == pytest.approx(2 * 15 / 16 * 1e8 / value(collective="all_reduce"))
    permuted = {"collective": "permute", "algorithm": "ring"}
    assert value(**permuted, metric="busbw_bytes_per_s") == pytest.approx(1e8 / value(**permuted))


def test_experts_have_the_size_of_their_routed_copies() -> None:
    shape = {"tokens": 128, "hidden": 7168, "topk": 8}
    small = {"collective": "moe_dispatch", "size_bytes": None, "shape": shape, "dtype": "fp8", "system": "p5en",
             "chip": "h200-sxm", "ranks": 32, "algorithm": "low_latency"}  # fmt: skip
    levels = SETUP.catalogue.system("p5en").levels
    time = collective(
        "moe_dispatch", size=128 * 8 * 7168, group=Group(ranks=32), levels=levels, dtype="fp8", copies=8.0,
        algorithm="direct",
    ).time  # fmt: skip
    assert value(**small) == pytest.approx(float(np.asarray(time.value)))
    assert value(**small | {"dtype": "bf16", "collective": "moe_combine"}) > 1.3 * value(**small)


def test_whole_programs_hold_their_launch_and_meeting() -> None:
    trn2 = {"system": "trn2", "chip": "trn2", "group": "kiln_graph", "scope": "graph", "collective": "all_reduce",
            "size_bytes": 32768, "ranks": 16, "lnc": 2, "dtype": "bf16"}  # fmt: skip
    empty, one, twelve = (value(**trn2, count=n) for n in (0, 1, 12))
    assert 50e-6 < empty < 200e-6
    assert one - empty > 1e-3
    assert twelve - one < 0.3 * one


def test_calls_timed_from_the_host_take_its_time_too() -> None:
    row = {"group": "p6b200_efa", "system": "p6-b200", "chip": "b200", "collective": "all_reduce", "ranks": 8}
    for size in (1024, 2**28):
        alone = value(**(row | {"group": "xla_hgx"}), size_bytes=size)
        assert value(**row, size_bytes=size) == pytest.approx(alone + 20e-6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"system": None}, "no system stated"),
        ({"system": "gb200-nvl73"}, "unknown system"),
        ({"size_bytes": None}, "no size or ranks stated"),
        ({"ranks": None}, "no size or ranks stated"),
        ({"collective": "gossip"}, "unknown collective"),
        ({"metric": "power_w"}, "no such figure"),
    ],
)
def test_what_cannot_be_said_is_skipped_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    (prediction,) = predict([row(**changes)], SETUP)
    assert prediction.skipped.startswith(reason)


def test_rows_together_equal_rows_alone() -> None:
    rows = read(find("collectives")[1])[::25]
    together = predict(rows, SETUP)
    for one, prediction in zip(rows, together, strict=True):
        (alone,) = predict([one], SETUP)
        assert (alone.value is None) == (prediction.value is None)
        if alone.value is not None:
            assert float(np.asarray(prediction.value)) == pytest.approx(float(np.asarray(alone.value)), rel=1e-12)


def test_changed_constants_come_back_on_their_axis() -> None:
    name = "interconnect/nvlink5.efficiency"
    setup = SETUP.replaced({name: np.array([[0.4], [0.8]])})
    (prediction,) = predict([row(size_bytes=1e10)], setup)
    slow, fast = np.asarray(prediction.value)
    assert slow == pytest.approx(2 * fast, rel=0.02)


def test_every_counted_row_is_predicted() -> None:
    rows = [r for r in read(find("collectives")[1]) if r.counted]
    skipped = {p.skipped for p in predict(rows, SETUP) if p.value is None}
    assert skipped == set()
