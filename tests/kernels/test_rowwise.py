"""Elementwise kernels: values, how elements are cut, what engines share."""

import ml_dtypes
import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.rowwise import add, cast, copy, rope, silu_gate

BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("name", ["copy", "cast", "add", "silu_gate", "rope"])
def test_values(holds, name, target):
    holds(f"rowwise.{name}", target)


@pytest.mark.parametrize("size", [1, 127, 128 * 2048 + 130, 3 * 128 * 2048])
def test_any_number_of_elements(rng, size):
    x = rng.standard_normal(size).astype(np.float32)
    for lnc in (1, 2):
        np.testing.assert_array_equal(nki.simulate(copy[lnc])(x), x)
        np.testing.assert_array_equal(nki.simulate(add[lnc])(x, x), 2 * x)


def test_a_partition_moves_one_piece_of_hbm(recorded):
    x = np.zeros((4, 128, 2048), BF16)
    work = [i.work for i in recorded(add, x, x).launch.cores[0].instructions if "descriptors" in i.work]
    assert {(item["descriptors"], item["descriptor_bytes"]) for item in work} == {(128, 4096)}
    assert recorded(copy, x).profile.hbm_read_bytes == x.nbytes


def test_engines_take_turns(recorded):
    x = np.zeros((4, 128, 2048), BF16)
    engines = [
        i.engine.name for i in recorded(cast, x, "float32").launch.cores[0].instructions if "bytes" not in i.work
    ]
    assert engines == ["vector", "scalar"] * 2


def test_cast_rounds(rng):
    x = rng.standard_normal((3, 50)).astype(np.float32)
    np.testing.assert_array_equal(nki.simulate(cast)(x, "bfloat16"), x.astype(BF16))


def test_rope_keeps_lengths_and_relative_angles(rng):
    """Scores of rotated vectors depend on the distance of their tokens alone."""
    tokens, dim = 12, 16
    angles = np.arange(tokens)[:, None] * 0.3 ** np.arange(dim // 2)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    q, k = (np.repeat(rng.standard_normal((1, 1, dim)).astype(np.float32), tokens, axis=0) for _ in range(2))
    run = nki.simulate(rope, target="trn2")
    left, right = run(q, cos, sin)[:, 0], run(k, cos, sin)[:, 0]
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), np.linalg.norm(q[:, 0], axis=1), rtol=1e-5)
    scores = left @ right.T
    for distance in range(1, 6):
        np.testing.assert_allclose(np.diag(scores, distance), scores[0, distance], rtol=1e-4, atol=1e-4)


def test_two_cores_share_the_tokens(rng):
    x = rng.standard_normal((131, 2, 8)).astype(np.float32)
    cos, sin = (rng.standard_normal((131, 4)).astype(np.float32) for _ in range(2))
    np.testing.assert_array_equal(nki.simulate(rope[2])(x, cos, sin), nki.simulate(rope)(x, cos, sin))
    one = nki.simulate(rope[2])(x[:1], cos[:1], sin[:1])
    np.testing.assert_array_equal(one, nki.simulate(rope)(x[:1], cos[:1], sin[:1]))


@pytest.mark.parametrize(
    ("kernel", "shapes", "message"),
    [
        (add, [(2, 3), (3, 2)], r"add: second operand: \(\(3, 2\), 'bfloat16'\); expected \(\(2, 3\), 'bfloat16'\)"),
        (silu_gate, [(2, 3), (6,)], r"silu_gate: second operand: \(\(6,\), 'bfloat16'\)"),
        (rope, [(2, 3), (2, 1), (2, 1)], "rope: dimensions of x: 2; expected 3"),
        (rope, [(2, 3, 5), (2, 2), (2, 2)], "rope: dim: 5; expected even"),
        (rope, [(2, 3, 4), (2, 2), (1, 2)], r"rope: shape of sin: \(1, 2\); expected \(2, 2\)"),
    ],
)
def test_arguments_that_do_not_fit(kernel, shapes, message):
    with pytest.raises(UserError, match=f"kernels.rowwise.{message}"):
        nki.simulate(kernel, target="trn2")(*[np.zeros(shape, BF16) for shape in shapes])
