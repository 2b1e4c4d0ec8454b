"""``collective replay``'s answer, end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trainshed.core import UserError
from trainshed.fabric import Group, collective
from trainshed.fabric.chakra import Builder, Call, replay, write
from trainshed.hardware import Catalogue

SYSTEM = Catalogue().system("trn3-gen2")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Eight ranks that compute for a millisecond, then add up 1 GiB, twice."""
    made = Builder(name="steps", ranks=8)
    for rank in range(8):
        last: list[int] = []
        for _ in range(2):
            last = [made.compute(rank, "work", 1e-3, last)]
            last = [made.collective(rank, "sum", Call(kind="all_reduce"), 2.0**30, made.group(range(8)), last)]
    write(made.trace(), tmp_path / "traces")
    return tmp_path / "traces"


def test_total_is_the_sum_where_nothing_overlaps(directory: Path) -> None:
    once = collective("all_reduce", size=2.0**30, group=Group(ranks=8), levels=SYSTEM.levels)
    found = replay(directory, SYSTEM)
    figures = json.loads(json.dumps(found.to_json("0")))["result"]
    assert figures["time_s"] == pytest.approx(2 * (1e-3 + float(once.time.value)))
    assert figures["compute_s"] == {"mean": 2e-3, "least": 2e-3, "most": 2e-3}
    assert figures["exposed_s"]["mean"] == pytest.approx(2 * float(once.time.value))
    assert figures["collectives"]["all_reduce"]["calls"] == 2
    assert figures["collectives"]["all_reduce"]["bytes"] == 2.0**31
    assert (figures["ranks"], figures["nodes"], len(figures["ranks_s"]["idle"])) == (8, 32, 8)
    assert any("closed forms" in str(a.value) for a in found.assumptions)


def test_ranks_of_one_chip_share_it(directory: Path) -> None:
    assert replay(directory, SYSTEM, ranks_per_chip=4).inputs["chips"] == 2
    assert replay(directory, SYSTEM, ranks_per_chip=4).result["time_s"] != replay(directory, SYSTEM).result["time_s"]


def test_bad_requests(directory: Path) -> None:
    with pytest.raises(UserError, match="recorded or roofline"):
        replay(directory, SYSTEM, compute="guessed")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 1"):
        replay(directory, SYSTEM, ranks_per_chip=0)
    with pytest.raises(UserError, match="a trace of more ranks than the system has: 8; expected at most 4 ranks"):
        replay(directory, replace(SYSTEM, max_chips=4))
