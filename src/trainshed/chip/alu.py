"""The ALU operators of the compute engines, by the vendor's names.

Arithmetic is done in float32 and comparisons give 1.0 or 0.0; bit-vector operators see integers as they are
stored. On 32-bit integers GpSimdE computes natively.

Source: the tables "Supported Math Operators by NKI ISA" (``nki.api.shared``, ``tbl-aluop``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.chip.call import Call
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine, nc_version

Array = np.ndarray[Any, Any]
_F32 = np.float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """One operator: what it computes, where it runs, and whether it may reduce."""

    name: str
    apply: Callable[..., Array]
    """Of one (unary) or two arrays: float32 for arithmetic operators, unsigned integers for bit vectors."""
    bitvec: bool = False
    unary: bool = False
    ufunc: Any = None
    """The NumPy function that reduces with it; None where it is no legal reduction."""
    identity: float | None = None
    """What the hidden accumulators are reset to; None where they do not know the operator."""
    native: Callable[..., Array] | None = None
    """On 32-bit integers, wrapping around."""
    into: Any = None
    """A NumPy function of the same values that takes ``out=``, where there is one."""
    least: nc_version = nc_version.gen2
    engines: tuple[engine, ...] = (engine.vector, engine.gpsimd, engine.scalar)

    def reduce(self, values: Array, axis: int | tuple[int, ...]) -> Array:
        """The reduction of the given axes, which stay with size 1."""
        if not isinstance(axis, int) and self.ufunc in (np.subtract, np.logical_xor):  # one axis at a time
            kept = values.shape[: axis[0]]
            values = values.reshape(*kept, -1)
            return self.reduce(values, len(kept)).reshape(*kept, *(1 for _ in axis))
        result: Array = self.ufunc.reduce(values, axis=axis, keepdims=True)
        return result.astype(_F32) if result.dtype == np.bool_ else result


def _truth(function: Any) -> Callable[..., Array]:
    """A comparison or logical function as 1.0 and 0.0."""
    return lambda a, b: function(a, b).astype(_F32)


def _abs_max(a: Array, b: Array) -> Array:
    """The operand of larger magnitude, with its sign; ``b`` in a tie. Source: ``nki.language.abs_max``."""
    return np.where(np.abs(a) > np.abs(b), a, b)


def _abs_min(a: Array, b: Array) -> Array:
    """The operand of smaller magnitude, with its sign; ``b`` in a tie. Source: ``nki.language.abs_min``."""
    return np.where(np.abs(a) < np.abs(b), a, b)


def _rsqrt(a: Array) -> Array:
    result: Array = _F32(1) / np.sqrt(a)
    return result


def _relu(a: Array) -> Array:
    return np.maximum(a, _F32(0))


def _arithmetic(name: str, function: Any, **more: Any) -> Operator:
    return Operator(name=name, apply=function, native=function, into=function, **more)


def _comparison(name: str, function: Any, **more: Any) -> Operator:
    return Operator(name=name, apply=_truth(function), native=function, into=function, **more)


def _unary(name: str, function: Any, **more: Any) -> Operator:
    into = function if isinstance(function, np.ufunc) else None
    return Operator(name=name, apply=function, unary=True, into=into, **more)


def _bits(name: str, function: Any, **more: Any) -> Operator:
    return Operator(name=name, apply=function, bitvec=True, engines=(engine.vector,), **more)


_V4: dict[str, Any] = {"least": nc_version.gen4}
_OPERATORS = (
    _arithmetic("add", np.add, ufunc=np.add, identity=0.0),
    _arithmetic("subtract", np.subtract, ufunc=np.subtract, identity=0.0),
    _arithmetic("multiply", np.multiply, ufunc=np.multiply, identity=1.0),
    _arithmetic("maximum", np.maximum, ufunc=np.maximum, identity=-np.inf),
    _arithmetic("minimum", np.minimum, ufunc=np.minimum, identity=np.inf),
    _comparison("equal", np.equal), _comparison("not_equal", np.not_equal),
    _comparison("greater_equal", np.greater_equal), _comparison("greater", np.greater),
    _comparison("less_equal", np.less_equal), _comparison("less", np.less),
    _comparison("logical_and", np.logical_and, ufunc=np.logical_and),
    _comparison("logical_or", np.logical_or, ufunc=np.logical_or),
    _comparison("logical_xor", np.logical_xor, ufunc=np.logical_xor),
    Operator(name="power", apply=np.power, engines=(engine.gpsimd,)),
    Operator(name="abs_max", apply=_abs_max, engines=(engine.vector,), **_V4),
    Operator(name="abs_min", apply=_abs_min, engines=(engine.vector,), **_V4),
    _unary("abs", np.abs),
    _unary("square", np.square, **_V4),
    _unary("relu", _relu, **_V4),
    _unary("rsqrt", _rsqrt, engines=(engine.gpsimd, engine.scalar)),
    _unary("reciprocal", np.reciprocal, engines=(engine.vector, engine.scalar)),
    _bits("invert", np.invert, unary=True),
    _bits("bitwise_and", np.bitwise_and, ufunc=np.bitwise_and),
    _bits("bitwise_or", np.bitwise_or, ufunc=np.bitwise_or),
    _bits("bitwise_xor", np.bitwise_xor, ufunc=np.bitwise_xor),
    _bits("left_shift", np.left_shift), _bits("right_shift", np.right_shift),
)  # fmt: skip
OPERATORS: dict[str, Operator] = {item.name: item for item in _OPERATORS}
#: Other spellings: NumPy's functions and those of earlier releases.
_ALIASES = {
    "max": "maximum", "amax": "maximum", "min": "minimum", "amin": "minimum", "sum": "add", "prod": "multiply",
    "mult": "multiply", "mul": "multiply", "sub": "subtract", "pow": "power", "absolute": "abs", "fabs": "abs",
    "bitwise_not": "invert", "bitwise_invert": "invert", "logical_shift_left": "left_shift",
    "logical_shift_right": "right_shift", "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
}  # fmt: skip
_BY_NAME = OPERATORS | {alias: OPERATORS[name] for alias, name in _ALIASES.items()}


def operator(call: Call, operand: str, op: Any) -> Operator:
    """The operator that a function of ``nki.language`` or NumPy, or a name, means, on this generation."""
    name = op if isinstance(op, str) else getattr(op, "__name__", None)
    found = _BY_NAME.get(name) if name is not None else None
    if found is None:
        raise call.fail(operand, "operator", name or op, "an operator of the table 'tbl-aluop'", "operator")
    if call.version < found.least:
        raise call.fail(
            operand, f"{found.name} on", f"NeuronCore-v{int(call.version)}", f"NeuronCore-v{int(found.least)} or newer",
            "generation",
        )  # fmt: skip
    return found


def reducer(call: Call, operand: str, op: Any) -> Operator:
    """An operator that is a legal reduction."""
    found = operator(call, operand, op)
    call.require(found.ufunc is not None, operand, "reduction", found.name, "a legal reduction operator", "reduction")
    return found


def integers(call: Call, **operands: NkiTensor | Any) -> None:
    """Bit-vector operators take and give integers only."""
    for name, item in operands.items():
        if isinstance(item, NkiTensor):
            call.require(item.dtype.is_integer, name, "dtype", item.dtype, "an integer type: bit vectors", "bitvec")
        elif item is not None:
            call.require(float(item) == int(item), name, "scalar", item, "an integer: bit vectors", "bitvec")


def bits(values: Any, width: int) -> Array:
    """Integers as unsigned words of ``width`` bytes, shorter ones extended with zeros."""
    kind = np.dtype(f"u{width}")
    if not isinstance(values, np.ndarray):
        return np.asarray(int(values) & ((1 << 8 * width) - 1), kind)
    own = values.view(np.dtype(f"u{values.dtype.itemsize}"))
    return own if own.dtype == kind else own.astype(kind)


def same_kind(call: Call, first: Operator, second: Operator | None) -> None:
    """Two operators of one instruction are both arithmetic or both of bit vectors."""
    if second is not None and first.bitvec != second.bitvec:
        raise call.fail("op1", "operator", second.name, f"one of the kind of op0 {first.name}", "operator-kinds")


def arithmetic(call: Call, **operators: Operator) -> None:
    """Operators that must not be of bit vectors."""
    for name, item in operators.items():
        call.require(not item.bitvec, name, "operator", item.name, "an arithmetic operator", "operator-kinds")


def binary(call: Call, **operators: Operator) -> None:
    """Operators that must take two operands."""
    for name, item in operators.items():
        call.require(not item.unary, name, "operator", item.name, "an operator of two operands", "operator")


def step(op: Operator, values: Array, operand: Array, reverse: bool, out: Array | None = None) -> Array:
    """One operator on float32 values; into ``out``, if it is given and the operator can."""
    with np.errstate(all="ignore"):
        if out is not None and op.into is not None:
            result: Array
            if op.unary:
                result = op.into(values, out=out)
            else:
                result = op.into(operand, values, out=out) if reverse else op.into(values, operand, out=out)
            return result
        if op.unary:
            return op.apply(values)
        return op.apply(operand, values) if reverse else op.apply(values, operand)
