"""Elementwise instructions: ``tensor_tensor``, ``tensor_scalar``, ``scalar_tensor_tensor``, ``reciprocal``."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.alu import (
    Array,
    Operator,
    arithmetic,
    binary,
    bits,
    integers,
    operator,
    same_kind,
    step,
)
from trainshed.chip.call import Call
from trainshed.chip.numbers import scalar
from trainshed.chip.operands import (
    column,
    destination,
    direct,
    done,
    in_psum,
    indirection,
    on_chip_reach,
    one_in_sbuf,
    shaped,
    tiles,
    word32,
)
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine, nc_version

_engine = engine  # the parameter of the same name hides it


def tensor_tensor(
    dst: NkiTensor, data1: NkiTensor, data2: NkiTensor, op: Any, engine: engine = _engine.unknown,
    name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = data1 <op> data2``: as many partitions and elements in each, whatever the free shapes.

    VectorE computes in float32 and bit vectors as stored. GpSimdE runs ``power``, and by default 32-bit integers,
    natively, when all three are in SBUF. Not both inputs in PSUM. Source: ``nki.isa.tensor_tensor``.
    """
    call = Call("tensor_tensor", name)
    tiles(call, data1=data1, data2=data2, dst=dst)
    function = operator(call, "op", op)
    binary(call, op=function)
    call.same_elements("data2", data2, data1)
    call.same_elements("dst", dst, data1)
    one_in_sbuf(call, data1=data1, data2=data2)
    direct(call, data2=data2)
    psum = in_psum(dst, data1, data2)
    native = function.native is not None and not psum and word32(dst, data1, data2)
    if function.bitvec:
        integers(call, dst=dst, data1=data1, data2=data2)
    default = _engine.gpsimd if native or function.engines[0] is _engine.gpsimd else _engine.vector
    on = call.on_engine(engine, tuple(e for e in function.engines if e is not _engine.scalar), default)
    on_chip_reach(call, on, psum)
    indirection(call, on, (_engine.vector, _engine.gpsimd), dst, "data1", data1)
    record = call.issue(on, (data1, data2), (dst,), attributes={"op": function.name}, elements=dst.free_size)
    if not call.values:
        return record
    if function.bitvec:
        width = max(data1.itemsize, data2.itemsize)
        first, second = bits(call.read("data1", data1), width), bits(call.read("data2", data2), width)
        call.write("dst", dst, function.apply(first, shaped(second, first)))
    elif native and on is _engine.gpsimd:
        first, second = call.read("data1", data1), call.read("data2", data2)
        call.write("dst", dst, integer_step(function, first, shaped(second, first)))
    else:
        first, second = call.read_float("data1", data1), call.read_float("data2", data2)
        out = destination(dst, first.shape)
        done(call, "dst", dst, step(function, first, shaped(second, first), False, out), out)
    return record


def integer_step(function: Operator, first: Array, second: Array) -> Array:
    """A native operation on 32-bit integers, which wraps around; a comparison gives 1 or 0."""
    assert function.native is not None
    if first.dtype != second.dtype and function.name not in ("add", "subtract", "multiply"):
        return function.native(first.astype(np.int64), second.astype(np.int64))  # the sign counts
    with np.errstate(over="ignore"):
        return function.native(first, second.astype(first.dtype, copy=False))


def _column_engines(call: Call, op0: Operator, op1: Operator | None) -> tuple[_engine, ...]:
    """Where both operators may run; ScalarE of NeuronCore-v3 knows multiply, add, and multiply then add only."""
    allowed = [e for e in op0.engines if op1 is None or e in op1.engines]
    pair = (op0.name, op1.name if op1 else None)
    limited = pair in (("multiply", "add"), ("multiply", None), ("add", None))
    least = nc_version.gen3 if limited else nc_version.gen4
    if _engine.scalar in allowed and call.version < least:
        allowed.remove(_engine.scalar)
    if not allowed:
        assert op1 is not None
        raise call.fail("op1", "operator", op1.name, f"one that runs on the engine of {op0.name}", "engine")
    return tuple(allowed)


