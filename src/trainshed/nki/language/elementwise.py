"""Element-wise functions. Each is a function on tiles, and by its name the ``op=`` of instructions.

A function issues the instructions that the hardware needs and returns a new tile in SBUF, in the dtype of its first
tensor unless ``dtype`` is given. Source: ``nki.language``, "Math operations" and "Activation functions".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trainshed.chip.errors import violation
from trainshed.chip.isa.move import memset, tensor_copy
from trainshed.chip.isa.scalar import activation
from trainshed.chip.isa.vector import tensor_scalar, tensor_tensor
from trainshed.chip.tensor import NkiTensor, as_dtype
from trainshed.nki.language.creation import ndarray, sbuf
from trainshed.numerics.formats import DType

Tile = NkiTensor


def result(like: NkiTensor, dtype: Any, shape: tuple[int, ...] | None = None, default: Any = None) -> NkiTensor:
    """The tile a function returns."""
    kind = as_dtype(dtype, "dtype") if dtype is not None else default or like.dtype
    return ndarray(shape or like.shape, kind, sbuf)


def on_chip(function: str, *values: Any) -> None:
    """Functions take tiles: HBM tensors must be loaded first."""
    for value in values:
        if isinstance(value, NkiTensor) and not value.buffer.on_chip:
            raise violation(
                function, repr(value), "memory", value=value.buffer.value, rule="memory",
                expected="a tile in sbuf or psum: nl.load it",
            )  # fmt: skip


def _spread(value: NkiTensor, shape: tuple[int, ...]) -> NkiTensor:
    """A tile seen in a larger shape, its free dimensions of size 1 repeated."""
    if value.shape == shape:
        return value
    view = value
    while view.ndim < len(shape):
        view = view.expand_dim(1)
    for dim, (size, wanted) in enumerate(zip(view.shape, shape, strict=True)):
        if size != wanted and dim and size == 1:
            view = view.broadcast(dim, wanted)
    return view


def _common(function: str, x: NkiTensor, y: NkiTensor) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in np.broadcast_shapes(x.shape, y.shape))
    except ValueError:
        raise violation(
            function, "operands", "shapes", value=(x.shape, y.shape), expected="shapes that broadcast", rule="shape"
        ) from None


def _wider(x: NkiTensor, y: NkiTensor) -> DType:
    """The dtype of a result of two tiles: a float before an integer, then the larger, then the first's."""
    if x.dtype.is_float != y.dtype.is_float:
        return x.dtype if x.dtype.is_float else y.dtype
    return y.dtype if y.itemsize > x.itemsize else x.dtype


def _partition_broadcast(value: NkiTensor, shape: tuple[int, ...]) -> NkiTensor:
    """A tile of one partition in as many as ``shape`` has (a copy by DMA, as the hardware must)."""
    if value.shape[0] == shape[0]:
        return value
    from trainshed.nki.language.data import broadcast_partitions

    return broadcast_partitions(value, shape[0])


def binary(op: Any, x: Any, y: Any, dtype: Any, kind: Any = None) -> NkiTensor:
    """Two operands, one of which may be a number or a column, under an operator of the ALU."""
    name = op.__name__
    on_chip(name, x, y)
    if not isinstance(x, NkiTensor) and not isinstance(y, NkiTensor):
        raise violation(name, "operands", "types", value=(type(x).__name__, type(y).__name__), expected="a tile",
                        rule="operand")  # fmt: skip
    if not isinstance(x, NkiTensor):
        out = result(y, dtype, default=kind)
        tensor_scalar(out, y, op, x, reverse0=True)
        return out
    if not isinstance(y, NkiTensor):
        out = result(x, dtype, default=kind)
        tensor_scalar(out, x, op, y)
        return out
    shape = _common(name, x, y)
    x, y = _partition_broadcast(x, shape), _partition_broadcast(y, shape)
    out = result(x, dtype, shape, default=kind or _wider(x, y))
    x, y = _spread(x, shape), _spread(y, shape)
    if x.buffer.value == y.buffer.value == "psum":
        moved = ndarray(shape, x.dtype, sbuf)
        tensor_copy(moved, x)
        x = moved
    tensor_tensor(out, x, y, op)
    return out


