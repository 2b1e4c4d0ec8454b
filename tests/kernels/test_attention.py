"""The attention kernels: values at odd sizes on three generations, and what they refuse."""

import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels import attention
from trainshed.kernels.attention_backward import backward
from trainshed.kernels.attention_decode import decode
from trainshed.kernels.attention_prefill import prefill
from trainshed.nki.lint import lint

CASES = [(item, shape, "bf16") for item in attention.REFERENCES for shape in item.shapes]
CASES += [(item, item.shapes[0], "fp8") for item in attention.REFERENCES if "fp8" in item.dtypes]
BY_NAME = {item.name: item for item in attention.REFERENCES}


def name(value):
    return getattr(value, "name", None) or ("x".join(map(str, value.values())) if isinstance(value, dict) else value)


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(("item", "shape", "dtype"), CASES, ids=name)
def test_values(item, shape, dtype, target, rng):
    inputs = item.inputs(shape, dtype, rng)
    found = nki.simulate(item.kernel, target=target)(**inputs)
    assert item.error(found, item.reference(inputs)) < item.tolerance[dtype]


@pytest.mark.parametrize(
    ("key", "sizes"),
    [
        ("prefill_causal", (3, 1, 128, 256, 32)), ("backward", (4, 2, 128, 128, 32)),
        ("backward_causal", (1, 1, 128, 128, 32)), ("decode", (3, 4, 1, 256, 32)),
    ],
)  # fmt: skip
def test_two_cores_share_the_heads(key, sizes, rng):
    item = BY_NAME[f"attention.{key}"]
    inputs = item.inputs(dict(zip(item.axes, sizes, strict=True)), "bf16", rng)
    simulated = nki.simulate(item.kernel[2], target="trn2")
    assert item.error(simulated(**inputs), item.reference(inputs)) < item.tolerance["bf16"]
    assert not [item for item in simulated.profile.findings if "race" in item.rule]


def test_half_precision(rng):
    item = BY_NAME["attention.prefill_causal"]
    inputs = item.inputs(item.shapes[0], "fp16", rng)
    found = nki.simulate(item.kernel, target="trn2")(**inputs)
    assert item.error(found, item.reference(inputs)) < item.tolerance["fp16"]


@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_large_scores_keep_their_sum(target, rng):
    """Scores of several hundred, and a later section that outweighs the one before."""
    item = BY_NAME["attention.prefill"]
    inputs = dict(item.inputs({"heads": 1, "kv_heads": 1, "queries": 128, "keys": 4224, "d": 64}, "bf16", rng))
    inputs["kT"][:, :, 4100:] *= 8
    inputs |= {"scale": 1.0, "with_lse": True}
    found = nki.simulate(prefill, target=target)(**inputs)
    wanted = item.reference(inputs)
    assert item.error(found, wanted) < 2**-6
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-5)


def test_reference_is_softmax_of_a_row(rng):
    inputs = BY_NAME["attention.prefill_causal"].inputs(
        {"heads": 2, "kv_heads": 1, "queries": 128, "keys": 256, "d": 8}, "bf16", rng
    )
    wanted = BY_NAME["attention.prefill_causal"].reference(inputs)[0]
    q, k = inputs["qT"][1, :, 5].astype(float), inputs["kT"][0].astype(float)
    weights = np.exp((q @ k)[: 128 + 6] / 8**0.5)
    v = attention.untiled(inputs["v"])[0, : 128 + 6].astype(float)
    np.testing.assert_allclose(wanted[1, 5, 0], weights @ v / weights.sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qT": (2, 64, 130)}, "queries of qT: 130; expected a multiple of 128"),
        ({"qT": (2, 129, 128)}, "d of qT: 129; expected at most 128"),
        ({"qT": (3, 64, 128)}, "heads of qT: 3; expected a multiple of 2"),
        ({"qT": (2, 64, 256)}, "keys of kT: 128; expected at least the 256 queries: causal"),
        ({"kT": (2, 64, 100)}, "keys of kT: 100; expected a multiple of 128"),
        ({"kT": (2, 32, 128)}, "d of kT: 32; expected 64"),
        ({"v": (2, 128, 2, 64)}, r"shape of v: \(2, 128, 2, 64\); expected \(2, 128, 1, 64\)"),
        ({"v": (2, 128, 64)}, r"shape of v: \(2, 128, 64\)"),
        ({"qT": (64, 128)}, "dimensions of qT: 2; expected 3"),
    ],
)
def test_prefill_refuses(change, message):
    shapes = {"qT": (2, 64, 128), "kT": (2, 64, 128), "v": (2, 128, 1, 64), **change}
    with pytest.raises(UserError, match=rf"^kernels\.attention\.prefill: {message}"):
        nki.simulate(prefill, target="trn2")(**{key: np.zeros(shape, np.float16) for key, shape in shapes.items()})