def _address_arithmetic(dst: NkiTensor, data: NkiTensor, pairs: tuple[tuple[Operator | None, Any], ...]) -> bool:
    """32-bit integers, added or multiplied with integers: computed natively on GpSimdE."""
    for op, operand in pairs:
        if op is None:
            continue
        whole = word32(operand) if isinstance(operand, NkiTensor) else isinstance(operand, int | np.integer)
        if op.name not in ("add", "multiply") or not whole:
            return False
    indirect = dst.indirection is not None or data.indirection is not None
    return word32(dst, data) and not indirect and not in_psum(dst, data, *(operand for _, operand in pairs))


def check_operand(call: Call, operand: str, op: Operator, value: Any, data: NkiTensor) -> None:
    """A scalar or a ``(P, 1)`` vector; nothing, or 0, for unary operators."""
    if op.unary:
        nothing = value is None or (not isinstance(value, NkiTensor) and value == 0)
        call.require(nothing, operand, f"operand of {op.name}", value, "None or 0", "unary-operand")
        return
    call.require(value is not None, operand, f"operand of {op.name}", value, "a scalar or a tensor", "operand")
    if isinstance(value, NkiTensor):
        call.tile(operand, value)
        direct(call, **{operand: value})
        if value.shape[0] != data.shape[0] or value.free_size != 1:
            raise call.fail(operand, "shape", value.shape, f"({data.shape[0]}, 1)", "shape")
    elif not isinstance(value, int | float):
        scalar(call.opcode, operand, value, f"operand of {op.name}")


