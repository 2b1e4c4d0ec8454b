"""The scales of decode's cache, and what it reads."""

import numpy as np

import trainshed.nki as nki
from trainshed.kernels import attention
from trainshed.kernels.attention_decode import decode

BY_NAME = {item.name: item for item in attention.REFERENCES}


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
