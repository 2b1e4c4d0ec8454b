"""Loops, hardware loops, the launch grid."""

from __future__ import annotations

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError

COUNT = np.array([[3]], np.int32)


def _counter(loop):
    """A kernel that adds 1 as often as ``loop(register, body)`` runs its body; the sum and the indices seen."""

    def kernel(count):
        register = nisa.register_alloc()
        nisa.register_load(register, nl.load(count))
        total, one = nl.zeros((1, 1), nl.float32), nl.ones((1, 1), nl.float32)
        seen = []

        def body(index):
            seen.append(int(index))
            nisa.tensor_tensor(total, total, one, nl.add)

        loop(register, body)
        out = nl.ndarray((1, 1), nl.float32, nl.shared_hbm)
        nl.store(out, total)
        return out, seen

    return kernel


@pytest.mark.parametrize("loop", [nl.affine_range, nl.sequential_range, nl.static_range])
def test_unrolled_loops_are_ranges(loop):
    assert list(loop(4)) == [0, 1, 2, 3]
    assert list(loop(2, 9, 3)) == [2, 5, 8]


def test_dynamic_range_with_a_register():
    def loop(register, body):
        for index in nl.dynamic_range(register):
            body(index)

    total, seen = nki.simulate(_counter(loop))(COUNT)
    assert (total[0, 0], seen) == (3, [0, 1, 2])


def test_fori_loop_from_to_by():
    total, seen = nki.simulate(_counter(lambda register, body: nl.fori_loop(register, 10, body, step=2)))(COUNT)
    assert (total[0, 0], seen) == (4, [3, 5, 7, 9])


def test_what_a_body_does_to_its_index_is_lost():
    def loop(register, body):
        def writes(index):
            body(index)
            nisa.register_move(index, 100)

        nl.fori_loop(0, register, writes)

    assert nki.simulate(_counter(loop))(COUNT)[1] == [0, 1, 2]


def test_the_index_of_dynamic_range_is_not_written():
    def loop(register, body):
        for index in nl.dynamic_range(register):
            nisa.register_move(index, 100)

    with pytest.raises(NkiValidationError, match="dynamic_range") as caught:
        nki.simulate(_counter(loop))(COUNT)
    assert caught.value.rule == "frozen-register"


@pytest.mark.parametrize("loop", [nl.while_loop, nki.experimental.while_loop])
def test_while_loop_until_its_register_is_zero(loop):
    def run(register, body):
        def counts(condition):
            body(condition)
            return condition - 1

        loop(register, counts)

    total, seen = nki.simulate(_counter(run))(COUNT)
    assert (total[0, 0], seen) == (3, [3, 2, 1])
    assert nki.simulate(_counter(run))(0 * COUNT)[1] == []


def test_while_with_a_register_as_condition():
    def loop(register, body):
        while register:
            body(register)
            nisa.register_move(register, register - 1)

    assert nki.simulate(_counter(loop))(COUNT)[1] == [3, 2, 1]


def test_a_while_body_returns_its_condition():
    with pytest.raises(NkiValidationError, match="condition"):
        nki.simulate(_counter(lambda register, body: nl.while_loop(register, body)))(COUNT)


@pytest.mark.parametrize("step", [0, -1])
def test_steps_are_positive(step):
    with pytest.raises(NkiValidationError, match="step"):
        nki.simulate(_counter(lambda register, body: nl.fori_loop(0, register, body, step=step)))(COUNT)


def test_steps_are_no_registers():
    with pytest.raises(NkiValidationError, match="step"):
        nki.simulate(_counter(lambda register, body: nl.fori_loop(0, 9, body, step=register)))(COUNT)


@pytest.mark.parametrize(("operand", "loop"), [
    ("stop", lambda body: [body(i) for i in nl.dynamic_range(0, 1.5)]),
    ("stop", lambda body: [body(i) for i in nl.dynamic_range(2.0)]),
    ("start", lambda body: [body(i) for i in nl.dynamic_range("0", 2)]),
    ("step", lambda body: [body(i) for i in nl.dynamic_range(0, 4, 1.5)]),
    ("bound", lambda body: [body(i) for i in nl.affine_range(1.5)]),
    ("bound", lambda body: [body(i) for i in nl.static_range(0, 4, 2.0)]),
    ("stop", lambda body: nl.fori_loop(0, 1.5, body)),
    ("init", lambda body: nl.while_loop(1.5, body)),
    ("body_fun", lambda body: nl.while_loop(1, lambda i: 0.5)),
])  # fmt: skip
def test_bounds_are_whole(operand, loop):
    function = r"(affine_range|dynamic_range|fori_loop|while_loop)"
    said = rf"test_loops\.py:\d+: {function}, {operand}: bound of a loop: .*; expected a whole number"
    with pytest.raises(NkiValidationError, match=said) as caught:
        nki.simulate(_counter(lambda register, body: loop(body)))(COUNT)
    assert caught.value.rule == "dynamic-range"


