"""Addresses by liveness: closed forms, laws, and the capacity error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.chip.allocate import allocate
from trainshed.chip.call import Call
from trainshed.chip.core import NeuronCore, Options, enter, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.words import MemoryRegion, engine
from trainshed.numerics.formats import DType


def use(reads=(), writes=()):
    """One instruction that touches tensors, as a record alone."""
    return Call("touch").issue(engine.vector, tuple(reads), tuple(writes))


def tiles(core, count, shape=(128, 512), buffer="sbuf", **where):
    """``count`` float32 tensors."""
    return [core.allocate(shape, DType("float32"), MemoryRegion(buffer), **where) for _ in range(count)]


def test_tiles_live_together_lie_side_by_side(core):
    a, b, c = tiles(core, 3)
    for tile in (a, b, c):
        use(writes=[tile])
    use(reads=[a, b, c])
    result = allocate(core)
    assert [result.addresses[t.storage.serial] for t in (a, b, c)] == [(0, 0), (0, 2048), (0, 4096)]
    assert result.sbuf.occupied.tolist() == [2048, 4096, 6144, 6144]
    assert result.sbuf.peak == 6144
    assert result.psum.peak == 0


def test_a_dead_tile_gives_its_place_back(core):
    a, b, c = tiles(core, 3)
    use(writes=[a])
    use(reads=[a], writes=[b])
    use(reads=[b], writes=[c])
    use(reads=[c])
    result = allocate(core)
    assert result.addresses[c.storage.serial] == result.addresses[a.storage.serial] == (0, 0)
    assert result.sbuf.occupied.tolist() == [2048, 4096, 4096, 2048]


def test_life_starts_at_the_first_write_and_unused_tensors_take_nothing(core):
    a, unused = tiles(core, 2)
    for _ in range(3):
        use()
    use(writes=[a])
    result = allocate(core)
    assert result.sbuf.occupied.tolist() == [0, 0, 0, 2048]
    assert unused.storage.serial not in result.addresses


def test_psum_tensors_start_at_banks_and_may_span_them(core):
    small, wide, other = tiles(core, 1, (128, 8), "psum") + tiles(core, 1, (128, 513), "psum") + tiles(
        core, 1, (128, 512), "psum"
    )  # fmt: skip
    use(writes=[small, wide, other])
    result = allocate(core)
    assert {result.addresses[t.storage.serial] for t in (small, wide, other)} == {(0, 0), (0, 4096), (0, 6144)}
    assert result.psum.peak == 4


def test_eight_banks_fit_and_nine_do_not(core):
    banks = tiles(core, 8, buffer="psum")
    use(writes=banks)
    assert allocate(core).psum.peak == 8
    use(writes=[*banks, *tiles(core, 1, buffer="psum")])
    with pytest.raises(NkiValidationError, match=r"test_allocate.py:\d+: touch: PSUM banks of 9 tensors live here: 9; "
                       r"expected at most 8; largest: ") as error:  # fmt: skip
        allocate(core)
    assert error.value.rule == "psum-capacity"
    assert error.value.source == core.instructions[-1].source


@pytest.mark.parametrize(("chip", "row"), [("trn1", 192 * 1024), ("trn2", 192 * 1024), ("trn3", 256 * 1024)])
def test_sbuf_overflows_by_generation(make_core, chip, row):
    core = make_core(chip)
    have = core.target.sbuf_row
    assert have >= row
    fits = tiles(core, 1, (128, have // 8)) + tiles(core, 1, (128, have // 8))
    use(writes=fits)
    assert allocate(core).sbuf.peak == have
    one = tiles(core, 1, (128, 1))
    use(writes=[*one, *fits])
    with pytest.raises(NkiValidationError) as error:
        allocate(core)
    assert error.value.rule == "sbuf-capacity"
    assert error.value.value == have + 4
    assert f"float32[128, {have // 8}] of " in str(error.value)


def test_narrow_tiles_lie_side_by_side_when_they_must(core):
    quarter = core.target.sbuf_row // 4  # elements: a whole partition row of float32
    narrow = tiles(core, 4, (32, quarter))
    use(writes=narrow)
    result = allocate(core)
    assert sorted(result.addresses.values()) == [(0, 0), (32, 0), (64, 0), (96, 0)]
    assert result.findings == ()
    use(writes=[*narrow, *tiles(core, 1, (1, 1))])
    with pytest.raises(NkiValidationError, match="SBUF"):
        allocate(core)


def test_explicit_addresses_stay_and_are_avoided(core):
    (fixed,) = tiles(core, 1, address=(0, 1024))
    (auto,) = tiles(core, 1)
    use(writes=[fixed])
    use(writes=[auto])
    use(reads=[fixed, auto])
    result = allocate(core)
    assert result.addresses == {fixed.storage.serial: (0, 1024), auto.storage.serial: (0, 3072)}
    assert result.sbuf.peak == 4096


def test_a_later_explicit_tensor_is_avoided_as_well(core):
    (auto,), (fixed,) = tiles(core, 1), tiles(core, 1, address=(0, 0))
    use(writes=[auto])
    use(writes=[fixed])
    use(reads=[auto, fixed])
    assert allocate(core).addresses[auto.storage.serial] == (0, 2048)


def test_one_explicit_place_used_by_turns_counts_once(core):
    a, b = tiles(core, 2, address=(0, 0))
    use(writes=[a])
    use(writes=[b])
    use(reads=[a])
    assert allocate(core).sbuf.occupied.tolist() == [2048, 2048, 2048]


def test_explicit_tensors_do_not_overflow_by_sharing_a_place(core):
    row = core.target.sbuf_row // 4
    a, b = tiles(core, 2, (128, row), address=(0, 0))
    use(writes=[a])
    use(writes=[b])
    use(reads=[a])
    assert allocate(core).sbuf.peak == core.target.sbuf_row


def test_holes_are_a_finding_where_what_is_live_fits(core):
    """Fixed tensors leave two halves of a hole: what is live fits, but in no one place."""
    half = core.target.sbuf_row // 2
    tiles_ = tiles(core, 1, (128, half // 8), address=(0, half * 3 // 4)) + tiles(core, 1, (128, half * 7 // 32))
    use(writes=tiles_)
    result = allocate(core)
    assert [f.rule for f in result.findings] == ["sbuf-fragmentation"]
    assert result.findings[0].source == tiles_[1].storage.source


def test_a_better_order_is_found_where_first_fit_fails(core):
    """Small, short-lived tensors first would leave no hole for the large one."""
    row = core.target.sbuf_row // 4
    unit = row // 4
    short, long, large = (tiles(core, 1, (128, n))[0] for n in (unit, unit, 3 * unit))
    use(writes=[short])
    use(reads=[short], writes=[long])
    use(reads=[long], writes=[large])
    use(reads=[large, long])
    result = allocate(core)
    assert result.findings == ()
    places = result.addresses
    assert places[large.storage.serial][1] + 12 * unit <= 16 * unit
    assert result.sbuf.peak == 16 * unit


# --- laws -----------------------------------------------------------------------------------------------------

SIZES = st.sampled_from([1, 3, 64, 512, 1500])


@st.composite
def programs(draw):
    """Tensors (partitions, columns, place or None) and which of them each instruction touches."""
    shapes = draw(
        st.lists(st.tuples(st.sampled_from([1, 32, 64, 96, 128]), SIZES, st.booleans()), min_size=1, max_size=12)
    )
    places = [(0, draw(st.integers(0, 20)) * 256) if fixed else None for _, _, fixed in shapes]
    touched = draw(st.lists(st.lists(st.integers(0, len(shapes) - 1), max_size=3), min_size=1, max_size=25))
    return shapes, places, touched


def run(program, buffer="sbuf", order=None):
    """The allocation of a program; ``order`` is the order of the ndarray calls."""
    shapes, places, touched = program
    core = NeuronCore(target("trn2"), Options())
    enter(core)
    try:
        tensors = {}
        for i in order or range(len(shapes)):
            partitions, columns, _ = shapes[i]
            tensors[i] = tiles(core, 1, (partitions, columns), buffer, address=places[i])[0]
        for names in touched:
            use(writes=[tensors[i] for i in names])
        return core, {i: t.storage.serial for i, t in tensors.items()}, allocate(core)
    finally:
        enter(None)


@settings(deadline=None)
@given(programs())
def test_no_two_live_tensors_overlap_and_the_peak_is_no_less_than_what_is_live(program):
    shapes, places, touched = program
    _, serials, result = run(program)
    life = {i: [t for t, names in enumerate(touched) if i in names] for i in range(len(shapes))}
    used = [i for i in life if life[i]]
    assert sorted(result.addresses) == sorted(serials[i] for i in used)
    for i in used:
        partition, offset = result.addresses[serials[i]]
        assert partition % 32 == 0
        assert offset % 4 == 0
        assert places[i] in (None, (partition, offset))
        for k in used:
            if k <= i or (places[i] and places[k]):
                continue  # explicit ones may overlap: that is the kernel's doing
            together = life[i][0] <= life[k][-1] and life[k][0] <= life[i][-1]
            p, o = result.addresses[serials[k]]
            apart = offset + shapes[i][1] * 4 <= o or o + shapes[k][1] * 4 <= offset
            assert not together or apart or partition + shapes[i][0] <= p or p + shapes[k][0] <= partition
    moments = range(len(touched))
    if not any(places):
        live = [sum(shapes[i][1] * 4 for i in used if life[i][0] <= t <= life[i][-1]) for t in moments]
        assert result.sbuf.occupied.tolist() == live
    highest = max((result.addresses[serials[i]][1] + shapes[i][1] * 4 for i in used), default=0)
    assert result.sbuf.peak <= highest


@settings(deadline=None)
@given(programs(), st.randoms(use_true_random=False))
def test_the_order_of_ndarray_calls_does_not_change_the_peaks(program, random):
    order = list(range(len(program[0])))
    random.shuffle(order)
    _, _, one = run(program)
    _, _, two = run(program, order=order)
    assert one.sbuf.peak == two.sbuf.peak
    np.testing.assert_array_equal(one.sbuf.occupied, two.sbuf.occupied)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 1200), st.integers(0, 6)), min_size=1, max_size=20))
def test_psum_banks_live_are_those_of_the_live_tensors(items):
    """Each tensor lives ``length`` instructions longer than the one that writes it."""
    core = NeuronCore(target("trn2"), Options())
    enter(core)
    try:
        tensors = tiles(core, 0)
        for columns, _ in items:
            tensors.append(tiles(core, 1, (128, columns), "psum")[0])
        ends = [min(i + length, len(items) - 1) for i, (_, length) in enumerate(items)]
        for t in range(len(items)):
            use(reads=[tensors[i] for i in range(t) if ends[i] == t], writes=[tensors[t]])
        live = [
            sum(-(-items[i][0] * 4 // 2048) for i in range(len(items)) if i <= t <= ends[i]) for t in range(len(items))
        ]
        if max(live) > 8:
            with pytest.raises(NkiValidationError) as error:
                allocate(core)
            assert error.value.rule == "psum-capacity"
            return
        result = allocate(core)
        assert result.findings or result.psum.occupied.tolist() == live
    finally:
        enter(None)
