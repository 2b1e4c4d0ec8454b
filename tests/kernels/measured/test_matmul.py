"""The tilings of the matrix product: values, and the traffic that each is for."""

import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.measured import matmul

KERNELS = [
    (matmul.tiled, {}, 1.0),
    (matmul.hoisted, {}, 1.0),
    (matmul.block_free, {}, 1.0),
    (matmul.blocked, {"tiles_in_block_m": 1, "tiles_in_block_n": 3, "tiles_in_block_k": 2}, 3.0),
    (matmul.blocked_wide, {"tiles_in_block_m": 1, "tiles_in_block_n": 3, "tiles_in_block_k": 2}, 1.0),
]
K, M, N = 512, 256, 1024


def run(kernel, lhsT, rhs, target="trn2", values=True, **options):
    simulated = nki.simulate(kernel, target=target, values=values)
    return simulated(lhsT, rhs, **options), simulated


@pytest.mark.parametrize(("kernel", "options", "steps"), KERNELS, ids=lambda v: getattr(v, "__name__", None))
def test_values(kernel, options, steps, target, bf16, close):
    lhsT, rhs = bf16(K, M), bf16(K, N)
    found, _ = run(kernel, lhsT, rhs, target, **options)
    assert found.dtype == lhsT.dtype
    close(found, lhsT.astype(np.float32).T @ rhs.astype(np.float32), steps)


def test_values_in_float32(rng):
    lhsT, rhs = rng.standard_normal((256, 128), np.float32), rng.standard_normal((256, 512), np.float32)
    for kernel in (matmul.tiled, matmul.blocked, matmul.blocked_wide):
        found, _ = run(kernel, lhsT, rhs)
        np.testing.assert_allclose(found, lhsT.T @ rhs, rtol=1e-4, atol=1e-4)


def test_what_each_tiling_loads(bf16):
    lhsT, rhs = bf16(K, M), bf16(K, N)
    left, right = lhsT.nbytes, rhs.nbytes
    tiles_m, tiles_n = M // 128, N // 512
    blocks = {"tiles_in_block_m": 1, "tiles_in_block_n": 1, "tiles_in_block_k": 2}
    wanted = {
        matmul.tiled: ({}, left * tiles_n + right * tiles_m),
        matmul.hoisted: ({}, left + right * tiles_m),
        matmul.block_free: ({}, left + right * tiles_m // 2),
        matmul.blocked: (blocks, left * tiles_n + right),
        matmul.blocked_wide: (blocks, left * tiles_n + right),
    }
    for kernel, (options, expected) in wanted.items():
        _, simulated = run(kernel, lhsT, rhs, values=False, **options)
        assert simulated.profile.hbm_read_bytes == expected, kernel.__name__


def counts(simulated):
    found = {}
    for record in simulated.launch.cores[0].instructions:
        found[record.opcode] = found.get(record.opcode, 0) + 1
    return found


def test_instructions_of_the_blocked_kernels(bf16):
    lhsT, rhs = bf16(K, M), bf16(K, N)
    blocks = {"tiles_in_block_m": 2, "tiles_in_block_n": 2, "tiles_in_block_k": 2}
    products, sums = (K // 128) * (M // 128) * (N // 512), 2 * (M // 128) * (N // 512)
    stores, block_loads = M // 128, 2 * 2 * 2
    packed = counts(run(matmul.blocked, lhsT, rhs, values=False, **blocks)[1])
    wide = counts(run(matmul.blocked_wide, lhsT, rhs, values=False, **blocks)[1])
    same = {"nc_matmul": products, "tensor_tensor": sums, "dma_copy": block_loads + stores}
    assert packed == {**same, "memset": 4, "tensor_copy": 4}
    assert wide == {**same, "memset": 2}


def test_block_sizes_are_caps(bf16):
    lhsT, rhs = bf16(384, 128), bf16(384, 512)
    small = counts(run(matmul.blocked_wide, lhsT, rhs, values=False, tiles_in_block_k=2)[1])
    assert small["tensor_tensor"] == 3


@pytest.mark.parametrize("kernel", [k for k, *_ in KERNELS], ids=lambda k: k.__name__)
@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ((130, 128), (130, 512), "K: 130; expected a multiple of 128"),
        ((128, 64), (128, 512), "M: 64; expected a multiple of 128"),
        ((128, 128), (128, 500), "N: 500; expected a multiple of 512"),
        ((128, 128), (256, 512), "K of rhs: 256; expected 128"),
    ],
)
def test_shapes_that_do_not_fit(kernel, left, right, message):
    with pytest.raises(UserError, match=rf"^kernels\.measured\.matmul\.{kernel.__name__}: {message}\.$"):
        run(kernel, np.zeros(left, np.float32), np.zeros(right, np.float32))


def test_blocks_of_free_dimensions_have_to_divide():
    with pytest.raises(UserError, match="block_free: N: 512; expected a multiple of 1024"):
        run(matmul.block_free, np.zeros((128, 256), np.float32), np.zeros((128, 512), np.float32))


def test_instructions_carry_lines_of_the_kernel(bf16):
    _, simulated = run(matmul.tiled, bf16(128, 128), bf16(128, 512), values=False)
    assert {record.source.file for record in simulated.launch.cores[0].instructions} == {matmul.__file__}
