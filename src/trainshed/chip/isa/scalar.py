"""Instructions of ScalarE, and ``exponential``, which VectorE computes on NeuronCore-v4."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.accumulators import accumulate, begin
from trainshed.chip.activations import activate, activation_function
from trainshed.chip.alu import Array, Operator, operator
from trainshed.chip.call import Call
from trainshed.chip.isa.reduce import check_initial
from trainshed.chip.numbers import scalar
from trainshed.chip.operands import column, direct, indirection, per_partition, tiles
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine, nc_version
from trainshed.chip.words import reduce_cmd as _cmd

reduce_cmd = _cmd  # the parameter of the same name hides it
_REDUCING = (_cmd.reduce, _cmd.reset_reduce)
#: What the registers are reset to for operators that only ScalarE accumulates with.
_IDENTITY = {"abs_max": 0.0, "abs_min": np.inf}
_FLOATS = ("float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "tfloat32")
_INTEGERS = ("int8", "int16", "int32", "uint8", "uint16")


def _check_column(call: Call, operand: str, value: Any, data: NkiTensor) -> None:
    """A number, or one element per partition of ``data``."""
    if isinstance(value, NkiTensor):
        tiles(call, **{operand: value})
        direct(call, **{operand: value})
        per_partition(call, operand, value, data)


def _check_reduction(
    call: Call, data: NkiTensor, op: Any, result: NkiTensor | None, command: Any, legal: tuple[str, ...]
) -> Operator | None:
    """The rules of the reduction after an activation; its operator where it reduces."""
    if command not in (_cmd.idle, _cmd.reset, *_REDUCING):
        raise call.fail("reduce_cmd", "command", getattr(command, "name", command), "idle, reset, reduce or "
                        "reset_reduce", "reduce-cmd")  # fmt: skip
    if result is not None:
        tiles(call, reduce_res=result)
        direct(call, reduce_res=result)
        per_partition(call, "reduce_res", result, data)
    if op is None:
        if command in _REDUCING:
            raise call.fail("reduce_op", f"operator under {command.name}", None, " or ".join(legal), "reduction")
        return None
    function = operator(call, "reduce_op", op)
    call.require(function.name in legal, "reduce_op", "reduction", function.name, " or ".join(legal), "reduction")
    return function


def _registers(call: Call, data: NkiTensor, command: Any, op: Operator | None, output: Array) -> Array:
    """ScalarE's reduction registers after ``command``, of the partitions of ``data``, as ``[P, 1]``."""
    lanes = slice(data.start_partition, data.start_partition + data.shape[0])
    registers = call.core.hidden.scalar
    if command in (_cmd.reset, _cmd.reset_reduce):
        registers[lanes] = 0.0 if op is None else _IDENTITY.get(op.name, op.identity)
    if command in _REDUCING and op is not None:
        with np.errstate(all="ignore"):
            whole = _reduced(op, output.reshape(output.shape[0], -1))
            registers[lanes] = op.apply(registers[lanes].reshape(-1, 1), whole)[:, 0]
    return registers[lanes].reshape(-1, 1)


def _reduced(op: Operator, values: Array) -> Array:
    """Each row by ``op``, as ``[P, 1]``. By magnitude the element itself is kept, of equal ones the last."""
    if op.name not in _IDENTITY:
        return op.reduce(values, 1)
    sizes = np.abs(values[:, ::-1])
    place = (sizes.argmax if op.name == "abs_max" else sizes.argmin)(axis=1)
    return np.take_along_axis(values, values.shape[1] - 1 - place[:, None], axis=1)


def _activated(
    call: Call, opcode_reads: tuple[Any, ...], dst: NkiTensor, op: Any, data: NkiTensor, values: Any,
    command: Any, reduction: Operator | None, reduce_res: NkiTensor | None, parameter: Any = 0.0, **attributes: Any,
) -> Instruction:  # fmt: skip
    """What all activations do once their rules hold: the record, the function, the reduction."""
    function = activation_function(call, op)
    record = call.issue(
        engine.scalar, (data, *opcode_reads), (dst, reduce_res), elements=dst.free_size,
        attributes={"op": function.name, "reduce_cmd": command.name, **attributes},
    )  # fmt: skip
    if call.values:
        if isinstance(parameter, NkiTensor):
            parameter = column(call.read_column("relu_param", parameter, data.shape[0]), data.ndim)
        output = activate(call, function, values(), np.asarray(parameter, np.float32))
        result = _registers(call, data, command, reduction, output)
        call.write("dst", dst, output)
        if reduce_res is not None:
            call.write("reduce_res", reduce_res, result)
    return record


