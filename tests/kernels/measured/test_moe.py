"""Experts at decode: values, what is loaded, and sizes that do not fit."""

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.measured import moe


@pytest.mark.parametrize("tokens", [1, 6])
def test_dedupe(tokens, target, experts, rng, bf16, close):
    x, hit = bf16(tokens, experts.hidden) / 16, [3, 0, 4]
    gates = rng.random((3, tokens), np.float32)
    found = nki.simulate(moe.decode_dedupe, target=target)(x, experts.blobs, np.array([hit], np.int32), gates)
    wanted = sum(gates[j][:, None] * experts(e, x) for j, e in enumerate(hit))
    assert found.dtype == x.dtype
    close(found, wanted, 3.0)


def test_per_pair(target, experts, rng, bf16, close):
    x, topk = bf16(3, experts.hidden) / 16, 2
    hit = rng.integers(0, len(experts.weights), 3 * topk)
    gates = rng.random((3 * topk, 1), np.float32)
    found = nki.simulate(moe.decode_per_pair, target=target)(x, experts.blobs, hit[None, :].astype(np.int32), gates)
    wanted = np.concatenate(
        [sum(gates[j] * experts(hit[j], x[t : t + 1]) for j in range(t * topk, (t + 1) * topk)) for t in range(3)]
    )
    close(found, wanted, 3.0)


def test_each_job_loads_one_blob(experts, bf16):
    simulated = nki.simulate(moe.decode_dedupe, target="trn1", values=False)
    tokens, jobs = 4, 3
    x = bf16(tokens, experts.hidden)
    blobs = experts.blobs
    simulated(x, blobs, np.zeros((1, jobs), np.int32), np.zeros((jobs, tokens), np.float32))
    spread = 128 * jobs * tokens * 4
    assert simulated.profile.hbm_read_bytes == x.nbytes + 4 * jobs + spread + jobs * blobs[0].nbytes
    assert simulated.profile.matmul_flops == jobs * tokens * 2 * experts.hidden * 64 * (
        2 * 2 + 1
    )  # gate and up twice over


def test_random_blobs_keep_the_size_of_activations(rng, bf16):
    hidden, row = 512, 3 * 4 * 64 + 28
    made = moe.random_blobs(rng, 2, hidden, row)
    assert made.shape == (2, 128, row)
    x = bf16(4, hidden)
    found = nki.simulate(moe.decode_dedupe, target="trn1")(
        x, made, np.array([[0, 1]], np.int32), np.ones((2, 4), np.float32)
    )
    assert 0.2 < np.abs(found.astype(np.float32)).mean() < 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.zeros((129, 256))}, "tokens: 129; expected at most 128"),
        ({"x": np.zeros((1, 200))}, "hidden: 200; expected a multiple of 256"),
        ({"gates": np.zeros((2, 2))}, r"shape of gates: \(2, 2\); expected \(1, 1\)"),
        ({"blobs": np.zeros((2, 64, 408), np.uint8)}, "partitions of blobs: 64; expected 128"),
        ({"blobs": np.zeros((2, 128, 400), np.uint8)}, "bytes of a row of blobs: 400; expected at least 404"),
    ],
)
def test_sizes_that_do_not_fit(changed, message):
    arguments = {
        "x": np.zeros((1, 256)), "blobs": np.zeros((2, 128, 408), np.uint8), "experts": np.zeros((1, 1), np.int32),
        "gates": np.zeros((1, 1)), **changed,
    }  # fmt: skip
    arguments = {name: a.astype(np.float32) if a.dtype == float else a for name, a in arguments.items()}
    arguments["x"] = arguments["x"].astype(ml_dtypes.bfloat16)
    with pytest.raises(UserError, match=message):
        nki.simulate(moe.decode_dedupe, target="trn1", values=False)(**arguments)


def test_pairs_are_as_many_for_each_token():
    with pytest.raises(UserError, match="jobs: 3; expected a multiple of 2"):
        nki.simulate(moe.decode_per_pair, target="trn1", values=False)(
            np.zeros((2, 256), ml_dtypes.bfloat16), np.zeros((2, 128, 408), np.uint8), np.zeros((1, 3), np.int32),
            np.zeros((3, 1), np.float32),
        )  # fmt: skip
