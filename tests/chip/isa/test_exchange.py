"""``sendrecv`` and ``core_barrier`` between the cores of a launch."""

import numpy as np
import pytest

from trainshed.chip.call import Call
from trainshed.chip.core import Options, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.dma import dma_copy
from trainshed.chip.isa.exchange import core_barrier, sendrecv
from trainshed.chip.launch import Launch
from trainshed.chip.words import MemoryRegion, dma_engine, engine
from trainshed.numerics.formats import DType


def run(body, cores=2, chip="trn3", **options):
    """``body(core)`` on every core; the launch and the results."""
    launch = Launch(target(chip), Options(**options), cores)
    return launch, launch.run(body)


def tile(core, values, dtype="float32", buffer="sbuf"):
    tensor = core.allocate(values.shape, DType(dtype), MemoryRegion(buffer))
    Call("test").write("values", tensor, values)
    return tensor


def empty(core, shape, dtype="float32", buffer="sbuf"):
    return core.allocate(shape, DType(dtype), MemoryRegion(buffer))


def read(tensor):
    call = Call("test")
    held = np.array(call.read("values", tensor))
    if call.undefined:
        raise call.unwritten("values", tensor, 1)
    return held


def data(core, shape=(16, 8), dtype=np.float32):
    return np.random.default_rng(core.index).integers(0, 99, shape).astype(dtype)


def rule(body, **where):
    with pytest.raises(NkiValidationError) as error:
        run(body, **where)
    return error.value.rule


# --- sendrecv -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", dma_engine)
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8", "uint16"])
def test_cores_swap_tiles(through, kind):
    def body(core):
        dst, other = empty(core, (16, 8), kind), 1 - core.index
        sendrecv(tile(core, data(core), kind), dst, other, other, 0, through)
        return read(dst).astype(np.float32)

    _, (first, second) = run(body)
    swapped = [np.random.default_rng(i).integers(0, 99, (16, 8)) for i in (1, 0)]
    np.testing.assert_array_equal([first, second], swapped)


def test_what_is_sent_is_what_the_tile_held_then():
    def body(core):
        src, dst, other = tile(core, data(core)), empty(core, (16, 8)), 1 - core.index
        sendrecv(src, dst, other, other, 0)
        Call("test").write("values", src, np.zeros((16, 8), np.float32))
        return read(dst)

    _, results = run(body)
    assert all(result.any() for result in results)


def test_a_tile_may_be_exchanged_in_place_and_a_pipe_used_again():
    def body(core):
        near, other, seen = tile(core, data(core)), 1 - core.index, []
        for _ in range(3):
            sendrecv(near, near, other, other, pipe_id=0)
            seen.append(read(near))
        return seen

    _, (first, second) = run(body)
    np.testing.assert_array_equal(first[0], second[1])
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])


def test_a_core_may_send_to_itself():
    def body(core):
        dst = empty(core, (16, 8))
        sendrecv(tile(core, data(core)), dst, core.index, core.index, 0)
        return np.array_equal(read(dst), data(core))

    assert run(body)[1] == [True, True]


def test_pipes_do_not_mix():
    def body(core):
        one, two, other = empty(core, (16, 8)), empty(core, (16, 8)), 1 - core.index
        src = tile(core, data(core))
        negative = tile(core, -data(core))
        sendrecv(src, one, other, other, pipe_id=1)
        sendrecv(negative, two, other, other, pipe_id=2)
        return np.array_equal(read(one), -read(two)) and read(one).any()

    assert all(run(body)[1])


def test_views_of_one_shape_in_another_layout():
    def body(core):
        wide, other = tile(core, np.zeros((16, 20), np.float32)), 1 - core.index
        sendrecv(tile(core, data(core)), wide[:, 4:20:2], other, other, 0)
        return read(wide)

    _, (first, _) = run(body)
    np.testing.assert_array_equal(first[:, 4::2], np.random.default_rng(1).integers(0, 99, (16, 8)))
    assert not first[:, 5::2].any()


def test_the_record_names_both_ends():
    def body(core):
        other = 1 - core.index
        return sendrecv(tile(core, data(core)), empty(core, (16, 8)), other, other, 7, dma_engine.gpsimd_dma)

    _, (first, second) = run(body)
    assert (first.engine, second.engine) == (engine.gpsimd, engine.gpsimd)
    assert (first.attributes["send_to"], first.attributes["receive_from"], first.attributes["pipe"]) == (1, 1, 7)
    assert second.attributes["send_to"] == 0
    assert first.work["bytes"] == 16 * 8 * 4


