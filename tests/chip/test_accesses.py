"""Regions as bytes: against NumPy's view of the same pattern."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.accesses import accesses, columns_of, extent, meet, region_runs, union
from trainshed.chip.record import Region
from trainshed.chip.words import MemoryRegion


@st.composite
def regions(draw, buffer=MemoryRegion.private_hbm):
    """A region of at most four dimensions; strides may be 0, repeat, or overlap."""
    dtype = draw(st.sampled_from(["uint8", "bfloat16", "float32"]))
    pattern = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=4))
    return Region(0, buffer, dtype, draw(st.integers(0, 7)), tuple(pattern))


def byte_set(region):
    """The bytes of a region, one element after the other."""
    size = {"uint8": 1, "bfloat16": 2, "float32": 4}[region.dtype]
    places = np.full(1, region.offset)
    for stride, count in region.pattern:
        places = (places[:, None] + stride * np.arange(count)).reshape(-1)
    return {int(place) * size + b for place in places for b in range(size)}


@given(regions())
def test_runs_are_the_bytes_of_the_pattern(region):
    starts, stops = region_runs(region)
    expected = byte_set(region)
    assert {b for a, z in zip(starts, stops, strict=True) for b in range(a, z)} == expected
    assert extent(region) == (min(expected), max(expected) + 1)
    low, high = union(starts, stops)
    assert int((high - low).sum()) == len(expected)
    assert (low[1:] > high[:-1]).all()


def test_a_negative_stride_runs_backwards():
    region = Region(0, MemoryRegion.private_hbm, "float32", 6, ((-2, 3),))
    starts, stops = region_runs(region)
    assert sorted(zip(starts.tolist(), stops.tolist(), strict=True)) == [(8, 12), (16, 20), (24, 28)]
    assert extent(region) == (8, 28)


def test_on_chip_regions_are_partitions_and_columns():
    # Rows of 16 float32; partitions 2, 4, 6 and columns 3, 5 of an array of 8 partitions.
    region = Region(0, MemoryRegion.sbuf, "float32", 2 * 16 + 3, ((32, 3), (2, 2)))
    assert columns_of(region, 64) == (slice(2, 7, 2), [(12, 16), (20, 24)])


def test_a_broadcast_over_partitions_is_one_partition():
    region = Region(0, MemoryRegion.sbuf, "float32", 16, ((0, 128), (1, 16)))
    assert columns_of(region, 64) == (slice(1, 2, 1), [(0, 64)])


@given(regions(), regions())
def test_regions_meet_where_they_share_a_byte(one, two):
    assert meet(one, two) == bool(byte_set(one) & byte_set(two))
    assert not meet(one, two._replace(storage=1))


def test_forms_and_parts_number_what_is_equal():
    """Forms are equal but for storage and offset, parts but for storage."""

    def kernel(a):
        for start in (0, 8, 0):
            tile = nl.ndarray((8, 16), dtype=nl.float32, buffer=nl.sbuf)
            nisa.memset(tile[:, start : start + 8], value=0.0)
        nisa.memset(tile[:, 0:4], value=0.0)
        return a

    run = nki.simulate(kernel, target="trn2", values=False)
    run(np.zeros((8, 16), np.float32))
    columns = accesses(run.launch.cores[0])
    for numbers, key in ((columns.forms, lambda r: (r[1:3], r[4:])), (columns.parts, lambda r: r[1:])):
        for i, one in enumerate(columns.regions):
            for j, two in enumerate(columns.regions):
                assert (numbers[i] == numbers[j]) == (key(one) == key(two))
    assert columns.forms.tolist()[:3] == [columns.forms[0]] * 3
