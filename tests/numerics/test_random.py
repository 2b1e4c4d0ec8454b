"""The generators against plain Python, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.numerics.random import LANES, TAPS, Lfsr, Xorwow, spread, unit


@pytest.mark.parametrize("count", [1, 2, 3, 64, 100])
def test_the_register_shifts_32_times_a_word(count):
    lfsr = Lfsr(11)
    start = lfsr.state.copy()
    words = lfsr.draw(slice(3, 5), count)
    for row, lane in enumerate((3, 4)):
        state, expected = int(start[lane]), []
        for _ in range(count):
            for _ in range(32):
                state = (state >> 1) ^ (TAPS if state & 1 else 0)
            expected.append(state)
        assert words[row].tolist() == expected
    assert (np.delete(lfsr.state, [3, 4]) == np.delete(start, [3, 4])).all()


def test_draws_continue_where_the_last_one_ended():
    for make in (lambda: Lfsr(2), lambda: Xorwow(4, 2)):
        whole, parts = make(), make()
        expected = whole.draw(slice(0, LANES), 40)
        found = [parts.draw(slice(0, LANES), count) for count in (8, 32)]
        assert (np.concatenate(found, axis=1) == expected).all()


def test_a_seed_spreads_to_words_that_differ_and_are_not_0():
    words = spread(0, 4096)
    assert np.unique(words).size > 4090
    assert (words != 0).all()
    assert (spread(1, 8) != spread(2, 8)).all()


def test_unit_is_below_1():
    assert unit(np.array([0, 255, 256, 2**32 - 1], np.uint32)).tolist() == [0, 0, 2**-24, 1 - 2**-24]


def test_xorwow_from_the_published_state_gives_the_published_words():
    """Words of ``xorwow()`` as printed in Marsaglia's paper, which D's standard library and others test against."""
    xorwow = Xorwow(1)
    xorwow.state[7, 0] = [123456789, 362436069, 521288629, 88675123, 5783321, 6615241]
    assert xorwow.draw(slice(7, 8), 10)[0].tolist() == [
        246875399, 3690007200, 1264581005, 3906711041, 1866187943,
        2481925219, 2464530826, 1604040631, 3653403911, 3578085384,
    ]  # fmt: skip
