import pytest

from trainshed.chip.core import Options, active, running, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.launch import Launch
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType


def launch(cores=2):
    return Launch(target("trn3"), Options(), cores)


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_every_core_runs_with_itself_active_and_results_keep_order(cores):
    def body(core):
        assert active() is core
        return core.index * 10

    assert launch(cores).run(body) == [10 * i for i in range(cores)]
    assert running() is None


def test_cores_change_only_where_they_wait_and_always_in_the_same_order():
    def trace():
        made, log = launch(), []

        def body(core):
            for step in range(3):
                log.append((core.index, step))
                made.barrier(core, (0, 1), ("step", step), "core_barrier")
                log.append((core.index, "after", step))

        made.run(body)
        return log

    first = trace()
    assert all(trace() == first for _ in range(5))
    for step in range(3):
        arrivals = [first.index((core, step)) for core in (0, 1)]
        departures = [first.index((core, "after", step)) for core in (0, 1)]
        assert max(arrivals) < min(departures)


def test_what_one_core_puts_the_other_takes():
    made = launch()

    def body(core):
        made.put(("box", core.index), core.index + 100)
        return made.take(core, ("box", 1 - core.index), "sendrecv")

    assert made.run(body) == [101, 100]


def test_a_barrier_the_other_core_never_reaches_names_the_line_that_waits():
    made = launch()

    def body(core):
        if core.index == 0:
            made.barrier(core, (0, 1), "only here", "core_barrier")

    with pytest.raises(NkiValidationError, match=r"test_launch\.py:\d+: core_barrier.*waits for ever"):
        made.run(body)


def test_an_error_of_one_core_ends_the_other():
    made = launch()

    def body(core):
        if core.index == 1:
            raise ValueError("of core 1")
        made.barrier(core, (0, 1), "x", "core_barrier")

    with pytest.raises(ValueError, match="of core 1"):
        made.run(body)


def test_shared_hbm_is_one_allocation_and_private_hbm_is_not():
    made = launch()

    def body(core):
        shared = core.allocate((4, 4), DType("float32"), MemoryRegion.shared_hbm)
        private = core.allocate((4, 4), DType("float32"), MemoryRegion.private_hbm)
        return shared.storage, private.storage

    (shared0, private0), (shared1, private1) = made.run(body)
    assert shared0 is shared1
    assert private0 is not private1


def test_a_shared_allocation_of_another_shape_on_the_other_core_is_divergence():
    made = launch()
    with pytest.raises(NkiValidationError) as error:
        made.run(lambda core: core.allocate((4, 4 + core.index), DType("float32"), MemoryRegion.shared_hbm))
    assert error.value.rule == "lnc-divergence"


def test_using_the_chip_outside_a_kernel_is_one_sentence():
    with pytest.raises(NkiValidationError, match="outside a kernel"):
        active()
