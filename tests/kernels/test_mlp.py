"""The MLP: values at odd sizes on three generations, what it reads, what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels import mlp
from trainshed.kernels.mlp_swiglu import block_rows, down_columns, swiglu
from trainshed.nki.lint import lint

(ITEM,) = mlp.REFERENCES


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(
    ("shape", "dtype"), [*((shape, "bf16") for shape in ITEM.shapes), (ITEM.shapes[1], "fp8")],
    ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value.values())),
)  # fmt: skip
def test_values(shape, dtype, target, rng):
    inputs = ITEM.inputs(shape, dtype, rng)
    found = nki.simulate(swiglu, target=target)(**inputs)
    assert ITEM.error(found, ITEM.reference(inputs)) < ITEM.tolerance[dtype]


def test_packed_is_what_the_kernel_says(rng):
    gate, up = rng.standard_normal((2, 384, 256))
    weights = mlp.packed(gate, up)
    assert weights.shape == (2, 128, 2, 3, 128)
    assert weights[1, 5, 0, 2, 7] == gate[5 * 3 + 2, 128 + 7]
    assert weights[0, 9, 1, 1, 3] == up[9 * 3 + 1, 3]
    for found, wanted in zip(mlp.unpacked(weights), (gate, up), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_weights_of_many_experts_are_packed_each_by_itself(rng):
    gate, up = rng.standard_normal((2, 3, 256, 128))
    np.testing.assert_array_equal(mlp.packed(gate, up)[2], mlp.packed(gate[2], up[2]))
    np.testing.assert_array_equal(mlp.unpacked(mlp.packed(gate, up))[1], up)


def test_reference_of_one_row(rng):
    inputs = ITEM.inputs({"rows": 1, "features": 128, "hidden": 128}, "bf16", rng)
    gate, up = (item.astype(float) for item in mlp.unpacked(inputs["gate_up"]))
    x, total = inputs["xT"][:, 0].astype(float), np.zeros(128)
    for unit in range(128):
        signal = x @ gate[:, unit]
        total += signal / (1 + np.exp(-signal)) * (x @ up[:, unit]) * inputs["down"][unit].astype(float)
    np.testing.assert_allclose(ITEM.reference(inputs)[0][0], total, rtol=1e-10)


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 224))
def test_blocks_have_room_and_are_few(rows, features, hidden):
    size = block_rows(rows, features * 128, hidden * 128, 2)
    if not size:
        assert 128 * (features + hidden) * 2 + 4 * features * 128 * 2 > 160 << 10
        return
    assert size <= 512
    assert (features + hidden) * size * 2 + 2 * 2 * features * 128 * 2 <= 160 << 10 or size < 128
    count = -(-rows // size)
    assert count == 1 or size < 128 or size % 128 == 0
    assert rows > (count - 1) * size
    assert -(-size // 128) * down_columns(size) <= 8 * 512


def test_each_block_reads_the_weights_once_in_long_rows(rng):
    inputs = ITEM.inputs({"rows": 700, "features": 1024, "hidden": 512}, "bf16", rng)
    simulated = nki.simulate(swiglu, target="trn2", values=False)
    simulated(**inputs)
    weights = inputs["gate_up"].nbytes + inputs["down"].nbytes
    assert simulated.profile.hbm_read_bytes == inputs["xT"].nbytes + 2 * weights
    assert simulated.profile.psum_peak_banks <= 8
    items = simulated.launch.cores[0].instructions
    assert not any(item.attributes.get("transpose") for item in items)


def test_rows_of_every_dma_are_long(rng):
    inputs = ITEM.inputs({"rows": 3, "features": 1024, "hidden": 512}, "bf16", rng)
    simulated = nki.simulate(swiglu, target="trn2", values=False)
    simulated(**inputs)
    items = simulated.launch.cores[0].instructions
    moves = [item.work for item in items if item.engine.name == "dma" and item.work["bytes"] > 1 << 15]
    assert len(moves) == 4 + 1
    assert min(work["descriptor_bytes"] for work in moves) >= 2048


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xT": (200, 4)}, "features: 200; expected a multiple of 128"),
        ({"down": (200, 256)}, "hidden features of down: 200; expected a multiple of 128"),
        ({"gate_up": (2, 128, 2, 1, 128)}, "shape of gate_up"),
        ({"down": (256, 128)}, r"shape of down: \(256, 128\); expected \(256, 256\)"),
        ({"xT": (256,)}, "dimensions of xT: 1; expected 2"),
    ],
)
def test_refuses(change, message):
    shapes = {"xT": (256, 4), "gate_up": (2, 128, 2, 2, 128), "down": (256, 256), **change}
    with pytest.raises(UserError, match=rf"^kernels\.mlp\.swiglu: {message}"):
        nki.simulate(swiglu, target="trn2")(**{key: np.zeros(shape, np.float16) for key, shape in shapes.items()})


def test_no_room():
    with pytest.raises(UserError, match="features and hidden features"):
        nki.simulate(swiglu, target="trn2", values=False)(
            np.zeros((128, 1), np.float16), np.zeros((700, 128, 2, 1, 128), np.float16),
            np.zeros((700 * 128, 128), np.float16),
        )  # fmt: skip


def test_compiles():
    """Nothing that the compiler's subset of Python lacks."""
    for kernel in (swiglu,):
        assert lint(kernel) == ()
