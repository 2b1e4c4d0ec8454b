"""Registers of the sequencers, and the target a kernel asks for."""

import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.registers import (
    get_nc_sub_version,
    get_nc_version,
    register_alloc,
    register_load,
    register_move,
    register_store,
)
from trainshed.chip.words import nc_version


@pytest.mark.parametrize(("chip", "version"), [("trn1", 2), ("trn2", 3), ("trn3", 4)])
def test_the_target_is_the_core_s(make_core, chip, version):
    make_core(chip)
    assert get_nc_version() is nc_version(version)
    assert get_nc_version() >= nc_version.gen2
    assert get_nc_sub_version() == 0


def test_outside_a_kernel_there_is_no_target():
    for function in (get_nc_version, get_nc_sub_version):
        with pytest.raises(NkiValidationError) as error:
            function()
        assert error.value.rule == "no-kernel"


@pytest.mark.parametrize(
    ("stored", "dtype", "expected"),
    [(-7, "int32", -7), (2**31 + 5, "uint32", 2**31 + 5), (-3, "int8", -3), (200, "uint8", 200), (9.0, "float32", 9)],
)
@pytest.mark.parametrize("buffer", ["sbuf", "private_hbm"])
def test_a_register_is_loaded_from_one_element(core, tile, stored, dtype, expected, buffer):
    register = register_alloc()
    record = register_load(register, tile(np.asarray([[stored]]).astype(dtype), dtype, buffer))
    assert int(register) == expected
    assert len(record.reads) == 1


def test_a_register_can_be_allocated_with_a_value(core, tile):
    assert int(register_alloc(5)) == 5
    assert int(register_alloc(tile(np.int32([[6]])))) == 6


def test_moves_copy_the_value_of_now(core):
    first, second = register_alloc(3), register_alloc()
    register_move(second, first)
    register_move(first, -1)
    assert (int(first), int(second)) == (-1, 3)
    assert bool(second)


def test_a_register_that_was_not_set_has_no_value(core):
    with pytest.raises(NkiValidationError) as error:
        int(register_alloc())
    assert error.value.rule == "uninitialised-register"


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [("int32", -9, -9), ("uint32", -1, 2**32 - 1), ("int8", 300, 44), ("uint16", 65537, 1), ("float32", -2, -2.0)],
)
@pytest.mark.parametrize("buffer", ["sbuf", "private_hbm"])
def test_a_register_is_stored(core, empty, values, dtype, value, expected, buffer):
    dst = empty((1, 1), dtype, buffer)
    record = register_store(dst, register_alloc(value))
    assert values(dst)[0, 0] == expected
    assert len(record.writes) == 1


def test_rules_of_registers(core, tile, empty):
    for call, broken in (
        (lambda: register_load(register_alloc(), tile(np.int32([[1, 2]]))), "shape"),
        (lambda: register_store(empty((1, 2), "int32"), register_alloc(1)), "shape"),
        (lambda: register_load(register_alloc(), tile(np.int32([[1]]), buffer="psum")), "memory"),
        (lambda: register_load(3, tile(np.int32([[1]]))), "operand"),
        (lambda: register_store(empty((1, 1), "int32"), 3), "operand"),
        (lambda: register_move(3, 4), "operand"),
        (lambda: register_load(register_alloc(), empty((1, 1), "int32")), "uninitialised-read"),
    ):
        with pytest.raises(NkiValidationError) as error:
            call()
        assert error.value.rule == broken


def test_without_values_a_loop_s_bound_must_be_an_argument_or_a_copy_of_one(make_core, empty):
    make_core(values=False)
    with pytest.raises(NkiValidationError) as error:
        register_load(register_alloc(), empty((1, 1), "int32"))
    assert error.value.rule == "no-values"


def test_registers_compare_by_value(core):
    register = register_alloc(2)
    assert register == 2
    assert register != 3
    assert not register == register_alloc(3)  # noqa: SIM201 - the operator itself
    assert (register == None) is False  # noqa: E711 - no number
    assert len({register, register_alloc(2)}) == 2
