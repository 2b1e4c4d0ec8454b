"""The power ramp and the DMA engines, by themselves."""

from hypothesis import given
from hypothesis import strategies as st

from trainshed.chip.timing.dma import DmaEngines
from trainshed.chip.timing.stepper import Ramp


def test_the_ramp_halves_the_rate_for_a_window_after_a_window_without_work():
    ramp = Ramp(3000, 0.5)
    assert ramp.busy(0, 1000) == 2000
    assert ramp.busy(2000, 1000) == 2000  # begun inside the window
    assert ramp.busy(4000, 1000) == 1000
    assert ramp.busy(7999, 500) == 500  # a gap of less than the window
    assert ramp.busy(12000, 500) == 1000


@given(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 9), st.integers(0, 40)), min_size=1, max_size=12))
def test_dma_engines_serve_descriptor_by_descriptor(transfers):
    """Against every descriptor placed by itself, round the engines."""
    engines, free, place, now = DmaEngines(16), [0] * 16, 0, 0
    for count, each, pause in transfers:
        now += pause
        ends, starts = [], []
        for i in range(count):
            which = (place + i) % 16
            begin = max(free[which], now)
            free[which] = begin + each
            starts.append(begin)
            ends.append(begin + each)
        place = (place + count) % 16
        assert engines.serve(count, each, now) == (min(starts), max(ends))
    assert engines.state(now) == (place, *(max(moment - now, 0) for moment in free))


@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 1000))
def test_the_same_later_is_the_same(count, each, by):
    one, two = DmaEngines(16), DmaEngines(16)
    one.serve(count, each, 5)
    two.serve(count, each, 5)
    two.later(by)
    assert one.state(5) == two.state(5 + by)
