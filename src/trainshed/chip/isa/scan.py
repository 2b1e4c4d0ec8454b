"""Running computations along the free dimension: ``tensor_tensor_scan`` and ``tensor_scalar_cumulative``."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.accumulators import before, begin
from trainshed.chip.alu import Array, Operator, arithmetic, binary, operator, step
from trainshed.chip.call import Call
from trainshed.chip.isa.reduce import check_initial
from trainshed.chip.isa.vector import check_operand, float_columns
from trainshed.chip.operands import (
    direct,
    flat,
    indirection,
    one_in_sbuf,
    per_partition,
    tiles,
)
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine, reduce_cmd

_cmd = reduce_cmd  # the parameter of the same name hides it


def tensor_tensor_scan(
    dst: NkiTensor, data0: NkiTensor, data1: NkiTensor, initial: Any, op0: Any, op1: Any, reverse0: bool = False,
    reverse1: bool = False, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``state = (data0[i] <op0> state) <op1> data1[i]`` along each partition; ``dst[i]`` is the state after step i.

    The state is float32 and starts at ``initial``, a scalar or ``(P, 1)``. The data not both in PSUM. VectorE.
    Source: ``nki.isa.tensor_tensor_scan``.
    """
    call = Call("tensor_tensor_scan", name)
    tiles(call, data0=data0, data1=data1, dst=dst)
    direct(call, data0=data0, data1=data1, dst=dst)
    first, second = operator(call, "op0", op0), operator(call, "op1", op1)
    arithmetic(call, op0=first, op1=second)
    binary(call, op0=first, op1=second)
    call.same_elements("data1", data1, data0)
    call.same_elements("dst", dst, data0)
    one_in_sbuf(call, data0=data0, data1=data1)
    if isinstance(initial, NkiTensor):
        tiles(call, initial=initial)
        per_partition(call, "initial", initial, data0)
    record = call.issue(
        engine.vector, (data0, data1, initial), (dst,),
        attributes={"op0": first.name, "op1": second.name}, elements=dst.free_size,
    )  # fmt: skip
    if call.values:
        left, right = flat(call.read_float("data0", data0)), flat(call.read_float("data1", data1))
        state = np.empty((data0.shape[0], 1), np.float32)
        state[...] = call.read_column("initial", initial, data0.shape[0])
        with np.errstate(all="ignore"):
            if first.name == "multiply" and second.ufunc is not None and _keeps_order(second) and (left == 1).all():
                values = second.ufunc.accumulate(np.concatenate([state, right], axis=1), axis=1)[:, 1:]
            else:
                values = _scan(first, second, left, right, state[:, 0], reverse0, reverse1)
        call.write("dst", dst, values)
    return record


def _keeps_order(op: Operator) -> bool:
    """Whether it does not matter which operand comes first, so that NumPy's ``accumulate`` is the scan."""
    return op.name in ("add", "multiply", "maximum", "minimum")


def _scan(
    op0: Operator, op1: Operator, left: Array, right: Array, state: Array, reverse0: bool, reverse1: bool
) -> Array:
    """Step by step, all partitions at once, with the steps' values contiguous."""
    rows0, rows1 = np.ascontiguousarray(left.T), np.ascontiguousarray(right.T)
    result = np.empty_like(rows0)
    if op0.name == "multiply" and op1.name in ("add", "subtract"):
        product, last, ufunc = np.empty_like(state), state, op1.ufunc
        for row0, row1, out in zip(rows0, rows1, result, strict=True):
            np.multiply(row0, last, product)
            last = ufunc(row1, product, out) if reverse1 else ufunc(product, row1, out)
        return result.T
    for row0, row1, out in zip(rows0, rows1, result, strict=True):
        inner = op0.apply(state, row0) if reverse0 else op0.apply(row0, state)
        state = op1.apply(row1, inner) if reverse1 else op1.apply(inner, row1)
        out[...] = state
    return result.T


_COMMANDS = (reduce_cmd.reset_reduce, reduce_cmd.reduce, reduce_cmd.load_reduce)


def tensor_scalar_cumulative(
    dst: NkiTensor, src: NkiTensor, op0: Any, op1: Any, imm0: Any, imm1: Any = None,
    reduce_cmd: reduce_cmd = _cmd.reset_reduce, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``reg = (src[i] <op0> imm0) <op1> reg`` along each partition; ``dst[i]`` is the register after step i.

    The register is the shared accumulator of VectorE; ``imm1`` is its start under ``load_reduce``. ``op1`` is add,
    subtract, multiply, max or min; no 32-bit integers. Source: ``nki.isa.tensor_scalar_cumulative``.
    """
    call = Call("tensor_scalar_cumulative", name)
    tiles(call, src=src, dst=dst)
    first, second = operator(call, "op0", op0), operator(call, "op1", op1)
    arithmetic(call, op0=first)
    legal = ("add", "subtract", "multiply", "maximum", "minimum")
    call.require(second.name in legal, "op1", "reduction", second.name, " or ".join(legal), "reduction")
    for operand, tensor in (("src", src), ("dst", dst)):
        good = str(tensor.dtype) not in ("int32", "uint32")
        call.require(good, operand, "dtype", tensor.dtype, "one of at most 16 bits, or a float", "dtype")
    call.same_elements("dst", dst, src)
    check_operand(call, "imm0", first, imm0, src)
    if reduce_cmd is _cmd.load_reduce:
        check_initial(call, "imm1", reduce_cmd, imm1, src)
    lanes = begin(call, src, reduce_cmd, _COMMANDS)
    indirection(call, engine.vector, (engine.vector,), dst, "src", src)
    record = call.issue(
        engine.vector, (src, imm0, imm1), (dst,), elements=dst.free_size,
        attributes={"op0": first.name, "op1": second.name, "reduce_cmd": reduce_cmd.name},
    )  # fmt: skip
    if call.values:
        initial = call.read_column("imm1", imm1, src.shape[0]) if reduce_cmd is _cmd.load_reduce else None
        values = flat(float_columns(call, src, [(first, "imm0", imm0, False)]))
        start = before(call, lanes, reduce_cmd, second, initial)
        with np.errstate(all="ignore"):
            if _keeps_order(second):
                values = second.ufunc.accumulate(np.concatenate([start, values], axis=1), axis=1)[:, 1:]
            else:
                values = _alternate(second, values, start[:, 0])
        call.core.hidden.vector[lanes] = values[:, -1]
        call.write("dst", dst, values)
    return record


def _alternate(op: Operator, values: Array, state: Array) -> Array:
    """``state = values[i] <op> state``, step by step."""
    rows = np.ascontiguousarray(values.T)
    for row in rows:
        state = step(op, row, state, False)
        row[...] = state
    return rows.T