def test_bounds_may_be_numpy_s():
    assert nki.simulate(_counter(lambda register, body: nl.fori_loop(0, np.int64(2), body)))(COUNT)[1] == [0, 1]


@pytest.mark.parametrize("use", [bool, int, range])
def test_the_tracer_knows_no_register(monkeypatch, use):
    monkeypatch.setenv("NKI_COMPILER_FRONTEND", "tracer")
    with pytest.raises(TypeError, match="fori_loop"):
        nki.simulate(_counter(lambda register, body: use(register)))(COUNT)


def test_a_register_in_an_address():
    x = np.arange(12, dtype=np.float32).reshape(1, 12)

    def kernel(a, count):
        register = nisa.register_alloc()
        nisa.register_load(register, nl.load(count))
        out = nl.ndarray((1, 12), nl.float32, nl.shared_hbm)
        nl.store(out, nl.zeros((1, 12), nl.float32))

        def body(i):
            tile = nl.ndarray((1, 1), nl.float32)
            nisa.dma_copy(tile, a.ap([[1, 1], [1, 1]], scalar_offset=i, indirect_dim=1))
            nisa.dma_copy(out.ap([[1, 1], [1, 1]], scalar_offset=i, indirect_dim=1), tile)

        nl.fori_loop(0, register, body)
        return out

    np.testing.assert_array_equal(nki.simulate(kernel)(x, COUNT)[0], [0, 1, 2, *[0] * 9])


def test_no_reorder_names_its_instructions_and_takes_no_hardware_loops():
    def kernel(x):
        tile = nl.load(x)
        with nl.no_reorder():
            nl.add(tile, 1.0)
            nl.add(tile, 2.0)
        return x

    simulated = nki.simulate(kernel)
    simulated(np.ones((2, 2), np.float32))
    core = simulated.launch.cores[0]
    ((first, last),) = core.state["in_order"]
    assert [i.opcode for i in core.instructions[first:last]] == ["tensor_scalar", "tensor_scalar"]

    def loops(x):
        with nl.no_reorder():
            nl.fori_loop(0, 2, lambda i: None)

    with pytest.raises(NkiValidationError, match="no_reorder") as caught:
        nki.simulate(loops)(np.ones((2, 2), np.float32))
    assert caught.value.rule == "no-reorder-loop"


@pytest.mark.parametrize(("grid", "expected"), [
    (None, [(0, 0, 1)]), (1, [(1, 0, 1)]), (2, [(1, 0, 2), (1, 1, 2)]),
    ((2, 1), [(2, 0, 2), (2, 1, 2)]), ((1, 2), [(2, 0, 1), (2, 0, 1)]),
])  # fmt: skip
def test_programs_of_the_grid(grid, expected):
    seen = []

    @nki.jit
    def kernel(x):
        seen.append((nl.program_ndim(), nl.program_id(0), nl.num_programs(0)))
        return x

    nki.simulate(kernel if grid is None else kernel[grid])(np.ones((2, 2), np.float32))
    assert seen == expected


def test_programs_along_several_axes():
    seen = []

    def kernel(x):
        seen.append((nl.program_id(1), nl.num_programs((0, 1)), nl.num_programs(None)))
        return x

    nki.simulate(kernel)[1, 2](np.ones((2, 2), np.float32))
    assert seen == [(i, 2, 2) for i in (0, 1)]


def test_an_axis_the_grid_does_not_have():
    with pytest.raises(NkiValidationError, match="axis"):
        nki.simulate(lambda x: nl.program_id(1))[2](np.ones((2, 2), np.float32))


def test_programs_share_what_is_in_shared_hbm():
    def kernel(x):
        out = nl.ndarray((4, 8), nl.float32, nl.shared_hbm)
        rows = nl.ds(2 * nl.program_id(0), 2)
        nl.store(out[rows], nl.multiply(nl.load(x[rows]), float(nl.program_id(0) + 1)))
        return out

    x = np.ones((4, 8), np.float32)
    np.testing.assert_array_equal(nki.simulate(kernel)[2](x), x * np.array([1, 1, 2, 2])[:, None])


def test_ds_is_a_slice_from_a_number_or_a_register(on_tiles):
    x = np.arange(64, dtype=np.float32).reshape(4, 16)
    np.testing.assert_array_equal(on_tiles(lambda t: nl.copy(t[:, nl.ds(3, 5)]), x), x[:, 3:8])

    def parts(tile):
        out = nl.zeros((4, 16), nl.float32)
        for i in nl.dynamic_range(0, 16, 4):
            nisa.tensor_copy(out[:, nl.ds(i, 4)], tile[:, nl.ds(i, 4)])
        return out

    np.testing.assert_array_equal(on_tiles(parts, x), x)
