"""What prefill computes and what it loads."""

import numpy as np

import trainshed.nki as nki
from trainshed.kernels import attention, attention_prefill
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


def test_values_of_more_keys_than_stay(monkeypatch):
    """Two groups of queries that each read the keys again, in two sections."""
    monkeypatch.setattr(attention_prefill, "RESIDENT", 1024)
    item = attention.REFERENCES[1]
    inputs = item.inputs(
        {"heads": 2, "kv_heads": 1, "queries": 1152, "keys": 4352, "d": 16}, "bf16", np.random.default_rng(2)
    )
    simulated = nki.simulate(prefill, target="trn2")
    assert item.error(simulated(**inputs), item.reference(inputs)) < item.tolerance["bf16"]
    read = {item.name: item.read_bytes for item in simulated.profile.tensors}
    assert read["qT"] == inputs["qT"].nbytes
    assert 3.9 * inputs["kT"].nbytes < read["kT"] <= 4 * inputs["kT"].nbytes
