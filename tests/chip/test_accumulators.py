import numpy as np
import pytest

from trainshed.chip.accumulators import accumulate, begin
from trainshed.chip.alu import OPERATORS
from trainshed.chip.call import Call
from trainshed.chip.errors import NkiValidationError
from trainshed.chip.words import reduce_cmd

ALL = tuple(reduce_cmd)


def run(data, command, op="add", values=None, initial=None, **more):
    call = Call("test")
    lanes = begin(call, data, command, ALL, **more)
    return accumulate(call, lanes, command, OPERATORS[op], np.float32(values), initial)[:, 0].tolist()


def test_commands_reset_keep_and_load_the_registers(core, empty):
    data = empty((2, 3))
    assert run(data, reduce_cmd.reset_reduce, values=[[1, 2, 3], [4, 5, 6]]) == [6, 15]
    assert run(data, reduce_cmd.reduce, values=[[1, 1, 1], [2, 2, 2]]) == [9, 21]
    assert run(data, reduce_cmd.load_reduce, values=[[1, 1, 1], [2, 2, 2]], initial=10.0) == [13, 16]
    assert run(data, reduce_cmd.load_reduce, "maximum", [[1, 1, 1], [9, 2, 2]], np.float32([[7], [8]])) == [7, 9]
    assert run(data, reduce_cmd.reset, "minimum", [[1, 1, 1], [9, 2, 2]]) == [np.inf, np.inf]
    assert run(data, reduce_cmd.reduce, "minimum", [[1, 1, 1], [9, 2, 2]]) == [1, 2]


@pytest.mark.parametrize(
    ("op", "identity"),
    [("add", 0.0), ("subtract", 0.0), ("multiply", 1.0), ("maximum", -np.inf), ("minimum", np.inf)],
)
def test_each_reduction_resets_to_its_identity(core, empty, op, identity):
    assert run(empty((1, 1)), reduce_cmd.reset, op, [[3]]) == [identity]


def test_to_go_on_needs_registers_that_hold_something(core, empty):
    data = empty((128, 1))
    with pytest.raises(NkiValidationError, match="undefined") as error:
        run(data, reduce_cmd.reduce, values=np.ones((128, 1)))
    assert error.value.rule == "undefined-accumulator"
    run(data[64:128], reduce_cmd.reset_reduce, values=np.ones((64, 1)))
    assert run(data[64:128], reduce_cmd.reduce, values=np.ones((64, 1))) == [2] * 64
    with pytest.raises(NkiValidationError, match="undefined"):
        run(data, reduce_cmd.reduce, values=np.ones((128, 1)))
    run(data[64:128], reduce_cmd.idle, values=np.ones((64, 1)))
    with pytest.raises(NkiValidationError, match="undefined"):
        run(data[64:128], reduce_cmd.reduce, values=np.ones((64, 1)))


def test_an_instruction_has_its_own_commands_and_idle_gives_no_result(core, empty):
    data = empty((4, 1))
    with pytest.raises(NkiValidationError, match="reset_reduce or reduce"):
        begin(Call("test"), data, reduce_cmd.idle, (reduce_cmd.reset_reduce, reduce_cmd.reduce))
    with pytest.raises(NkiValidationError, match="reduce_res"):
        begin(Call("test"), data, reduce_cmd.idle, ALL, result=data)
