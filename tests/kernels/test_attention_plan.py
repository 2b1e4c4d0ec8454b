"""How the attention kernels cut and order their work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.kernels.attention_plan import COLUMNS, blocks, on_scalar, reach, schedule, sizes, steps, units


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_every_chunk_takes_every_step_once_and_in_order(counts):
    order = steps(tuple(counts))
    chunks = [(block, chunk) for block, count in enumerate(counts) for chunk in range(count)]
    at = {item: place for place, item in enumerate(order)}
    assert len(at) == len(order) == 4 * len(chunks)
    for block, chunk in chunks:
        known = at["scores", block, counts[block] - 1]
        assert known < at["exponentials", block, chunk] < at["turn", block, chunk] < at["values", block, chunk]
    for step in ("scores", "exponentials", "turn", "values"):
        assert [item[1:] for item in order if item[0] == step] == chunks


@given(st.integers(1, 20), st.integers(0, 40), st.booleans())
def test_blocks_cover_what_each_query_attends_to(queries, more, causal):
    size, keys = queries * 128, (queries + more) * 128
    covered = {}
    for block in blocks(1, size, keys, causal):
        assert block.first == (block.query not in covered)
        for chunk in block.keys:
            assert covered.get(block.query, 0) == chunk.start
            covered[block.query] = chunk.stop
        assert block.last == (covered[block.query] == reach(block.query, size, keys, causal))
        assert block.diagonal == (causal and block.last)
    assert covered == {query: reach(query, size, keys, causal) for query in range(queries)}


@given(st.integers(1, 12), st.integers(0, 12), st.booleans())
def test_units_cover_what_each_query_attends_to(queries, more, causal):
    size, keys = queries * 128, (queries + more) * 128
    covered, closed = {}, []
    for unit in units(1, size, keys, causal):
        assert unit.first == (unit.query not in covered)
        covered[unit.query] = covered.get(unit.query, 0) + unit.width
        assert unit.last == (covered[unit.query] == reach(unit.query, size, keys, causal))
        assert unit.diagonal == (causal and unit.last)
        closed += [unit.block] * unit.closes
    assert covered == {query: reach(query, size, keys, causal) for query in range(queries)}
    assert closed == list(range(-(-keys // 512)))


@given(st.integers(1, 128), st.integers(1, 1024))
def test_a_block_fits_a_bank_and_a_pass_the_partitions(rows, tiles):
    found = sizes(rows, tiles * 128)
    assert 1 <= found.tiles <= tiles
    assert found.tiles * rows <= 512
    assert found.pairs * rows <= 128
    assert found.pairs == 1 or found.pairs * tiles * rows <= COLUMNS


@pytest.mark.parametrize(("generation", "share"), [(2, 1), (3, 1 / 2), (4, 1)])
def test_copies_that_scalar_takes(generation, share):
    assert sum(on_scalar(generation, turn) for turn in range(12)) == 12 * share


def test_schedule_names_blocks():
    order = schedule(1, 256, 2048, True)
    assert [(step, block.query, chunk) for step, block, chunk in order[:4]] == [
        ("scores", 0, 0), ("scores", 0, 1), ("scores", 1, 0), ("exponentials", 0, 0)
    ]  # fmt: skip
    assert len(order) == 4 * 4