def tensor_scalar(
    dst: NkiTensor, data: NkiTensor, op0: Any, operand0: Any, reverse0: bool = False, op1: Any = None,
    operand1: Any = None, reverse1: bool = False, engine: engine = _engine.unknown, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = (data <op0> operand0) <op1> operand1``: operands are scalars or ``(P, 1)`` vectors.

    Both operators are arithmetic (float32) or both of bit vectors (integers as stored, VectorE). ``reverse0`` and
    ``reverse1`` put the operand first. ScalarE from NeuronCore-v3 on, there with three pairs of operators only.
    32-bit integers added to or multiplied with integers stay exact (on GpSimdE).
    Source: ``nki.isa.tensor_scalar``; it names GpSimdE once for all arithmetic and once for rsqrt only: allowed here.
    """
    call = Call("tensor_scalar", name)
    tiles(call, data=data, dst=dst)
    first = operator(call, "op0", op0)
    second = None if op1 is None else operator(call, "op1", op1)
    same_kind(call, first, second)
    call.same_elements("dst", dst, data)
    check_operand(call, "operand0", first, operand0, data)
    if second is not None:
        check_operand(call, "operand1", second, operand1, data)
    else:
        call.require(operand1 is None, "operand1", "operand without op1", operand1, "None", "operand")
    if first.bitvec:
        integers(call, dst=dst, data=data, operand0=operand0, operand1=operand1)
    allowed = _column_engines(call, first, second)
    psum = in_psum(dst, data, operand0, operand1)
    native = _address_arithmetic(dst, data, ((first, operand0), (second, operand1)))
    default = _engine.gpsimd if native else allowed[0]
    if default is _engine.gpsimd and psum and _engine.scalar in allowed:
        default = _engine.scalar
    on = call.on_engine(engine, allowed, default)
    on_chip_reach(call, on, psum)
    indirection(call, on, (_engine.vector, _engine.scalar, _engine.gpsimd), dst, "data", data)
    names = {"op0": first.name, "op1": second.name if second else ""}
    record = call.issue(on, (data, operand0, operand1), (dst,), attributes=names, elements=dst.free_size)
    if call.values:
        pairs = [(first, "operand0", operand0, reverse0)]
        if second is not None:
            pairs.append((second, "operand1", operand1, reverse1))
        if first.bitvec:
            call.write("dst", dst, _bit_columns(call, data, pairs))
        elif native and on is _engine.gpsimd:
            call.write("dst", dst, _word_columns(call, data, pairs))
        else:
            out = destination(dst, data.shape)
            done(call, "dst", dst, float_columns(call, data, pairs, out), out)
    return record


Pairs = list[tuple[Operator, str, Any, bool]]


def float_columns(call: Call, data: NkiTensor, pairs: Pairs, out: Array | None = None) -> Array:
    """Operators with scalars and ``(P, 1)`` vectors one after the other, in float32, into ``out`` where possible."""
    values = call.read_float("data", data)
    others = []
    for op, operand, value, _ in pairs:
        other = values if op.unary else column(call.read_column(operand, value, data.shape[0]), values.ndim)
        others.append(other if out is None or other.ndim == 0 or op.unary else other.copy())
    for (op, _, _, reverse), other in zip(pairs, others, strict=True):
        values = step(op, values, other, reverse, out)
    return values


def _integer_column(call: Call, operand: str, value: Any, ndim: int) -> Any:
    if not isinstance(value, NkiTensor):
        return value
    return call.read(operand, value).reshape(-1, *(1,) * (ndim - 1))


def _bit_columns(call: Call, data: NkiTensor, pairs: Pairs) -> Array:
    width = max([data.itemsize, *(v.itemsize for _, _, v, _ in pairs if isinstance(v, NkiTensor))])
    values = bits(call.read("data", data), width)
    for op, operand, value, reverse in pairs:
        if op.unary:
            values = op.apply(values)
            continue
        other = bits(_integer_column(call, operand, value, values.ndim), width)
        values = op.apply(other, values) if reverse else op.apply(values, other)
    return values


def _word_columns(call: Call, data: NkiTensor, pairs: Pairs) -> Array:
    values = call.read("data", data).view(np.uint32)
    for op, operand, value, _ in pairs:
        values = op.apply(values, bits(_integer_column(call, operand, value, values.ndim), 4))
    return values


def scalar_tensor_tensor(
    dst: NkiTensor, data: NkiTensor, op0: Any, operand0: Any, op1: Any, operand1: NkiTensor, reverse0: bool = False,
    reverse1: bool = False, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = (data <op0> operand0) <op1> operand1`` on VectorE, in float32: operand0 a scalar or ``(P, 1)``.

    ``data`` and ``operand1`` not both in PSUM. Source: ``nki.isa.scalar_tensor_tensor``.
    """
    call = Call("scalar_tensor_tensor", name)
    tiles(call, data=data, operand1=operand1, dst=dst)
    first, second = operator(call, "op0", op0), operator(call, "op1", op1)
    arithmetic(call, op0=first, op1=second)
    binary(call, op1=second)
    call.same_elements("operand1", operand1, data)
    call.same_elements("dst", dst, data)
    one_in_sbuf(call, data=data, operand1=operand1)
    direct(call, data=data, operand1=operand1, dst=dst)
    check_operand(call, "operand0", first, operand0, data)
    record = call.issue(
        _engine.vector, (data, operand0, operand1), (dst,),
        attributes={"op0": first.name, "op1": second.name}, elements=dst.free_size,
    )  # fmt: skip
    if call.values:
        out = destination(dst, data.shape)
        apart = None if operand1.storage is dst.storage else out
        values = float_columns(call, data, [(first, "operand0", operand0, reverse0)], apart)
        other = shaped(call.read_float("operand1", operand1), values)
        done(call, "dst", dst, step(second, values, other, reverse1, out), out)
    return record


def reciprocal(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> Instruction:
    """``dst = 1 / data`` on VectorE, in float32. Source: ``nki.isa.reciprocal``."""
    call = Call("reciprocal", name)
    tiles(call, data=data, dst=dst)
    call.same_elements("dst", dst, data)
    direct(call, data=data, dst=dst)
    record = call.issue(_engine.vector, (data,), (dst,), elements=dst.free_size)
    if call.values:
        with np.errstate(all="ignore"):
            call.write("dst", dst, np.reciprocal(call.read_float("data", data)))
    return record