SHAPES = {
    "qT": (4, 64, 256), "q": (4, 128, 2, 64), "kT": (2, 64, 256), "k": (2, 128, 2, 64), "vT": (2, 64, 256),
    "doT": (4, 64, 256), "do": (4, 128, 2, 64), "o": (4, 128, 2, 64), "lse": (4, 128, 2),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": (4, 128, 1, 64)}, r"shape of q: \(4, 128, 1, 64\); expected \(4, 128, 2, 64\)"),
        ({"doT": (4, 64, 128)}, r"shape of doT: \(4, 64, 128\); expected \(4, 64, 256\)"),
        ({"lse": (4, 2, 128)}, "shape of lse"),
        ({"kT": (3, 64, 256)}, "heads of qT: 4; expected a multiple of 3"),
        ({"kT": (2, 64, 128), "vT": (2, 64, 128), "k": (2, 128, 1, 64)}, "keys of kT: 128; expected at least the 256"),
        ({"kT": (2, 64, 65536), "vT": (2, 64, 65536), "k": (2, 128, 512, 64)}, "bytes per partition of sums"),
    ],
)
def test_backward_refuses(change, message):
    shapes = {**SHAPES, **change}
    inputs = {key: np.zeros(shape, np.float32 if key == "lse" else np.float16) for key, shape in shapes.items()}
    with pytest.raises(UserError, match=rf"^kernels\.attention\.backward: {message}"):
        nki.simulate(backward, target="trn2")(**inputs)


CACHE = {"qT": (64, 2, 2, 6), "kT": (2, 2, 64, 256), "v": (2, 2, 256, 64)}


@pytest.mark.parametrize(
    ("change", "tokens", "message"),
    [
        ({}, 4, "tokens: 4; expected a divisor of the 6 rows"),
        ({}, 0, "tokens: 0"),
        ({"kT": (2, 2, 64, 200)}, 1, "keys of kT: 200; expected a multiple of 128"),
        ({"qT": (64, 2, 2, 200)}, 1, "rows of qT: 200; expected at most 128"),
        ({"v": (2, 2, 64, 256)}, 1, r"shape of v: \(2, 2, 64, 256\); expected \(2, 2, 256, 64\)"),
        ({"kT": (2, 1, 64, 256)}, 1, "shape of kT"),
        ({"qT": (1, 1, 1, 128), "kT": (1, 1, 1, 16512), "v": (1, 1, 16512, 1)}, 1, r"keys of kT / 128 \* rows of qT"),
    ],
)
def test_decode_refuses(change, tokens, message):
    inputs = {key: np.zeros(shape, np.float16) for key, shape in {**CACHE, **change}.items()}
    with pytest.raises(UserError, match=rf"^kernels\.attention\.decode: {message}"):
        nki.simulate(decode, target="trn2")(**inputs, tokens=tokens)


def test_compiles():
    """Nothing that the compiler's subset of Python lacks."""
    for kernel in (prefill, backward, decode):
        assert lint(kernel) == ()
