"""The gradients against differences of the loss, and what TensorE does for them."""

import numpy as np

import trainshed.nki as nki
from trainshed.kernels import attention, attention_backward
from trainshed.kernels.attention_backward import backward

BY_NAME = {item.name: item for item in attention.REFERENCES}


def test_reference_is_the_slope_of_the_loss():
    """Differences of sum(o * do) over single elements of q, k and v."""
    rng = np.random.default_rng(3)
    shape = {"heads": 2, "kv_heads": 1, "queries": 128, "keys": 128, "d": 4}
    inputs = BY_NAME["attention.backward_causal"].inputs(shape, "bf16", rng)
    found = [attention.untiled(item) for item in BY_NAME["attention.backward_causal"].reference(inputs)]
    rows = {name: attention.untiled(inputs[name]).astype(float) for name in ("q", "k", "do")}
    rows["v"] = inputs["vT"].transpose(0, 2, 1).astype(float)

    def loss(**changed):
        at = {**rows, **changed}
        given_ = {"qT": attention.turned(at["q"]), "kT": attention.turned(at["k"]), "v": attention.tiled(at["v"])}
        return (attention.untiled(BY_NAME["attention.prefill_causal"].reference(given_)[0]) * at["do"]).sum()

    for name, gradient in zip(("q", "k", "v"), found, strict=True):
        step = np.zeros_like(rows[name])
        step[0, 17, 2] = 1e-4
        slope = (loss(**{name: rows[name] + step}) - loss(**{name: rows[name] - step})) / 2e-4
        np.testing.assert_allclose(gradient[0, 17, 2], slope, rtol=1e-5, atol=1e-8)


def test_one_turn_of_a_tile_and_five_products():
    shape = {"heads": 1, "kv_heads": 1, "queries": 512, "keys": 1024, "d": 128}
    inputs = BY_NAME["attention.backward"].inputs(shape, "bf16", np.random.default_rng(1))
    simulated = nki.simulate(backward, target="trn2", values=False)
    simulated(**inputs)
    items = [item for item in simulated.launch.cores[0].instructions if item.engine.name == "tensor"]
    turned = [item for item in items if item.attributes.get("transpose")]
    assert len(turned) == 4 * 8
    assert sum(item.work["macs"] for item in items if "macs" in item.work) == 5 * 128**3 * 4 * 8
    reads = sum(inputs[name].nbytes for name in ("qT", "q", "doT", "do", "o", "lse", "kT", "k", "vT"))
    assert simulated.profile.hbm_read_bytes == reads
    assert simulated.profile.psum_peak_banks <= 8


def test_values_of_more_queries_than_stay(monkeypatch):
    monkeypatch.setattr(attention_backward, "RESIDENT", 512)
    item = BY_NAME["attention.backward_causal"]
    inputs = item.inputs(
        {"heads": 2, "kv_heads": 1, "queries": 640, "keys": 1152, "d": 32}, "bf16", np.random.default_rng(2)
    )
    simulated = nki.simulate(backward, target="trn2")
    assert item.error(simulated(**inputs), item.reference(inputs)) < item.tolerance["bf16"]
    read = {item.name: item.read_bytes for item in simulated.profile.tensors}
    assert read["qT"] == 3 * inputs["qT"].nbytes
    assert read["o"] == inputs["o"].nbytes
