import numpy as np
import pytest

from trainshed.chip.alu import OPERATORS, bits, operator, reducer
from trainshed.chip.call import Call
from trainshed.chip.errors import NkiValidationError


@pytest.mark.parametrize(
    ("op", "name"),
    [
        (np.add, "add"), (np.max, "maximum"), (np.amin, "minimum"), (np.minimum, "minimum"), (np.sum, "add"),
        (np.prod, "multiply"), (np.abs, "abs"), (np.power, "power"), (np.bitwise_and, "bitwise_and"),
        (np.invert, "invert"), (np.bitwise_not, "invert"), (np.left_shift, "left_shift"), (np.equal, "equal"),
        (np.logical_or, "logical_or"), ("greater_equal", "greater_equal"), ("mult", "multiply"),
        (np.reciprocal, "reciprocal"), (np.square, "square"),
    ],
)  # fmt: skip
def test_an_operator_is_found_by_a_functions_name(core, op, name):
    assert operator(Call("test"), "op", op).name == name


def test_what_is_no_operator_is_refused_with_its_name(core):
    with pytest.raises(NkiValidationError, match=r"test_alu.py.*tensor_tensor, op: operator: 'arctan'"):
        operator(Call("tensor_tensor"), "op", np.arctan)
    with pytest.raises(NkiValidationError, match="tbl-aluop"):
        operator(Call("tensor_tensor"), "op", 7)


@pytest.mark.parametrize("name", ["abs_max", "abs_min", "square", "relu"])
def test_operators_of_the_newest_generation_are_refused_on_the_one_before(make_core, name):
    make_core("trn2")
    with pytest.raises(NkiValidationError, match="NeuronCore-v4") as error:
        operator(Call("tensor_scalar"), "op0", name)
    assert error.value.rule == "generation"
    make_core("trn3")
    assert operator(Call("tensor_scalar"), "op0", name).name == name


def test_only_the_legal_reductions_reduce(core):
    legal = {name for name, item in OPERATORS.items() if item.ufunc is not None}
    assert legal == {
        "add", "subtract", "multiply", "maximum", "minimum", "logical_and", "logical_or", "logical_xor",
        "bitwise_and", "bitwise_or", "bitwise_xor",
    }  # fmt: skip
    with pytest.raises(NkiValidationError, match="legal reduction"):
        reducer(Call("tensor_reduce"), "op", np.power)


def test_bits_are_taken_as_they_are_stored():
    assert bits(np.int8([-1, 5]), 1).tolist() == [255, 5]
    assert bits(np.int8([-1, 5]), 4).tolist() == [255, 5]
    assert int(bits(-1, 2)) == 0xFFFF


def test_a_reduction_over_several_axes_goes_on_in_order():
    values = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4)
    assert OPERATORS["subtract"].reduce(values, (1, 2)).tolist() == [[[1 - 77.0]]]
    assert OPERATORS["logical_xor"].reduce(values, (1, 2)).tolist() == [[[0.0]]]
    assert OPERATORS["add"].reduce(values, (1, 2)).shape == (1, 1, 1)
