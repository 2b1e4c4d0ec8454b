"""Checks that all instructions share: access patterns of the engines."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.chip.call import Call
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.dma import dma_copy
from trainshed.chip.isa.move import memset, tensor_copy


def test_an_engine_walks_four_free_dimensions(core, empty):
    wide = empty((2, 3, 3, 3, 3, 4), "bfloat16")
    memset(wide, 1.0)
    four, five = wide[:, :2, :2, :2, :2, :], wide[:, :2, :2, :2, :2, 1:3]
    tensor_copy(empty(four.shape, "bfloat16"), four)  # its last two lie together
    with pytest.raises(NkiValidationError, match=r"free dimensions of .* expected at most 4 that do not") as error:
        tensor_copy(empty(five.shape, "bfloat16"), five)
    assert (error.value.rule, error.value.value) == (
        "access-pattern", [[108, 2], [36, 2], [12, 2], [4, 2], [1, 2]],
    )  # fmt: skip


def test_dimensions_that_lie_together_count_once(core, empty, values):
    wide = empty((2, 1, 3, 2, 3, 2, 4))
    memset(wide, 1.0)
    copy = empty((2, 3, 2, 3, 2, 4))
    tensor_copy(copy, wide.reshape((2, 3, 2, 3, 2, 4)))
    assert (values(copy) == 1).all()
    assert core.instructions[-1].opcode == "tensor_copy"


@pytest.mark.parametrize(("stride", "legal"), [(32767, True), (32768, False)])
def test_a_stride_fits_int16(core, empty, stride, legal):
    tensor = empty((1, 40000), "bfloat16")
    memset(tensor, 1.0)
    view = tensor.ap([[40000, 1], [stride, 2]])
    if legal:
        tensor_copy(empty((1, 2), "bfloat16"), view)
        return
    with pytest.raises(NkiValidationError, match=r"\[32768, 2\]; expected at most 65535 elements") as error:
        tensor_copy(empty((1, 2), "bfloat16"), view)
    assert error.value.rule == "access-pattern"


@pytest.mark.parametrize(("count", "legal"), [(65535, True), (65536, True), (200_000, True), (65537, False)])
def test_a_size_fits_uint16_or_splits(core, empty, count, legal):
    """65537 is a prime: no two sizes make it."""
    tensor = empty((2, count), "uint8")
    if legal:
        memset(tensor, 1.0)
        return
    with pytest.raises(NkiValidationError, match=r"\[1, 65537\]; expected") as error:
        memset(tensor, 1.0)
    assert error.value.rule == "access-pattern"


def test_a_long_broadcast_in_a_short_row(core, empty):
    tensor = empty((2, 8))
    memset(tensor, 1.0)
    call = Call("test")
    assert call.tile("data", tensor.ap([[8, 2], [0, 65535]])).free_size == 65535
    with pytest.raises(NkiValidationError) as error:
        call.tile("data", tensor.ap([[8, 2], [0, 65537]]))
    assert error.value.rule == "access-pattern"


def test_a_dma_has_descriptors_instead(core, tile, empty, values):
    numbers = np.arange(2 * 3**4 * 4, dtype=np.float32).reshape(2, 3, 3, 3, 3, 4)
    source = tile(numbers)
    copy = empty((2, 2, 2, 2, 2, 2))
    dma_copy(copy, source[:, :2, :2, :2, :2, 1:3])
    np.testing.assert_array_equal(values(copy), numbers[:, :2, :2, :2, :2, 1:3])


def test_what_passed_once_does_not_let_others_pass(core, empty):
    """Rules are not asked again for operands alike in all that they ask, and only for those."""
    tile, copy = empty((128, 8)), empty((128, 8))
    memset(tile, 1.0)
    for _ in range(2):
        tensor_copy(copy[:32], tile[32:64])
    with pytest.raises(NkiValidationError, match="start partition"):
        tensor_copy(copy[:32], tile[8:40])
    with pytest.raises(NkiValidationError, match="start partition"):
        tensor_copy(copy[:64], tile[32:96])