def activation(
    dst: NkiTensor, op: Any, data: NkiTensor, bias: Any = None, scale: Any = 1.0, reduce_op: Any = None,
    reduce_res: NkiTensor | None = None, reduce_cmd: reduce_cmd = _cmd.idle, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = op(data * scale + bias)`` on ScalarE in float32.

    ``scale`` and ``bias`` are numbers (bias from NeuronCore-v3 on) or one element per partition. With ``reduce_op``
    (add) the result is also summed over the free dimensions into ScalarE's registers under ``reduce_cmd``, and
    ``reduce_res`` (``[P, 1]``) takes what they then hold. Source: ``nki.isa.activation``.
    """
    call = Call("activation", name)
    return _activation(call, dst, op, data, bias, scale, reduce_op, reduce_res, reduce_cmd)


def _activation(
    call: Call, dst: NkiTensor, op: Any, data: NkiTensor, bias: Any, scale: Any, reduce_op: Any,
    reduce_res: NkiTensor | None, command: Any,
) -> Instruction:  # fmt: skip
    tiles(call, data=data, dst=dst)
    call.same_elements("dst", dst, data)
    indirection(call, engine.scalar, (engine.scalar,), dst, "data", data)
    _check_column(call, "scale", scale, data)
    _check_column(call, "bias", bias, data)
    if isinstance(scale, NkiTensor):
        call.require(str(scale.dtype) == "float32", "scale", "dtype", scale.dtype, "float32", "dtype")
    if isinstance(bias, NkiTensor):
        call.require(str(bias.dtype) != "tfloat32", "bias", "dtype", bias.dtype, "any but tfloat32", "dtype")
    elif bias is not None and call.version < nc_version.gen3:
        call.require(bias == 0, "bias", "number on NeuronCore-v2", bias, "a (P, 1) tile", "generation")
    if call.version < nc_version.gen3 and isinstance(bias, NkiTensor):
        by_reciprocal = activation_function(call, op).name == "reciprocal"
        call.require(not by_reciprocal, "bias", "of reciprocal on NeuronCore-v2", bias, "None", "generation")
    reduction = _check_reduction(call, data, reduce_op, reduce_res, command, ("add",))

    for operand, value in (("scale", scale), ("bias", bias)):
        if value is not None and not isinstance(value, NkiTensor | int | float):
            scalar(call.opcode, operand, value)

    def values() -> Array:
        x = call.read_float("data", data)
        with np.errstate(all="ignore"):
            if isinstance(scale, NkiTensor):
                x = x * column(call.read_column("scale", scale, data.shape[0]), data.ndim)
            elif scale != 1.0:
                x = x * np.float32(scale)
            if isinstance(bias, NkiTensor):
                x = x + column(call.read_column("bias", bias, data.shape[0]), data.ndim)
            elif bias is not None and bias != 0:
                x = x + np.float32(bias)
        return x

    return _activated(call, (bias, scale), dst, op, data, values, command, reduction, reduce_res)


def activation_reduce(
    dst: NkiTensor, op: Any, data: NkiTensor, reduce_op: Any, reduce_res: NkiTensor | None, bias: Any = None,
    scale: Any = 1.0, name: str | None = None,
) -> Instruction:  # fmt: skip
    """:func:`activation`, and the sum of its result over all free dimensions in ``reduce_res`` (``[P, 1]``).

    Source: ``nki.isa.activation_reduce``.
    """
    call = Call("activation_reduce", name)
    return _activation(call, dst, op, data, bias, scale, reduce_op, reduce_res, _cmd.reset_reduce)


_PAIRS = (
    ("multiply", "add"), ("multiply", "subtract"), ("multiply", "bypass"), ("add", "bypass"),
    ("subtract", "bypass"), ("bypass", "bypass"),
)  # fmt: skip


def _step(call: Call, operand: str, op: Any) -> str:
    """The name of a tensor-scalar operator; None and ``nl.bypass`` do nothing."""
    name = op if isinstance(op, str) else getattr(op, "__name__", None)
    if op is None or name == "bypass":
        return "bypass"
    return operator(call, operand, op).name


def activate2(
    dst: NkiTensor, op: Any, data: NkiTensor, imm0: Any, imm1: Any, op0: Any, op1: Any, relu_param: Any = 0.0,
    reverse0: bool = False, reverse1: bool = False, reduce_op: Any = None, reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = _cmd.idle, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = op((data op0 imm0) op1 imm1)`` on ScalarE of NeuronCore-v4, with an optional reduction.

    ``(op0, op1)`` is one of six pairs of multiply, add, subtract and bypass. Reductions: add, maximum, minimum,
    abs_max, abs_min. Source: ``nki.isa.activate2``.
    """
    call = Call("activate2", name)
    call.generation(nc_version.gen4)
    tiles(call, data=data, dst=dst)
    call.same_elements("dst", dst, data)
    indirection(call, engine.scalar, (engine.scalar,), dst, "data", data)
    pair = (_step(call, "op0", op0), _step(call, "op1", op1))
    call.require(pair in _PAIRS, "op0, op1", "operators", pair, "one of the six pairs of its page", "operator")
    call.require(not (reverse0 and pair[0] == "bypass"), "reverse0", "without op0", reverse0, "False", "reverse")
    call.require(not (reverse1 and pair[1] == "bypass"), "reverse1", "without op1", reverse1, "False", "reverse")
    for operand, value in (("imm0", imm0), ("imm1", imm1), ("relu_param", relu_param)):
        _check_column(call, operand, value, data)
    if isinstance(imm0, NkiTensor) and isinstance(imm1, NkiTensor):
        call.require(imm0.dtype == imm1.dtype, "imm1", "dtype", imm1.dtype, f"{imm0.dtype}, as imm0", "dtype")
    legal = ("add", "maximum", "minimum", "abs_max", "abs_min")
    reduction = _check_reduction(call, data, reduce_op, reduce_res, reduce_cmd, legal)

    def values() -> Array:
        x = call.read_float("data", data)
        with np.errstate(all="ignore"):
            for step, operand, value, reverse in (
                (pair[0], "imm0", imm0, reverse0), (pair[1], "imm1", imm1, reverse1),
            ):  # fmt: skip
                if step != "bypass":
                    other = column(call.read_column(operand, value, data.shape[0]), data.ndim)
                    function = operator(call, operand, step).apply
                    x = function(other, x) if reverse else function(x, other)
        return x

    return _activated(
        call, (imm0, imm1, relu_param), dst, op, data, values, reduce_cmd, reduction, reduce_res, relu_param,
        op0=pair[0], op1=pair[1],
    )  # fmt: skip


def _check_dtypes(call: Call, **operands: tuple[Any, tuple[str, ...]]) -> None:
    """The dtypes that operands may have; numbers and None have none."""
    for operand, (tensor, legal) in operands.items():
        if isinstance(tensor, NkiTensor) and tensor.dtype not in legal:
            raise call.fail(operand, "dtype", tensor.dtype, ", ".join(legal), "dtype")


def exponential(
    dst: NkiTensor, src: NkiTensor, max_value: Any = 0.0, reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = _cmd.idle, reduce_init: Any = 0.0, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = exp(src - max_value)`` on VectorE of NeuronCore-v4, and its running sum.

    ``max_value`` is a number or one element per partition. The sum goes through the accumulators that VectorE's
    instructions share. Source: ``nki.isa.exponential``.
    """
    call = Call("exponential", name)
    call.generation(nc_version.gen4)
    tiles(call, src=src, dst=dst)
    call.same_elements("dst", dst, src)
    indirection(call, engine.vector, (engine.vector,), dst, "src", src)
    for operand, tensor in (("src", src), ("dst", dst)):
        call.require(tensor.ndim <= 5, operand, "free dimensions", tensor.ndim - 1, "at most 4", "dimensions")
    _check_dtypes(call, src=(src, (*_FLOATS[:-1], *_INTEGERS, "uint32")), dst=(dst, (*_FLOATS, *_INTEGERS)),
                  max_value=(max_value, ("float32",)), reduce_init=(reduce_init, ("float32",)),
                  reduce_res=(reduce_res, _FLOATS))  # fmt: skip
    _check_column(call, "max_value", max_value, src)
    if reduce_res is not None:
        tiles(call, reduce_res=reduce_res)
        direct(call, reduce_res=reduce_res)
        per_partition(call, "reduce_res", reduce_res, src)
    lanes = begin(call, src, reduce_cmd, (_cmd.idle, *_REDUCING, _cmd.load_reduce), result=reduce_res)
    check_initial(call, "reduce_init", reduce_cmd, reduce_init, src, unset=0.0)
    add = operator(call, "reduce_op", "add")
    record = call.issue(
        engine.vector, (src, max_value, reduce_init), (dst, reduce_res), elements=dst.free_size,
        attributes={"reduce_cmd": reduce_cmd.name},
    )  # fmt: skip
    if call.values:
        most = column(call.read_column("max_value", max_value, src.shape[0]), src.ndim)
        initial = call.read_column("reduce_init", reduce_init, src.shape[0])
        with np.errstate(all="ignore"):
            output = np.exp(call.read_float("src", src) - most)
        result = accumulate(call, lanes, reduce_cmd, add, output, initial)
        call.write("dst", dst, output)
        if reduce_res is not None:
            call.write("reduce_res", reduce_res, result)
    return record