def test_a_run_without_values_exchanges_only_records():
    def body(core):
        other = 1 - core.index
        return sendrecv(empty(core, (16, 8)), empty(core, (16, 8)), other, other, 0).opcode

    assert run(body, values=False)[1] == ["sendrecv", "sendrecv"]


@pytest.mark.parametrize(("kind", "most"), [("float32", 256), ("bfloat16", 256), ("int8", 256)])
def test_gpsimd_moves_no_more_than_its_buffer(kind, most):
    def body(core, size):
        other = 1 - core.index
        sendrecv(tile(core, data(core, (4, size)), kind), empty(core, (4, size), kind), other, other, 0,
                 dma_engine.gpsimd_dma)  # fmt: skip

    run(lambda core: body(core, most))
    assert rule(lambda core: body(core, most + 1)) == "gpsimd-dma"


@pytest.mark.parametrize(
    ("shape", "kind", "buffer", "rank", "broken"),
    [
        ((16, 9), "float32", "sbuf", 1, "shape"),
        ((8, 16), "float32", "sbuf", 1, "shape"),
        ((16, 8), "int32", "sbuf", 1, "dtype"),
        ((16, 8), "float32", "psum", 1, "memory"),
        ((16, 8), "float32", "private_hbm", 1, "memory"),
        ((16, 8), "float32", "sbuf", 2, "lnc"),
    ],
)
def test_rules_of_an_exchange(shape, kind, buffer, rank, broken):
    def body(core):
        sendrecv(tile(core, data(core)), empty(core, shape, kind, buffer), rank, rank, 0)

    assert rule(body) == broken


def test_where_an_exchange_is_possible():
    def body(core):
        sendrecv(tile(core, data(core)), empty(core, (16, 8)), 0, 0, 0)

    assert rule(body, cores=1) == "lnc"
    assert rule(body, chip="trn1") == "generation"


def test_tiles_of_different_shapes_do_not_meet():
    def body(core):
        other, shape = 1 - core.index, (16, 8 + core.index)
        sendrecv(tile(core, data(core, shape)), empty(core, shape), other, other, 0)

    assert rule(body) == "lnc-divergence"


def test_a_core_that_waits_for_ever_is_named():
    def body(core):
        if core.index == 0:
            sendrecv(tile(core, data(core)), empty(core, (16, 8)), 1, 1, 0)

    with pytest.raises(NkiValidationError, match="core 0 waits for ever") as error:
        run(body)
    assert error.value.rule == "lnc-divergence"
    assert error.value.source.file == __file__


# --- core_barrier -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [(0, 1), [0, 1]])
def test_after_a_barrier_each_core_sees_what_the_other_wrote(cores):
    def body(core):
        shared = empty(core, (32, 8), buffer="shared_hbm")
        mine = slice(16 * core.index, 16 * core.index + 16)
        dma_copy(shared[mine], tile(core, data(core)))
        core_barrier(shared, cores)
        both = empty(core, (32, 8))
        dma_copy(both, shared)
        return read(both)

    _, (first, second) = run(body)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[16:], np.random.default_rng(1).integers(0, 99, (16, 8)))


def test_without_the_barrier_the_first_core_sees_nothing():
    def body(core):
        shared = empty(core, (32, 8), buffer="shared_hbm")
        dma_copy(shared[16 * core.index : 16 * core.index + 16], tile(core, data(core)))
        copied = empty(core, (32, 8))
        dma_copy(copied, shared)
        read(copied)

    assert rule(body) == "uninitialised-read"


@pytest.mark.parametrize("cores", [(0,), [0], 0])
def test_a_lone_core_does_not_wait(cores):
    def body(core):
        return core_barrier(tile(core, data(core), buffer="shared_hbm"), cores, engine.sync)

    _, (record,) = run(body, cores=1)
    assert record.engine is engine.sync
    assert record.attributes["barrier"] == 0


@pytest.mark.parametrize(("launched", "cores"), [(1, (0, 1)), (2, (0,)), (2, (1, 0)), (2, (0, 2))])
def test_a_barrier_is_for_all_cores_of_the_launch(launched, cores):
    assert rule(lambda core: core_barrier(tile(core, data(core)), cores), cores=launched) == "lnc"


def test_barriers_are_counted_in_order_on_both_cores():
    def body(core):
        shared = empty(core, (2, 2), buffer="shared_hbm")
        return [core_barrier(shared, (0, 1)).attributes["barrier"] for _ in range(3)]

    assert run(body)[1] == [[0, 1, 2]] * 2
    assert rule(body, chip="trn1") == "generation"
