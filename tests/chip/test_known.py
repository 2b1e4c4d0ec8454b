"""Trip counts of a run without values: an argument's numbers through copies, and nothing that was computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError

COUNTS = np.arange(64, dtype=np.int32).reshape(8, 8)


def looped(register):
    """So many instructions as a register says."""
    tile = nl.ndarray((128, 8), nl.float32, nl.sbuf)
    nisa.memset(tile, 0.0)
    for _ in nl.dynamic_range(register):
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)


def loaded(tensor):
    register = nisa.register_alloc()
    nisa.register_load(register, tensor)
    return register


def instructions(kernel, *arrays, values, lnc=1):
    run = nki.simulate(nki.jit(kernel)[lnc], target="trn2", values=values)
    run(*arrays)
    return [[item.key() for item in core.instructions] for core in run.launch.cores], run


@given(st.integers(0, 7), st.integers(0, 7), st.integers(1, 3), st.booleans())
@settings(max_examples=20, deadline=None)
def test_copies_lead_to_the_argument_s_number(row, column, copies, turned):
    def kernel(counts):
        source = counts.permute((1, 0)) if turned else counts
        for _ in range(copies):  # in HBM, where a register may be loaded from any row
            tile = nl.ndarray((8, 8), nl.int32, nl.private_hbm)
            nisa.dma_copy(dst=tile, src=source)
            source = tile
        # Only a part of it is written over.
        nisa.dma_copy(dst=tile[4:8, 2:6], src=counts[4:8, 1:5])
        looped(loaded(tile[row : row + 1, column : column + 1]))

    expected, _ = instructions(kernel, COUNTS, values=True)
    found, run = instructions(kernel, COUNTS, values=False)
    assert found == expected
    assert run.timing.seconds > 0


def test_an_argument_is_read_where_it_lies():
    def kernel(counts):
        looped(loaded(counts[2:3, 3:4]))

    found, _ = instructions(kernel, COUNTS, values=False)
    assert sum(key[2] == "tensor_scalar" for key in found[0]) == 19


def computed(counts):
    tile = nl.ndarray((8, 8), nl.int32, nl.sbuf)
    nisa.dma_copy(dst=tile, src=counts)
    nisa.tensor_scalar(tile[:, 3:4], tile[:, 3:4], nl.add, 1)
    return tile


def overwritten(counts):
    """An argument that the kernel has written to is no argument any more."""
    tile = nl.ndarray((8, 8), nl.int32, nl.sbuf)
    nisa.memset(tile, 2)
    nisa.dma_copy(dst=counts, src=tile)
    return counts


def cast(counts):
    tile = nl.ndarray((8, 8), nl.float32, nl.sbuf)
    nisa.dma_copy(dst=tile, src=counts)
    return tile


def gathered(counts):
    index = nl.ndarray((8, 1), nl.uint32, nl.sbuf)
    nisa.memset(index, 0)
    tile = nl.ndarray((8, 8), nl.int32, nl.sbuf)
    nisa.dma_copy(dst=tile, src=counts.ap([[8, 8], [1, 8]], vector_offset=index, indirect_dim=0))
    return tile


@pytest.mark.parametrize("made", [computed, overwritten, cast, gathered])
def test_what_was_computed_is_not_known_and_the_error_says_what_to_do(made):
    def kernel(counts):
        looped(loaded(made(counts)[0:1, 3:4]))

    with pytest.raises(NkiValidationError, match=r"or a run with values=True \(--values\)") as error:
        instructions(kernel, COUNTS.copy(), values=False)
    assert error.value.rule == "no-values"
    instructions(kernel, COUNTS.copy(), values=True)


def test_elements_beside_a_computed_one_are_known():
    def kernel(counts):
        looped(loaded(computed(counts)[0:1, 4:5]))

    assert instructions(kernel, COUNTS, values=False)[0] == instructions(kernel, COUNTS, values=True)[0]


def test_both_cores_know_their_argument():
    def kernel(counts):
        tile = nl.ndarray((8, 8), nl.int32, nl.sbuf)
        nisa.dma_copy(dst=tile, src=counts)
        looped(loaded(tile[0:1, 5:6]))

    expected, _ = instructions(kernel, COUNTS, values=True, lnc=2)
    assert instructions(kernel, COUNTS, values=False, lnc=2)[0] == expected
