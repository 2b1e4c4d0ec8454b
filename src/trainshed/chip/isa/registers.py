"""Registers of the engines' sequencers, and what a kernel asks of its target."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.call import HBM, SBUF, Call
from trainshed.chip.core import active
from trainshed.chip.known import known
from trainshed.chip.numbers import whole
from trainshed.chip.record import Instruction
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import engine, nc_version


def get_nc_version() -> nc_version:
    """The generation the kernel runs on. Source: ``nki.isa.get_nc_version``."""
    return active().version


def get_nc_sub_version() -> int:
    """The silicon revision within the generation: the first. Source: ``nki.isa.get_nc_sub_version``."""
    active()
    return 0


def register_alloc(x: Any = None) -> VirtualRegister:
    """A new register, set to a number (or a one-element tensor's value, as in NKI 0.3) if one is given.

    Source: ``nki.isa.register_alloc``.
    """
    register = VirtualRegister()
    if isinstance(x, NkiTensor):
        register_load(register, x)
    elif x is not None:
        register.value = whole("register_alloc", "x", x)
    return register


def _register(call: Call, operand: str, value: Any) -> VirtualRegister:
    if not isinstance(value, VirtualRegister):
        raise call.fail(operand, "operand", type(value).__name__, "a register of nisa.register_alloc", "operand")
    if operand == "dst" and value.frozen:
        raise call.fail(
            operand, "register", "the index of a dynamic_range", "one that may be written", "frozen-register"
        )
    return value


def register_move(dst: VirtualRegister, src: Any) -> Instruction:
    """``dst = src``, a number or another register. Source: ``nki.isa.register_move``."""
    call = Call("register_move")
    _register(call, "dst", dst)
    value = whole(call.opcode, "src", src)
    record = call.issue(engine.sync, (), ())
    dst.value = value
    return record


def _scalar(call: Call, operand: str, tensor: Any) -> NkiTensor:
    call.tile(operand, tensor, (*SBUF, *HBM))
    call.require(tensor.size == 1, operand, "elements", tensor.size, "1", "shape")
    call.require(tensor.itemsize <= 4, operand, "bytes", tensor.itemsize, "at most 4", "dtype")
    found: NkiTensor = tensor
    return found


def register_load(dst: VirtualRegister, src: NkiTensor) -> Instruction:
    """The one element of ``src`` (SBUF or HBM) into a register. Source: ``nki.isa.register_load``.

    In a run without values, it must be an argument of the kernel or a copy of one.
    """
    call = Call("register_load")
    _register(call, "dst", dst)
    _scalar(call, "src", src)
    record = call.issue(engine.sync, (src,), (), bytes=src.itemsize)
    if call.values:
        dst.value = int(call.read("src", src).reshape(-1)[0])
        return record
    found = None if src.indirection is not None else known(call.core, record.reads[0])
    if found is None:
        raise call.fail(
            "src", "value that a loop or an address needs, in a run without values, of", src,
            "an argument of the kernel or a copy of one, or a run with values=True (--values)", "no-values",
        )  # fmt: skip
    dst.value = int(np.frombuffer(found, src.dtype.storage)[0])
    return record


def register_store(dst: NkiTensor, src: Any) -> Instruction:
    """A register's value into the one element of ``dst`` (SBUF or HBM). Source: ``nki.isa.register_store``."""
    call = Call("register_store")
    _register(call, "src", src)
    _scalar(call, "dst", dst)
    record = call.issue(engine.sync, (), (dst,), bytes=dst.itemsize)
    if call.values:
        value = np.full(dst.shape, src.get(), np.int64)  # the lowest bits of it are stored
        call.write("dst", dst, value.astype(np.int32 if dst.dtype.is_float else np.int64).astype(dst.dtype.storage))
    return record
