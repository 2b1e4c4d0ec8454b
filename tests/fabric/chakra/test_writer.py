"""Files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.chakra import Builder, Call, write
from trainshed.fabric.chakra.wire import read_chunk
from trainshed.fabric.chakra.writer import whole_micros


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 1e-3)), max_size=30))
def test_sums_of_whole_microseconds_are_right_to_one(rows: list[tuple[int, float]]) -> None:
    rows.sort(key=lambda row: row[0])
    rank = np.array([r for r, _ in rows], dtype=np.int64)
    seconds = np.array([s for _, s in rows], dtype=np.float64)
    micros = whole_micros(seconds, rank)
    assert (micros >= 0).all()
    for one in np.unique(rank):
        exact, rounded = np.cumsum(seconds[rank == one] * 1e6), np.cumsum(micros[rank == one])
        assert np.abs(exact - rounded).max() <= 0.5 + 1e-6


def test_what_astra_sim_reads(chakra: dict[str, Any], tmp_path: Path) -> None:
    made = Builder(name="t", ranks=4)
    for rank in range(4):
        a = made.compute(rank, "a", 12e-6)
        pair = made.group([rank // 2 * 2, rank // 2 * 2 + 1])
        b = made.collective(rank, "b", Call(kind="all_gather"), 4096.0, pair, [a])
        made.send(rank, "s", 64.0, rank ^ 1, 5, [b])
        made.receive(rank, "r", 64.0, rank ^ 1, 5)
    write(made.trace(), tmp_path / "x")
    data, at, bodies = (tmp_path / "x" / "t.3.et").read_bytes(), 0, []
    while at < len(data):
        body, at = read_chunk(data, at)
        bodies.append(body)
    assert chakra["Header"].FromString(bodies[0]).version
    nodes = [chakra["Node"].FromString(b) for b in bodies[1:]]
    assert [(n.id, n.type, list(n.data_deps), n.duration_micros) for n in nodes] == [
        (0, 4, [], 12), (1, 7, [0], 0), (2, 5, [1], 0), (3, 6, [], 0),
    ]  # fmt: skip
    said = [{a.name: getattr(a, a.WhichOneof("value")) for a in n.attr} for n in nodes]
    assert said[1] == {"is_cpu_op": False, "comm_type": 2, "comm_size": 2048, "pg_name": "2"}
    assert said[2] == {"is_cpu_op": False, "comm_size": 64, "comm_src": 3, "comm_dst": 2, "comm_tag": 5}
    assert said[3] == {"is_cpu_op": False, "comm_size": 64, "comm_src": 2, "comm_dst": 3, "comm_tag": 5}


def test_a_collective_that_chakra_has_not(tmp_path: Path) -> None:
    made = Builder(name="t", ranks=2)
    for rank in range(2):
        made.collective(rank, "p", Call(kind="permute"), 8.0, made.group([0, 1]))
    with pytest.raises(UserError, match="no Chakra node for it: 'permute'"):
        write(made.trace(), tmp_path / "x")
