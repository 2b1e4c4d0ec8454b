"""The errors that AWS's simulator does not have: each names the kernel's file and line in one sentence."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError


def overflows_sbuf(x):
    """Four tiles of 80 KiB per partition are live together; SBUF has 256 KiB (NeuronCore-v4)."""
    out = nl.ndarray((128, 4, 20480), dtype=nl.float32, buffer=nl.shared_hbm)
    tiles = []
    for i in nl.affine_range(4):
        tile = nl.ndarray((128, 20480), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=i)  # here
        tiles.append(tile)
    for i in nl.affine_range(4):
        nisa.dma_copy(dst=out[:, i, :], src=tiles[i])
    return out


def reads_uninitialised_psum(x):
    """A sum starts from PSUM that no matmul wrote."""
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    accumulator = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
    tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=tile, src=accumulator)  # here
    nisa.dma_copy(dst=out, src=tile)
    return out


def races_a_dma(x):
    """Core 1 loads what core 0's DMA stores, and no barrier stands between."""
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=1.0)
    if nl.program_id(0) == 0:
        nisa.dma_copy(dst=out, src=tile)  # stores
    else:
        nisa.dma_copy(dst=tile, src=out)  # here
    return out


def starts_at_partition_32(x):
    """96 partitions from 32 on: more than 64 partitions start at 0."""
    tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=tile[32:128, :], value=0.0)  # here
    return x


def writes_out_of_bounds(x):
    """Columns 256 to 767 of a tensor of 512 columns."""
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=0.0)
    nisa.dma_copy(dst=out[:, 256:768], src=tile)  # here
    return out


def scatters_out_of_bounds(x):
    """The last index names a row that the output does not have."""
    out = nl.ndarray((8, 64), dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.ndarray((8, 64), dtype=nl.float32, buffer=nl.sbuf)
    index = nl.ndarray((8, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=0.0)
    nisa.iota(dst=index, pattern=[[1, 1]], offset=1, channel_multiplier=1)
    nisa.dma_copy(dst=out.ap([[64, 8], [1, 64]], vector_offset=index, indirect_dim=0), src=tile)  # here
    return out


def overlaps_an_address(x):
    """Two tensors at one address, both needed."""
    out = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.shared_hbm)
    a = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf, address=(0, 0))
    b = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf, address=(0, 128))
    nisa.memset(dst=a, value=1.0)
    nisa.memset(dst=b, value=2.0)
    nisa.tensor_tensor(dst=b, data1=a, data2=b, op=nl.add)  # here
    nisa.dma_copy(dst=out, src=b)
    return out


def line_of(kernel, comment="# here"):
    """Where the kernel's comment stands."""
    lines, first = inspect.getsourcelines(kernel)
    return first + next(i for i, line in enumerate(lines) if line.rstrip().endswith(comment))


@pytest.mark.parametrize(
    ("kernel", "rule", "sentence"),
    [
        (overflows_sbuf, "sbuf-capacity",
         "memset: SBUF bytes per partition of 4 tensors live here: 327680; expected at most 262144; largest: 4 x "
         "float32[128, 20480] of "),
        (reads_uninitialised_psum, "uninitialised-read", "tensor_copy, src: uninitialised psum read, "),
        (races_a_dma, "race", "dma_copy, float32[128, 512] of "),
        (starts_at_partition_32, "start-partition", "memset, dst: start partition of 96 partitions: 32; expected 0."),
        (writes_out_of_bounds, "view", "slice of dimension 1: '256:768'; expected a part of 0:512."),
        (scatters_out_of_bounds, "out-of-bounds", "dma_copy, dst: index out of bounds: 8; expected 0 to 7."),
        (overlaps_an_address, "overlap", "tensor_tensor, float32[128, 64] of "),
    ],
)  # fmt: skip
def test_one_clear_error_with_file_and_line(kernel, rule, sentence):
    cores = 2 if kernel is races_a_dma else 1
    with pytest.raises(NkiValidationError) as caught:
        nki.simulate(nki.jit(kernel)[cores], target="trn3")(np.zeros((128, 512), np.float32))
    error = caught.value
    assert str(error).startswith(f"{__file__}:{line_of(kernel)}: ")
    assert sentence in str(error)
    assert error.rule == rule
    assert str(error).count("\n") == 0


def test_a_race_names_both_lines():
    with pytest.raises(NkiValidationError) as caught:
        nki.simulate(nki.jit(races_a_dma)[2])(np.zeros((128, 512), np.float32))
    assert f"{__file__}:{line_of(races_a_dma, '# stores')} writes on core 0, in either order" in str(caught.value)


@pytest.mark.parametrize("kernel", [overflows_sbuf, races_a_dma, overlaps_an_address])
def test_without_values_too(kernel):
    cores = 2 if kernel is races_a_dma else 1
    with pytest.raises(NkiValidationError):
        nki.simulate(nki.jit(kernel)[cores], values=False)(np.zeros((128, 512), np.float32))


def barrier_between(x):
    """What ``races_a_dma`` should do."""
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=1.0)
    if nl.program_id(0) == 0:
        nisa.dma_copy(dst=out, src=tile)
    nisa.core_barrier(data=out, cores=(0, 1))
    if nl.program_id(0) == 1:
        nisa.dma_copy(dst=tile, src=out)
        nisa.tensor_copy(dst=tile, src=tile)
    return out


def test_the_profile_of_a_kernel_that_is_right():
    run = nki.simulate(nki.jit(barrier_between)[2], target="trn2")
    np.testing.assert_array_equal(run(np.zeros((128, 512), np.float32)), np.ones((128, 512), np.float32))
    assert run.profile.cores == 2
    assert run.profile.hbm_write_bytes == 128 * 2048
    assert [f.rule for f in run.profile.findings] == ["lnc-divergence"]
    again = nki.simulate(nki.jit(barrier_between)[2], target="trn2")
    again(np.zeros((128, 512), np.float32))
    assert again.profile == run.profile


def test_no_profile_before_a_run():
    with pytest.raises(Exception, match="expected a call of the kernel first"):
        _ = nki.simulate(nki.jit(barrier_between)).profile
