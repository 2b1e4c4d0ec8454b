"""Random instructions: distributions, seeds, states, lanes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.random import dropout, rand2, rand_get_state, rand_set_state, rng, set_rng_seed
from trainshed.chip.words import engine

VECTOR, GPSIMD = engine.vector, engine.gpsimd


def _xorwow(state, count):
    """Marsaglia's XORWOW in Python's integers: ``count`` words of one generator."""
    x, y, z, w, v, d = (int(word) for word in state)
    words = []
    for _ in range(count):
        t = x ^ (x >> 2)
        x, y, z, w = y, z, w, v
        v = (v ^ (v << 4) ^ (t ^ (t << 1))) & 0xFFFFFFFF
        d = (d + 362437) & 0xFFFFFFFF
        words.append((v + d) & 0xFFFFFFFF)
    return words, [x, y, z, w, v, d]


def _draw(core, empty, values, on=VECTOR, count=9, lanes=4, dtype="uint32"):
    dst = empty((lanes, count), dtype)
    rng(dst, engine=on)
    return values(dst)


@pytest.mark.parametrize(("on", "ways"), [(GPSIMD, 1), (VECTOR, 4)])
def test_xorwow_from_a_loaded_state(core, tile, empty, values, on, ways):
    seeds = np.random.default_rng(3).integers(1, 2**32, (128, 6 * ways), dtype=np.uint32)
    rand_set_state(tile(seeds), engine=on)
    found = _draw(core, empty, values, on, count=10, lanes=128)
    after = empty((128, 6 * ways), "uint32")
    rand_get_state(after, engine=on)
    for lane in (0, 1, 77, 127):
        steps = -(-10 // ways)
        drawn = [_xorwow(seeds[lane, 6 * way : 6 * way + 6], steps) for way in range(ways)]
        assert found[lane].tolist() == [drawn[i % ways][0][i // ways] for i in range(10)]
        assert values(after)[lane].tolist() == [word for _, state in drawn for word in state]


@pytest.mark.parametrize(("chip", "on"), [("trn1", VECTOR), ("trn2", VECTOR), ("trn2", GPSIMD), ("trn3", VECTOR),
                                          ("trn3", GPSIMD)])  # fmt: skip
def test_words_are_uniform_and_differ_by_lane_and_time(make_core, empty, values, chip, on):
    core = make_core(chip)
    first = _draw(core, empty, values, on, count=512, lanes=128)
    second = _draw(core, empty, values, on, count=512, lanes=128)
    bits = np.unpackbits(first.view(np.uint8)).mean()
    assert abs(bits - 0.5) < 0.002
    assert np.unique(np.concatenate((first, second))).size > 131072 - 40
    assert abs(np.corrcoef(first[0], first[1])[0, 1]) < 0.2


@pytest.mark.parametrize("chip", ["trn1", "trn2", "trn3"])
def test_a_seed_repeats_the_sequence(make_core, tile, empty, values, chip):
    core = make_core(chip)
    seed = tile(np.array([[42]], np.int32))
    set_rng_seed(seed)
    first, second = _draw(core, empty, values), _draw(core, empty, values)
    set_rng_seed(seed)
    assert (_draw(core, empty, values) == first).all()
    assert (first != second).any()
    set_rng_seed(tile(np.array([[43]], np.uint32)))
    assert (_draw(core, empty, values) != first).any()


@pytest.mark.parametrize("chip", ["trn2", "trn3"])
def test_one_draw_of_many_is_many_draws(make_core, tile, empty, values, chip):
    core = make_core(chip)
    seed = tile(np.array([[5]], np.int32))
    set_rng_seed(seed)
    whole = _draw(core, empty, values, count=24)
    set_rng_seed(seed)
    parts = [_draw(core, empty, values, count=count) for count in (4, 8, 12)]
    assert (np.concatenate(parts, axis=1) == whole).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_narrow_types_take_the_lowest_bits(core, tile, empty, values, dtype):
    seed = tile(np.array([[9]], np.int32))
    set_rng_seed(seed)
    wide = _draw(core, empty, values)
    set_rng_seed(seed)
    narrow = _draw(core, empty, values, dtype=dtype)
    assert (narrow.view(f"u{narrow.itemsize}") == wide.astype(f"u{narrow.itemsize}")).all()


def test_lanes_are_partitions_and_others_stay(core, empty, values):
    before = empty((128, 24), "uint32")
    rand_get_state(before, engine=VECTOR)
    whole = empty((128, 8), "uint32")
    rng(whole[64:96])
    after = empty((128, 24), "uint32")
    rand_get_state(after, engine=VECTOR)
    changed = (values(before) != values(after)).any(axis=1)
    assert changed.nonzero()[0].tolist() == list(range(64, 96))


def test_engines_have_generators_of_their_own(core, tile, empty, values):
    set_rng_seed(tile(np.array([[1]], np.int32)))
    before = _draw(core, empty, values)
    set_rng_seed(tile(np.array([[1]], np.int32)))
    _draw(core, empty, values, GPSIMD)
    assert (_draw(core, empty, values) == before).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3"])
def test_rand2_is_uniform_between_its_limits(core, empty, values, dtype):
    dst = empty((128, 512), dtype)
    record = rand2(dst, -2.0, 6.0)
    found = values(dst).astype(np.float64)
    assert (record.engine, record.work["elements"]) == (VECTOR, 512)
    assert found.min() >= -2
    assert found.max() <= 6
    assert abs(found.mean() - 2) < 0.05
    assert abs(found.var() - 64 / 12) < 0.1


def test_rand2_with_a_limit_for_each_partition(core, tile, empty, values):
    low = np.arange(64, dtype=np.float32)[:, None]
    dst = empty((64, 3, 5))
    rand2(dst, tile(low), tile(low + 1))
    found = values(dst)
    assert (found >= low[:, :, None]).all()
    assert (found <= low[:, :, None] + 1).all()
    assert np.unique(found).size > 900


def test_rand2_rounds_to_integers(core, empty, values):
    dst = empty((16, 64), "int8")
    rand2(dst, 0.0, 10.0)
    assert set(np.unique(values(dst))) == set(range(11))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_dropout_drops_its_share_and_scales_nothing(core, tile, empty, values, dtype, prob):
    data = np.full((128, 512), 3).astype(dtype if dtype != "bfloat16" else np.float32)
    dst = empty((128, 512), dtype)
    record = dropout(dst, tile(data, dtype), prob)
    found = values(dst).astype(np.float64)
    assert set(np.unique(found)) <= {0.0, 3.0}
    assert abs((found == 0).mean() - prob) < 0.01
    assert record.engine is VECTOR


def test_dropout_by_partition(core, tile, empty, values):
    dst = empty((4, 256))
    dropout(dst, tile(np.ones((4, 256), np.float32)), tile(np.float32([[0], [1], [0.5], [0]])))
    assert values(dst).mean(axis=1)[[0, 1, 3]].tolist() == [1, 0, 1]
    assert 0.3 < values(dst)[2].mean() < 0.7


@pytest.mark.parametrize(("chip", "rule", "call"), [
    ("trn3", "dtype", lambda t, e: rng(e((4, 4), "float32"))),
    ("trn1", "generation", lambda t, e: rng(e((4, 4), "int32"), engine=GPSIMD)),
    ("trn3", "gpsimd-psum", lambda t, e: rng(e((4, 4), "int32", "psum"), engine=GPSIMD)),
    ("trn3", "engine", lambda t, e: rng(e((4, 4), "int32"), engine=engine.scalar)),
    ("trn2", "generation", lambda t, e: rand2(e((4, 4)), 0.0, 1.0)),
    ("trn3", "range", lambda t, e: rand2(e((4, 4)), 1.0, 1.0)),
    ("trn3", "dtype", lambda t, e: rand2(e((4, 4), "float8_e4m3fn_x4"), 0.0, 1.0)),
    ("trn3", "shape", lambda t, e: rand2(e((4, 4)), t(np.zeros((4, 2), np.float32)), 1.0)),
    ("trn3", "dtype", lambda t, e: dropout(e((4, 4), "bfloat16"), t(np.ones((4, 4), np.float32)), 0.5)),
    ("trn3", "range", lambda t, e: dropout(e((4, 4)), t(np.ones((4, 4), np.float32)), 1.5)),
    ("trn3", "shape", lambda t, e: dropout(e((4, 3)), t(np.ones((4, 4), np.float32)), 0.5)),
    ("trn3", "dtype", lambda t, e: dropout(
        e((4, 4), "int32"), t(np.ones((4, 4), np.int32)), t(np.ones((4, 1), np.float32), "bfloat16"))),
    ("trn3", "shape", lambda t, e: set_rng_seed(t(np.ones((1, 2), np.int32)))),
    ("trn3", "dtype", lambda t, e: set_rng_seed(t(np.ones((1, 1), np.int16)))),
    ("trn1", "generation", lambda t, e: rand_set_state(t(np.ones((4, 6), np.uint32)))),
    ("trn2", "generation", lambda t, e: rand_set_state(t(np.ones((4, 24), np.uint32)), engine=VECTOR)),
    ("trn3", "shape", lambda t, e: rand_set_state(t(np.ones((4, 24), np.uint32)))),
    ("trn3", "dtype", lambda t, e: rand_set_state(t(np.ones((4, 6), np.int32)))),
    ("trn3", "memory", lambda t, e: rand_set_state(t(np.ones((4, 6), np.uint32), buffer="psum"))),
    ("trn3", "gpsimd-psum", lambda t, e: rand_get_state(e((4, 6), "uint32", "psum"))),
    ("trn3", "shape", lambda t, e: rand_get_state(e((4, 6), "uint32"), engine=VECTOR)),
])  # fmt: skip
def test_what_is_refused(make_core, tile, empty, chip, rule, call):
    make_core(chip)
    with pytest.raises(NkiValidationError) as caught:
        call(tile, empty)
    assert caught.value.rule == rule


def test_nothing_is_drawn_without_values(make_core, empty):
    core = make_core(values=False)
    rng(empty((4, 4), "int32"))
    rand2(empty((4, 4)), 0.0, 1.0)
    assert [i.opcode for i in core.instructions] == ["rng", "rand2"]
    assert "random-vector" not in core.state
