"""Views against NumPy: the same operation on an array of the same values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.chip.call import array
from trainshed.chip.core import NeuronCore, Options, target
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.memory import Storage
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import DynamicSlice, NkiTensor
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType


def tensor(shape, buffer="sbuf", dtype="int32"):
    """A tensor that holds 0, 1, 2, … and the same as an array."""
    numbers = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    storage = Storage(0, shape, DType(dtype), MemoryRegion(buffer), data=numbers.copy())
    return NkiTensor(shape, DType(dtype), storage), numbers


def used(view):
    """A view as an instruction takes it: one out of bounds may be made, and not used."""
    if isinstance(view, NkiTensor) and view.fault is not None:
        raise view.fault
    return view


def same(view, expected):
    assert view.shape == expected.shape
    np.testing.assert_array_equal(array(view), expected)


sizes = st.integers(1, 5)


@given(st.tuples(sizes, sizes, sizes), st.data())
def test_indexing_agrees_with_numpy(shape, data):
    view, numbers = tensor(shape, "shared_hbm")
    keys = []
    for size in shape:
        start = data.draw(st.integers(0, size - 1))
        stop = data.draw(st.integers(start + 1, size))
        step = data.draw(st.integers(1, 3))
        keys.append(data.draw(st.sampled_from([slice(start, stop, step), start, start - size, slice(None)])))
    if all(isinstance(key, int) for key in keys):
        keys[-1] = slice(None)
    same(view[tuple(keys)], numbers[tuple(keys)])


@given(st.tuples(sizes, sizes, sizes, sizes), st.permutations([1, 2, 3]))
def test_permute_and_reshape_agree_with_numpy(shape, order):
    view, numbers = tensor(shape)
    same(view.permute((0, *order)), numbers.transpose(0, *order))
    flat = (shape[0], shape[1] * shape[2] * shape[3])
    same(view.reshape(flat), numbers.reshape(flat))
    same(view.reshape(flat).reshape(shape), numbers)
    same(view.reshape((shape[0], -1, shape[3])), numbers.reshape(shape[0], -1, shape[3]))


@given(st.tuples(sizes, sizes, sizes), st.integers(1, 4))
def test_reshape_of_a_slice_is_numpys_view_or_an_error(shape, width):
    view, numbers = tensor((*shape[:2], shape[2] + width))
    part, array_part = view[:, :, :width], numbers[:, :, :width]
    wanted = (shape[0], shape[1] * width)
    try:
        result = part.reshape(wanted)
    except NkiValidationError:
        copy = array_part.reshape(wanted)
        assert not np.shares_memory(copy, numbers)
    else:
        same(result, array_part.reshape(wanted))


def test_named_views():
    view, numbers = tensor((4, 6, 8))
    same(view.slice(1, 1, 5, 2), numbers[:, 1:5:2])
    same(view.select(2, 3), numbers[:, :, 3])
    same(view.expand_dim(1), numbers[:, None])
    same(view.expand_dim(1).squeeze_dim(1), numbers)
    same(view[:, 0:1].broadcast(1, 5), np.broadcast_to(numbers[:, 0:1], (4, 5, 8)))
    same(view.reshape_dim(1, (2, -1)), numbers.reshape(4, 2, 3, 8))
    same(view.flatten_dims(1, 2), numbers.reshape(4, 48))
    same(view[:, DynamicSlice(VirtualRegister(2), 3)], numbers[:, 2:5])
    swapped = numbers.reshape(4, 2, 3, 8).transpose(0, 2, 1, 3)
    same(view.rearrange(("p", ("a", "b"), "c"), ("p", "b", "a", "c"), {"a": 2}), swapped)


def test_an_integer_keeps_the_partition_dimension_on_chip_and_drops_it_in_hbm():
    assert tensor((4, 6, 8))[0][1].shape == (1, 6, 8)
    assert tensor((4, 6))[0][1, 2].shape == (1, 1)
    assert tensor((4, 6, 8), "shared_hbm")[0][1].shape == (6, 8)
    assert tensor((4,), "shared_hbm")[0][1].shape == (1,)


def test_view_scales_the_last_dimension():
    view, numbers = tensor((4, 6))
    same(view.view("uint8"), numbers.view(np.uint8))
    same(view.view("uint8").view("int32"), numbers)
    same(view.view("float32"), numbers.view(np.float32))
    with pytest.raises(NkiValidationError, match="multiple of 4"):
        view.view("uint8")[:, 0:3].view("int32")


@given(st.integers(0, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_ap_addresses_storage_as_as_strided_does(offset, outer, stride, inner):
    view, numbers = tensor((3, 24))
    pattern = [[24, 3], [stride * 4, outer], [1, inner]]
    if offset + (outer - 1) * stride * 4 + inner - 1 >= 24:
        with pytest.raises(NkiValidationError, match="last column"):
            used(view.ap(pattern, offset=offset))
        return
    expected = np.lib.stride_tricks.as_strided(
        numbers.reshape(-1)[offset:], (3, outer, inner), (24 * 4, stride * 16, 4)
    )
    same(view.ap(pattern, offset=offset), expected)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda t: t[0:5], "0:5"),
        (lambda t: t[:, 6], "below 6"),
        (lambda t: t[:, 3:3], "3:3"),
        (lambda t: t.permute((1, 0)), "0 first"),
        (lambda t: t.reshape((6, 4)), "partition dimension"),
        (lambda t: t.broadcast(1, 3), "expected 1"),
        (lambda t: t.ap([[6, 4], [1, 7]]), "never leaves its partition"),
        (lambda t: t.ap([[5, 4], [1, 6]]), "multiple of the free size 6"),
        (lambda t: t.ap([[6, 5], [1, 6]]), "last partition"),
        (lambda t: t.indirect(t[0:2]), "partitions of the index"),
        (lambda t: t.view("complex64"), "complex64"),
        (lambda t: t.__setitem__(0, 1), "nl.store"),
        (lambda t: t[:, 0:1.5], "bound of dimension 1: 1.5"),
        (lambda t: t[:, DynamicSlice(0.5, 2)], "bound of dimension 1: 0.5"),
        (lambda t: list(t), "iteration"),
        (lambda t: np.add(t, t), "as an array"),
    ],
)
def test_mistakes_name_the_line_and_what_is_right(mistake, message):
    with pytest.raises(NkiValidationError, match=r"test_tensor\.py:\d+") as error:
        used(mistake(tensor((4, 6))[0]))
    assert message in str(error.value)


def test_start_partition_counts_the_address():
    core = NeuronCore(target("trn3"), Options())
    made = core.allocate((32, 8), DType("float32"), MemoryRegion.sbuf, address=(64, 128))
    assert made.start_partition == 64
    assert made[16:32].start_partition == 80


@pytest.mark.parametrize(
    ("shape", "address", "rule"),
    [((129, 4), None, "partitions"), ((128, 65537), None, "sbuf-capacity"), ((128, 4), (0, 262144), "sbuf-capacity"),
     ((64, 4), (96, 0), "partitions"), ((128,), None, "shape"), ((128, 0), None, "shape")],
)  # fmt: skip
def test_allocations_fit_the_memory(shape, address, rule):
    with pytest.raises(NkiValidationError) as error:
        NeuronCore(target("trn3"), Options()).allocate(shape, DType("float32"), MemoryRegion.sbuf, address=address)
    assert error.value.rule == rule


def test_addresses_in_psum_are_of_whole_words():
    core = NeuronCore(target("trn3"), Options())
    with pytest.raises(NkiValidationError, match="a multiple of 4 bytes"):
        core.allocate((32, 8), DType("bfloat16"), MemoryRegion.psum, address=(0, 2))
    assert core.allocate((32, 8), DType("bfloat16"), MemoryRegion.sbuf, address=(0, 2)).shape == (32, 8)


def test_base_tensor_is_the_tensor_as_it_was_made():
    view, numbers = tensor((4, 6))
    base = view.view("uint8")[1:3, 4:8].base_tensor
    assert base.dtype == "int32"
    same(base, numbers)


@pytest.mark.parametrize("pattern", [[[4, 2, 3]], "ab", [[4, "b"]], [4, 2], 4, []])
def test_a_pattern_is_pairs(pattern):
    with pytest.raises(NkiValidationError, match=r"ap, .*: pattern: .*; expected \[\[stride, elements\], …\]"):
        tensor((2, 4))[0].ap(pattern)


@pytest.mark.parametrize("shape", [(128, 32.0, 2), (128, True, 64), ("128", 64), "ab"])
def test_sizes_are_whole_numbers(core, empty, shape):
    with pytest.raises(NkiValidationError, match=r"size: .*; expected a (whole number|list of whole numbers)"):
        empty((128, 64)).reshape(shape)
