"""The record of a library kernel: what it checks, how it measures an error."""

import numpy as np
import pytest

from trainshed.core.errors import UserError
from trainshed.kernels.reference import Operator, Reference


def doubled(x):
    return 2 * x


DOUBLE = Reference(
    name="double",
    kernel=doubled,
    axes=("rows",),
    make_inputs=lambda shape, dtype, generator: {"x": generator.standard_normal(shape["rows"])},
    reference=lambda inputs: (2.0 * inputs["x"],),
    operator=lambda shape, dtype: Operator(method="copy", arguments={"size": 8 * shape["rows"]}),
)


def test_inputs_and_reference_belong_together():
    inputs = DOUBLE.inputs({"rows": 7}, "bf16", np.random.default_rng(1))
    assert DOUBLE.error(DOUBLE.kernel(**inputs), DOUBLE.reference(inputs)) == 0.0
    assert DOUBLE.operator({"rows": 7}, "bf16").arguments == {"size": 56}


def test_error_is_relative_to_the_largest_value():
    wanted = (np.array([1.0, -4.0]), np.array([10.0]))
    assert DOUBLE.error((np.array([1.0, -4.0]), np.array([9.0])), wanted) == pytest.approx(0.1)
    assert DOUBLE.error((np.array([2.0, -4.0]), np.array([10.0])), wanted) == pytest.approx(0.25)
    assert DOUBLE.error(np.array([0.5]), (np.array([0.0]),)) == 0.5
    assert np.isnan(DOUBLE.error(np.array([np.nan]), (np.array([1.0]),)))


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ({"columns": 7}, "bf16", "kernel double: axes: 'columns'; expected rows"),
        ({"rows": 7}, "fp8", "kernel double: dtype: 'fp8'; expected bf16"),
    ],
)
def test_bad_shapes_and_dtypes(shape, dtype, message):
    with pytest.raises(UserError, match=message):
        DOUBLE.inputs(shape, dtype, np.random.default_rng(1))


def test_outputs_have_to_be_as_many():
    with pytest.raises(UserError, match="kernel double: outputs: 2; expected 1"):
        DOUBLE.error((np.ones(1), np.ones(1)), (np.ones(1),))


def test_outputs_have_to_have_the_shape():
    with pytest.raises(UserError, match=r"kernel double: output: \(2,\); expected \(2, 1\)"):
        DOUBLE.error(np.ones(2), (np.ones((2, 1)),))
