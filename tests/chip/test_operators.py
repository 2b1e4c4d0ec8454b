"""Python's operators on tensors: each names what NKI 0.2 and later have in its place."""

import operator

import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.memory import Storage
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion
from trainshed.nki import isa, language
from trainshed.numerics.formats import DType


def tile():
    return NkiTensor((4, 8), DType("float32"), Storage(0, (4, 8), DType("float32"), MemoryRegion.sbuf))


@pytest.mark.parametrize(("use", "instead"), [
    (lambda x: x * 2, r"nl\.multiply\(x, y\), or nisa\.tensor_scalar\(dst, data, op0=nl\.multiply, operand0=…\)"),
    (lambda x: x + x, r"nl\.add\(x, y\), or nisa\.tensor_tensor\(dst, data1, data2, op=nl\.add\)"),
    (lambda x: 1 - x, r"op0=nl\.subtract, operand0=…, reverse0=True"),
    (lambda x: 1 + x, r"op0=nl\.add, operand0=…\)"),
    (lambda x: x / x, r"nl\.reciprocal"),
    (lambda x: 1 / x, r"nl\.reciprocal"),
    (lambda x: x @ x, r"nisa\.nc_matmul"),
    (lambda x: -x, r"nl\.negative"),
    (lambda x: ~x, r"nl\.invert"),
    (lambda x: x.astype("float32"), r"nisa\.tensor_copy\(dst, src\), dst of the other dtype"),
    (lambda x: x.broadcast_to((4, 8)), r"x\.broadcast\(dim, size\)"),
    (abs, r"nl\.abs"),
    (lambda x: x > 0, r"nl\.greater"),
    (lambda x: x < 0, r"nl\.less\("),
    (lambda x: VirtualRegister(3) * x, r"nl\.multiply"),
    (lambda x: operator.iadd(x, x), r"nisa\.tensor_tensor"),
])  # fmt: skip
def test_operators_say_what_to_write(use, instead):
    with pytest.raises(
        NkiValidationError, match=rf"test_operators\.py:\d+: (operator|astype|broadcast_to).*{instead}"
    ) as caught:
        use(tile())
    assert caught.value.rule == "operator"
    assert "<sbuf tensor float32[4, 8]>" in str(caught.value)


@pytest.mark.parametrize("name", [
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift", "lt", "le",
    "gt", "ge", "matmul",
])  # fmt: skip
def test_what_is_named_exists(name):
    for operands in ((tile(), tile()), (tile(), 2), (2, tile())):
        with pytest.raises(NkiValidationError) as caught:
            getattr(operator, name)(*operands)
        for word in (
            caught.value.expected.replace("(", " ").replace(")", " ").replace("=", " ").replace(",", "").split()
        ):
            space, _, function = word.partition(".")
            assert space not in ("nl", "nisa") or hasattr(language if space == "nl" else isa, function), word


def test_equality_and_truth_are_python_s():
    x = tile()
    assert x == x
    assert x != tile()
    assert x in [x]
    assert bool(x)
    with pytest.raises(NkiValidationError, match="NumPy"):
        np.exp(x)


def test_a_method_nobody_had_is_an_attribute_error_of_python_s():
    with pytest.raises(AttributeError, match="'NkiTensor' object has no attribute 'shapes'"):
        _ = tile().shapes
    assert not hasattr(tile(), "astype")
    assert not hasattr(tile(), "__array_interface__")
