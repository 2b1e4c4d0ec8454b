"""Kernels that only move bytes."""

import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.core.errors import UserError
from trainshed.kernels.measured import dma


def test_loads(target, rng):
    x = rng.integers(0, 255, (384, 48), np.uint8)
    simulated = nki.simulate(dma.loads, target=target)
    np.testing.assert_array_equal(simulated(x), x[256:257])
    assert simulated.profile.hbm_read_bytes == x.nbytes
    works = [record.work for record in simulated.launch.cores[0].instructions]
    assert [(w["descriptors"], w["descriptor_bytes"]) for w in works] == [(128, 48)] * 3 + [(1, 48)]


def test_indirect_loads(target, rng):
    blocks, numbers = rng.integers(0, 255, (5, 128, 24), np.uint8), np.array([[4, 0, 2]], np.int32)
    simulated = nki.simulate(dma.indirect_loads, target=target)
    np.testing.assert_array_equal(simulated(blocks, numbers), blocks[2, :1])
    assert simulated.profile.hbm_read_bytes == 3 * 128 * 24 + numbers.nbytes
    modes = [record.attributes["dge_mode"] for record in simulated.launch.cores[0].instructions]
    assert modes == ["unknown", "swdge", "swdge", "swdge", "unknown"]


def test_sizes_that_do_not_fit():
    with pytest.raises(UserError, match=r"dma\.loads: rows: 130; expected a multiple of 128"):
        nki.simulate(dma.loads)(np.zeros((130, 4), np.uint8))
    with pytest.raises(UserError, match=r"dma\.loads: dimensions of x: 3; expected 2"):
        nki.simulate(dma.loads)(np.zeros((1, 128, 4), np.uint8))
    with pytest.raises(UserError, match="partitions of blocks: 64; expected 128"):
        nki.simulate(dma.indirect_loads)(np.zeros((2, 64, 4), np.uint8), np.zeros((1, 1), np.int32))
    with pytest.raises(UserError, match="dimensions of blocks: 2; expected 3"):
        nki.simulate(dma.indirect_loads)(np.zeros((128, 4), np.uint8), np.zeros((1, 1), np.int32))
