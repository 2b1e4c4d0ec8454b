"""Experts at prefill: how tokens are grouped, values, and sizes that do not fit."""

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.measured import moe_prefill

EXPERTS = 5


def choose(rng, tokens, topk, experts=EXPERTS):
    return np.stack([rng.permutation(experts)[:topk] for _ in range(tokens)])


@pytest.mark.parametrize(("tokens", "rows"), [(3, 16), (100, 64), (900, 128)])
def test_every_choice_has_its_place(tokens, rows, rng):
    chosen = choose(rng, tokens, 2)
    numbers, members, places = moe_prefill.grouped(chosen, EXPERTS)
    assert members.shape == (rows, numbers.size)
    assert len(np.unique(places)) == 2 * tokens
    block, row = np.divmod(places, rows)
    np.testing.assert_array_equal(numbers[0, block], chosen)
    np.testing.assert_array_equal(members[row, block], np.arange(tokens)[:, None] + 0 * places)


def test_values(target, experts, rng, bf16, close):
    tokens, topk = 150, 2
    x, chosen = bf16(tokens, experts.hidden) / 16, choose(rng, tokens, topk)
    numbers, members, places = moe_prefill.grouped(chosen, EXPERTS)
    by_token = rng.random((tokens, topk), np.float32)
    gates = np.zeros(members.shape, np.float32)
    block, row = np.divmod(places, members.shape[0])
    gates[row, block] = by_token
    found = nki.simulate(moe_prefill.prefill, target=target)(x, experts.blobs, numbers, members, gates, places)
    every = np.stack([experts(e, x) for e in range(EXPERTS)])
    wanted = sum(by_token[:, k : k + 1] * every[chosen[:, k], np.arange(tokens)] for k in range(topk))
    close(found, wanted, 4.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"members": (130, 2), "gates": (130, 2)}, "rows of a block: 130; expected at most 128"),
        ({"experts": (1, 3)}, r"shape of experts: \(1, 3\); expected \(1, 2\)"),
        ({"gates": (16, 3)}, r"shape of gates: \(16, 3\); expected \(16, 2\)"),
        ({"places": (4, 2)}, "tokens of places: 4; expected 5"),
    ],
)
def test_sizes_that_do_not_fit(changed, message):
    shapes = {"experts": (1, 2), "members": (16, 2), "gates": (16, 2), "places": (5, 2), **changed}
    kinds = {"gates": np.float32}
    arrays = {name: np.zeros(shape, kinds.get(name, np.int32)) for name, shape in shapes.items()}
    with pytest.raises(UserError, match=message):
        nki.simulate(moe_prefill.prefill, target="trn1", values=False)(
            np.zeros((5, 512), ml_dtypes.bfloat16), np.zeros((EXPERTS, 128, 3 * 4 * 64 + 28), np.uint8), **arrays
        )