def unary(op: Any, x: NkiTensor, dtype: Any) -> NkiTensor:
    """An activation function of ScalarE."""
    on_chip(op.__name__, x)
    out = result(x, dtype)
    activation(out, op, x)
    return out


def _binary(name: str, meaning: str) -> Callable[..., NkiTensor]:
    def function(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
        return binary(function, x, y, dtype)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{meaning}, element by element, of two tiles or a tile and a number."
    return function


def _unary(name: str, meaning: str) -> Callable[..., NkiTensor]:
    def function(x: NkiTensor, dtype: Any = None) -> NkiTensor:
        return unary(function, x, dtype)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{meaning}, element by element (ScalarE)."
    return function


add = _binary("add", "Sum")
subtract = _binary("subtract", "Difference")
multiply = _binary("multiply", "Product")
maximum = _binary("maximum", "Larger value")
minimum = _binary("minimum", "Smaller value")
abs_max = _binary("abs_max", "Larger magnitude")
abs_min = _binary("abs_min", "Smaller magnitude")
power = _binary("power", "Power")
equal = _binary("equal", "x == y as 1 or 0")
not_equal = _binary("not_equal", "x != y as 1 or 0")
less = _binary("less", "x < y as 1 or 0")
less_equal = _binary("less_equal", "x <= y as 1 or 0")
greater = _binary("greater", "x > y as 1 or 0")
greater_equal = _binary("greater_equal", "x >= y as 1 or 0")
logical_and = _binary("logical_and", "Logical and")
logical_or = _binary("logical_or", "Logical or")
logical_xor = _binary("logical_xor", "Logical exclusive or")
bitwise_and = _binary("bitwise_and", "Bitwise and")
bitwise_or = _binary("bitwise_or", "Bitwise or")
bitwise_xor = _binary("bitwise_xor", "Bitwise exclusive or")
left_shift = _binary("left_shift", "Shift of bits to the left")
right_shift = _binary("right_shift", "Shift of bits to the right, zeros coming in")

exp = _unary("exp", "Exponential")
log = _unary("log", "Natural logarithm")
sqrt = _unary("sqrt", "Square root")
rsqrt = _unary("rsqrt", "Reciprocal of the square root")
tanh = _unary("tanh", "Hyperbolic tangent")
sigmoid = _unary("sigmoid", "Logistic function")
relu = _unary("relu", "Rectified linear unit")
gelu = _unary("gelu", "Gaussian error linear unit")
gelu_dx = _unary("gelu_dx", "Derivative of gelu")
gelu_apprx_tanh = _unary("gelu_apprx_tanh", "gelu approximated with tanh")
gelu_apprx_sigmoid = _unary("gelu_apprx_sigmoid", "gelu approximated with a sigmoid")
gelu_apprx_sigmoid_dx = _unary("gelu_apprx_sigmoid_dx", "Derivative of gelu_apprx_sigmoid")
silu = _unary("silu", "x * sigmoid(x)")
silu_dx = _unary("silu_dx", "Derivative of silu")
softplus = _unary("softplus", "log(1 + exp(x))")
mish = _unary("mish", "x * tanh(softplus(x))")
erf = _unary("erf", "Error function")
erf_dx = _unary("erf_dx", "Derivative of the error function")
square = _unary("square", "Square")
abs = _unary("abs", "Absolute value")
sign = _unary("sign", "Sign")
arctan = _unary("arctan", "Inverse tangent")
prelu = _unary("prelu", "Parametric rectified linear unit")


def reciprocal(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """1 / x, element by element (VectorE)."""
    from trainshed.chip.isa.vector import reciprocal as instruction

    on_chip("reciprocal", x)
    out = result(x, dtype)
    instruction(out, x)
    return out


def copy(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """A copy of a tile in SBUF."""
    on_chip("copy", x)
    out = result(x, dtype)
    tensor_copy(out, x)
    return out


def negative(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """-x, element by element."""
    return binary(multiply, x, -1.0, dtype)


def invert(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """Bitwise not."""
    on_chip("invert", x)
    out = result(x, dtype)
    ones = -1 if x.dtype.storage.kind == "i" else int(np.iinfo(x.dtype.storage).max)
    tensor_scalar(out, x, bitwise_xor, ones)
    return out


def logical_not(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """1 where x is 0, else 0."""
    return binary(equal, x, 0, dtype)


def divide(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Not supported by the hardware: multiply by ``nl.reciprocal``."""
    raise violation("divide", "", "function", value="divide", rule="unsupported",
                    expected="nl.multiply(x, nl.reciprocal(y))")  # fmt: skip


def _whole(x: NkiTensor) -> NkiTensor:
    """A tile rounded to the nearest whole number (by way of int32), as float32."""
    integers = ndarray(x.shape, "int32", sbuf)
    tensor_copy(integers, x)
    floats = ndarray(x.shape, "float32", sbuf)
    tensor_copy(floats, integers)
    return floats


def floor(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """The largest whole number not above x."""
    on_chip("floor", x)
    whole = _whole(x)
    return binary(subtract, whole, binary(greater, whole, x, "float32"), dtype, x.dtype)


def ceil(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """The smallest whole number not below x."""
    on_chip("ceil", x)
    whole = _whole(x)
    return binary(add, whole, binary(less, whole, x, "float32"), dtype, x.dtype)


def trunc(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """x without its fraction."""
    on_chip("trunc", x)
    magnitude = floor(abs(x, "float32"))
    return binary(multiply, magnitude, sign(x, "float32"), dtype, x.dtype)


def mod(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Not supported by the hardware."""
    raise violation(
        "mod", "", "function", value="mod", rule="unsupported", expected="nl.floor, nl.multiply, nl.subtract"
    )


def fmod(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Not supported by the hardware."""
    raise violation(
        "fmod", "", "function", value="fmod", rule="unsupported", expected="nl.trunc, nl.multiply, nl.subtract"
    )


def sin(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """Sine of any angle: reduced to the range of ScalarE's table, which is [-pi, pi]."""
    on_chip("sin", x)
    return unary(sin, _wrapped(x, 0.0), dtype or x.dtype)


def cos(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """Cosine of any angle, as the sine of x + pi / 2."""
    on_chip("cos", x)
    return unary(sin, _wrapped(x, np.pi / 2), dtype or x.dtype)


def tan(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """Tangent, as sine over cosine."""
    return binary(multiply, sin(x, "float32"), reciprocal(cos(x, "float32")), dtype or x.dtype)


def _wrapped(x: NkiTensor, shift: float) -> NkiTensor:
    """x + shift less whole turns, in [-pi, pi]."""
    shifted = binary(add, x, shift, "float32")
    turns = _whole(binary(multiply, shifted, 1 / (2 * np.pi), "float32"))
    # Two parts of 2 pi: the first has few bits, so that its product with a whole number is exact.
    for part in (6.28125, 2 * np.pi - 6.28125):
        shifted = binary(subtract, shifted, binary(multiply, turns, part, "float32"), "float32")
    limit = float(np.nextafter(np.float32(np.pi), np.float32(0)))
    return binary(maximum, binary(minimum, shifted, limit, "float32"), -limit, "float32")


def where(condition: NkiTensor, x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """x where the condition is not 0, else y."""
    from trainshed.chip.isa.move import tensor_copy_predicated

    on_chip("where", condition, x, y)
    first = x if isinstance(x, NkiTensor) else y if isinstance(y, NkiTensor) else condition
    kind = dtype or (first.dtype if first is not condition else "float32")
    out = result(condition, kind, first.shape if first is not condition else None)
    if isinstance(y, NkiTensor):
        tensor_copy(out, _spread(y, out.shape))
    else:
        memset(out, y)
    mask = condition
    if condition.dtype not in ("uint8", "uint16", "uint32", "int8", "int16", "int32"):
        mask = binary(not_equal, condition, 0, "uint8")
    tensor_copy_predicated(out, x if not isinstance(x, NkiTensor) else _spread(x, out.shape), _spread(mask, out.shape))
    return out
