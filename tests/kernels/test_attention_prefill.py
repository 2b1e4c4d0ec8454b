"""What prefill computes and what it loads."""

import numpy as np

import trainshed.nki as nki
from trainshed.kernels import attention
from trainshed.kernels.attention_prefill import prefill


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
