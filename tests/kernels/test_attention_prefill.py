"""How prefill orders its work, what it computes, and what it loads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trainshed.nki as nki
from trainshed.kernels import attention
from trainshed.kernels.attention_prefill import blocks, on_scalar, prefill, reach, steps


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_every_chunk_takes_every_step_once_and_in_order(counts):
    order = steps(counts)
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


def run(shape, causal, target="trn2"):
    inputs = attention.REFERENCES[0].inputs(shape, "bf16", np.random.default_rng(1))
    simulated = nki.simulate(prefill, target=target, values=False)
    simulated(**{**inputs, "causal": causal})
    return simulated, inputs


def macs(simulated):
    items = simulated.launch.cores[0].instructions
    return sum(item.work.get("macs", 0) for item in items if not item.attributes.get("transpose"))


def test_causal_leaves_out_what_is_above_the_diagonal():
    shape = {"heads": 1, "kv_heads": 1, "queries": 1536, "keys": 1536, "d": 128}
    whole, _ = run(shape, False)
    half, _ = run(shape, True)
    tiles = 12
    assert macs(whole) == 2 * 128**3 * tiles**2
    masks = tiles
    assert macs(half) == 2 * 128**3 * tiles * (tiles + 1) // 2 + 128**3 * masks


def test_everything_is_read_once_in_long_rows():
    simulated, inputs = run({"heads": 4, "kv_heads": 2, "queries": 1024, "keys": 2048, "d": 128}, False)
    assert simulated.profile.hbm_read_bytes == sum(inputs[name].nbytes for name in ("qT", "kT", "v"))
    moves = [item.work for item in simulated.launch.cores[0].instructions if item.engine.name == "dma"]
    assert min(work["descriptor_bytes"] for work in moves) >= 2048
    assert simulated.profile.psum_peak_banks <= 8


@pytest.mark.parametrize(("generation", "share"), [(2, 1), (3, 1 / 2), (4, 1)])
def test_copies_that_scalar_takes(generation, share):
    assert sum(on_scalar(generation, turn) for turn in range(12)) == 12 * share
