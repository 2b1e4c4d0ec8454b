"""How decode cuts heads and keys, the scales of its cache, and what it reads."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import trainshed.nki as nki
from trainshed.kernels import attention
from trainshed.kernels.attention_decode import COLUMNS, decode, sizes

BY_NAME = {item.name: item for item in attention.REFERENCES}


@given(st.integers(1, 128), st.integers(1, 1024))
def test_a_block_fits_a_bank_and_a_pass_the_partitions(rows, tiles):
    found = sizes(rows, tiles * 128)
    assert 1 <= found.tiles <= tiles
    assert found.tiles * rows <= 512
    assert found.pairs * rows <= 128
    assert found.pairs == 1 or found.pairs * tiles * rows <= COLUMNS


def test_scales_of_a_stored_cache():
    item = BY_NAME["attention.decode"]
    inputs = {**item.inputs(item.shapes[0], "fp8", np.random.default_rng(5)), "k_scale": 0.25, "v_scale": 3.0}
    found = nki.simulate(decode, target="trn2")(**inputs)
    assert item.error(found, item.reference(inputs)) < item.tolerance["fp8"]


def test_the_cache_is_read_once_in_long_rows():
    shape = {"sequences": 2, "heads": 8, "kv_heads": 1, "keys": 4096, "d": 128}
    inputs = BY_NAME["attention.decode"].inputs(shape, "fp8", np.random.default_rng(5))
    simulated = nki.simulate(decode, target="trn3", values=False)
    simulated(**inputs)
    assert simulated.profile.hbm_read_bytes == sum(inputs[name].nbytes for name in ("qT", "kT", "v"))
    moves = [item.work for item in simulated.launch.cores[0].instructions if item.engine.name == "dma"]
    assert all(work["descriptor_bytes"] >= 4096 for work in moves if work["bytes"] > 1 << 16)
    assert simulated.profile.psum_peak_banks <= 8
