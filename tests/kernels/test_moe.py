"""The MoE kernels: values at odd sizes on three generations, routing against NumPy, what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels import moe
from trainshed.kernels.moe_experts import combine, expert_rows, experts, few, layer, layer_few, routed
from trainshed.kernels.moe_route import dispatch, gates, most_blocks, route
from trainshed.nki.lint import lint

TARGETS = ("trn1", "trn2", "trn3")
BY_NAME = {item.name: item for item in moe.REFERENCES}
CASES = [(item, shape, "bf16") for item in moe.REFERENCES for shape in item.shapes]
CASES += [(item, item.shapes[0], "fp8") for item in moe.REFERENCES if "fp8" in item.dtypes]


def name(value):
    return getattr(value, "name", None) or ("x".join(map(str, value.values())) if isinstance(value, dict) else value)


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("item", "shape", "dtype"), CASES, ids=name)
def test_values(item, shape, dtype, target, rng):
    inputs = item.inputs(shape, dtype, rng)
    found = nki.simulate(item.kernel, target=target)(**inputs)
    assert item.error(found, item.reference(inputs)) < item.tolerance[dtype]


def run_dispatch(chosen, count, rows, target="trn2"):
    found = nki.simulate(dispatch, target=target)(chosen, count, rows)
    for one, wanted in zip(found, moe.plan(chosen, count, rows), strict=True):
        np.testing.assert_array_equal(one, wanted)


@pytest.mark.parametrize("target", TARGETS)
def test_dispatch(target, rng):
    for tokens, count, top, rows in ((200, 8, 2, 128), (5, 16, 3, 128), (257, 4, 1, 256)):
        shape = {"tokens": tokens, "experts": count, "top": top}
        run_dispatch(moe.drawn_routing(rng, shape)[0], count, rows, target)


def test_dispatch_of_one_favoured_expert():
    chosen = np.full((400, 1), 3, np.uint32)
    run_dispatch(chosen, 6, 128)


@pytest.mark.parametrize("target", TARGETS)
def test_gates(target, rng):
    for tokens, count, top in ((4, 32, 2), (128, 8, 3), (1, 1, 1)):
        chosen, weights = moe.drawn_routing(rng, {"tokens": tokens, "experts": count, "top": top})
        found = nki.simulate(gates, target=target)(chosen, weights, count)
        for one, wanted in zip(found, moe.hit(chosen, weights, count), strict=True):
            np.testing.assert_array_equal(one, wanted)


def test_plan_gives_each_token_a_row_in_a_block_of_its_expert(rng):
    shape = {"tokens": 300, "experts": 8, "top": 2}
    chosen, _ = moe.drawn_routing(rng, shape)
    positions, source, block_expert, blocks = moe.plan(chosen, 8, 128)
    assert len(np.unique(positions)) == positions.size
    np.testing.assert_array_equal(source.reshape(-1)[positions], np.arange(300)[:, None].repeat(2, 1))
    np.testing.assert_array_equal(block_expert[positions // 128, 0], chosen)
    assert positions.max() < blocks[0, 0] * 128


@given(st.integers(1, 500), st.integers(1, 8), st.integers(1, 16), st.sampled_from([128, 256, 512]), st.data())
def test_most_blocks_are_enough(tokens, top, count, rows, data):
    top = min(top, count)
    pairs = tokens * top
    cuts = sorted(data.draw(st.lists(st.integers(0, pairs), min_size=count - 1, max_size=count - 1)))
    loads = np.diff([0, *cuts, pairs])
    assert sum(-(-load // rows) for load in loads) <= most_blocks(tokens, top, count, rows)


@pytest.mark.parametrize(
    ("tokens", "features", "hidden", "rows"),
    [(1024, 4096, 40960, 128), (1024, 4096, 1792, 256), (400, 4096, 1792, 128), (512, 2048, 768, 256)],
)
def test_rows_of_a_block(tokens, features, hidden, rows):
    assert expert_rows(tokens, 8, 2, features, hidden) == rows


def test_expected_blocks_are_the_mean_of_drawn_ones(rng):
    for tokens, count, top, rows in ((300, 8, 2, 128), (4, 16, 2, 128), (500, 4, 4, 256)):
        shape = {"tokens": tokens, "experts": count, "top": top}
        drawn = [moe.plan(moe.drawn_routing(rng, shape)[0], count, rows)[3][0, 0] for _ in range(60)]
        assert abs(moe.expected_blocks(tokens, count, top, rows) - np.mean(drawn)) < 0.6


def test_only_experts_that_are_hit_are_read(rng):
    shape = {"tokens": 4, "experts": 16, "top": 2, "features": 256, "hidden": 128}
    inputs = BY_NAME["moe.few"].inputs(shape, "bf16", rng)
    simulated = nki.simulate(few, target="trn2", values=False)
    simulated(**inputs)
    each = (inputs["gate_up"].nbytes + inputs["down"].nbytes) // 16
    read = {item.name: item.read_bytes for item in simulated.profile.tensors}
    assert read["gate_up"] + read["down"] == each * int(inputs["count"][0, 0])


def test_a_prompt_reads_an_expert_once_per_block(rng):
    shape = {"tokens": 300, "experts": 4, "top": 2, "features": 256, "hidden": 128}
    inputs = BY_NAME["moe.routed"].inputs(shape, "bf16", rng)
    simulated = nki.simulate(routed, target="trn2", values=False)
    simulated(**inputs)
    each = (inputs["gate_up"].nbytes + inputs["down"].nbytes) // 4
    read = {item.name: item.read_bytes for item in simulated.profile.tensors}
    assert read["gate_up"] + read["down"] == each * int(inputs["blocks"][0, 0])


def test_combine_adds_up_rows(rng):
    y = rng.standard_normal((3, 128, 128)).astype(np.float16)
    positions = rng.permutation(384)[:150].reshape(50, 3).astype(np.int32)
    weights = rng.random((50, 3)).astype(np.float32)
    found = nki.simulate(combine, target="trn3")(y, positions, weights)
    wanted = (y.reshape(384, 128).astype(float)[positions] * weights[..., None]).sum(axis=1)
    np.testing.assert_allclose(found.astype(float), wanted, atol=3e-3)


F16, U32, I32, F32 = np.float16, np.uint32, np.int32, np.float32


@pytest.mark.parametrize(
    ("kernel", "arguments", "message"),
    [
        (route, (((100, 4), F16), ((100, 8), F16), 2), "route: features of xT: 100; expected a multiple of 128"),
        (route, (((128, 4), F16), ((256, 8), F16), 2), "route: features of router: 256; expected 128"),
        (route, (((128, 4), F16), ((128, 8), F16), 9), "route: top: 9; expected 1 to 8"),
        (route, (((128, 4), F16), ((128, 600), F16), 2), "route: experts of router: 600; expected at most 512"),
        (dispatch, (((4, 2), U32), 8, 200), "dispatch: rows: 200; expected a power of two, at least 128"),
        (dispatch, (((4, 2), U32), 600, 128), "dispatch: experts: 600; expected 1 to 512"),
        (gates, (((200, 2), U32), ((200, 2), F32), 8), "gates: tokens of chosen: 200; expected at most 128"),
        (gates, (((4, 2), U32), ((4, 1), F32), 8), "gates: shape of weights"),
        (
            experts,
            (((4, 128), F16), ((2, 1, 128, 2, 1, 128), F16), ((2, 128, 128), F16), ((3, 640, 1), I32), ((3, 1), I32),
             ((1, 1), I32)),
            "experts: rows of source: 640; expected at most 512",
        ),
        (combine, (((1, 128, 8), F16), ((4, 2), I32), ((4, 3), F32)), "combine: shape of weights"),
        (
            few,
            (((128, 4), F16), ((2, 1, 128, 2, 1, 128), F16), ((2, 128, 128), F16), ((4, 3), F32), ((2, 1), I32),
             ((1, 1), I32)),
            "few: shape of gate",
        ),
    ],
)  # fmt: skip
def test_refuses(kernel, arguments, message):
    given_ = [item if isinstance(item, int) else np.zeros(*item) for item in arguments]
    with pytest.raises(UserError, match=rf"^kernels\.moe\.{message}"):
        nki.simulate(kernel, target="trn2")(*given_)


def test_compiles():
    """Nothing that the compiler's subset of Python lacks."""
    for kernel in (route, dispatch, gates, experts, combine, few, routed, layer, layer_few):
        assert lint(kernel) == ()
