"""Random numbers: ``rng``, ``rand2``, ``dropout``, and the generators' seeds and states.

A generator belongs to an engine of a core and lasts as long as the launch. Where nothing seeds it, it starts from
the core's number, so that two runs agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.call import ON_CHIP, SBUF, Call
from trainshed.chip.core import NeuronCore
from trainshed.chip.numbers import scalar
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, engine, nc_version
from trainshed.numerics.random import Lfsr, Xorwow, unit

_engine = engine  # a parameter of the same name hides it
_INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
_RAND2 = ("float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "tfloat32", *_INTEGERS)
#: XORWOW generators in one lane.
WAYS = {_engine.vector: 4, _engine.gpsimd: 1}


def generator(core: NeuronCore, on: engine) -> Xorwow | Lfsr:
    """The generator of an engine: XORWOW, but a shift register in the Vector engine up to NeuronCore-v3."""
    key = f"random-{on.name}"
    if key not in core.state:
        old = on is _engine.vector and core.version < nc_version.gen4
        core.state[key] = Lfsr(core.index) if old else Xorwow(WAYS[on], core.index)
    found: Xorwow | Lfsr = core.state[key]
    return found


def _lanes(tensor: NkiTensor) -> slice:
    return slice(tensor.start_partition, tensor.start_partition + tensor.shape[0])


def _on(call: Call, asked: engine, tensor: NkiTensor, operand: str, vector_from: nc_version) -> engine:
    """Vector or GpSimd (from NeuronCore-v3 on), which has no way to PSUM."""
    on = call.on_engine(asked, (_engine.vector, _engine.gpsimd))
    call.generation(nc_version.gen3 if on is _engine.gpsimd else vector_from)
    call.require(on is not _engine.gpsimd or tensor.buffer is MemoryRegion.sbuf, operand, "memory for GpSimd",
                 tensor.buffer.value, "sbuf", "gpsimd-psum")  # fmt: skip
    return on


def rng(dst: NkiTensor, engine: engine = _engine.vector, name: str | None = None) -> Instruction:
    """32 random bits for each element of ``dst`` (integers; the lowest bits where it has fewer).

    Source: ``nki.isa.rng``.
    """
    call = Call("rng", name)
    call.tile("dst", dst, ON_CHIP)
    call.require(dst.dtype in _INTEGERS, "dst", "dtype", dst.dtype, "an integer type", "dtype")
    on = _on(call, engine, dst, "dst", nc_version.gen2)
    record = call.issue(on, (), (dst,), elements=dst.free_size)
    if call.values:
        words = generator(call.core, on).draw(_lanes(dst), dst.free_size)
        kind = dst.dtype.storage
        call.write("dst", dst, words.astype(f"u{kind.itemsize}").view(kind).reshape(dst.shape))
    return record


def rand2(dst: NkiTensor, min: Any, max: Any, name: str | None = None) -> Instruction:
    """Uniform numbers in [min, max), which are numbers or ``(partitions, 1)`` tiles. NeuronCore-v4, Vector engine.

    Source: ``nki.isa.rand2``.
    """
    call = Call("rand2", name)
    call.generation(nc_version.gen4)
    call.tile("dst", dst, ON_CHIP)
    call.require(dst.dtype in _RAND2, "dst", "dtype", dst.dtype, "a float or an integer type", "dtype")
    for operand, value in (("min", min), ("max", max)):
        if isinstance(value, NkiTensor):
            call.tile(operand, value, ON_CHIP)
            call.require(value.dtype == "float32", operand, "dtype", value.dtype, "float32", "dtype")
    numbers = not isinstance(min, NkiTensor) and not isinstance(max, NkiTensor)
    call.require(not numbers or min < max, "min", "min", min, f"less than max, {max}", "range")
    record = call.issue(_engine.vector, (min, max), (dst,), elements=dst.free_size)
    if call.values:
        low = call.read_column("min", min, dst.shape[0])
        high = call.read_column("max", max, dst.shape[0])
        words = generator(call.core, _engine.vector).draw(_lanes(dst), dst.free_size)
        call.write("dst", dst, (low + unit(words) * (high - low)).astype(np.float32).reshape(dst.shape))
    return record


def dropout(dst: NkiTensor, data: NkiTensor, prob: Any, name: str | None = None) -> Instruction:
    """``data`` with elements replaced by 0 with probability ``prob``, a number or a ``(partitions, 1)`` tile.

    Kept elements are not scaled. Source: ``nki.isa.dropout``.
    """
    call = Call("dropout", name)
    call.tile("dst", dst, ON_CHIP)
    call.tile("data", data, ON_CHIP)
    call.require(dst.dtype == data.dtype, "dst", "dtype", dst.dtype, f"{data.dtype}, as data", "dtype")
    call.same_elements("dst", dst, data)
    if isinstance(prob, NkiTensor):
        call.tile("prob", prob, ON_CHIP)
        legal = prob.dtype.is_float if data.dtype.is_float else prob.dtype == "float32"
        call.require(legal, "prob", f"dtype for data of {data.dtype}", prob.dtype, "float32", "dtype")
    else:
        call.require(
            0 <= scalar(call.opcode, "prob", prob, "probability") <= 1, "prob", "probability", prob, "0 to 1", "range"
        )
    record = call.issue(_engine.vector, (data, prob), (dst,), elements=data.free_size)
    if call.values:
        dropped = call.read_column("prob", prob, data.shape[0])
        words = generator(call.core, _engine.vector).draw(_lanes(dst), data.free_size)
        values = np.array(call.read("data", data))
        values[(unit(words) < dropped).reshape(values.shape)] = 0
        call.write("dst", dst, values.reshape(dst.shape))
    return record


def set_rng_seed(src_seeds: NkiTensor, name: str | None = None) -> Instruction:
    """Seed the Vector engine's generator with the 32 bits of a ``[1, 1]`` tile. Source: ``nki.isa.set_rng_seed``."""
    call = Call("set_rng_seed", name)
    call.tile("src_seeds", src_seeds, ON_CHIP)
    call.require(src_seeds.shape == (1, 1), "src_seeds", "shape", src_seeds.shape, "(1, 1)", "shape")
    call.require(src_seeds.itemsize == 4, "src_seeds", "dtype", src_seeds.dtype, "one of 32 bits", "dtype")
    record = call.issue(_engine.vector, (src_seeds,), ())
    if call.values:
        bits = np.array(call.read("src_seeds", src_seeds)).view(np.uint32)
        generator(call.core, _engine.vector).seed(int(bits[0, 0]))
    return record


def _state(call: Call, operand: str, tensor: NkiTensor, asked: engine) -> engine:
    """The checks that loading and storing a state share: engine, dtype, and 6 or 24 words a lane."""
    on = _on(call, asked, tensor, operand, nc_version.gen4)
    call.require(tensor.dtype == "uint32", operand, "dtype", tensor.dtype, "uint32", "dtype")
    words = 6 * WAYS[on]
    call.require(tensor.ndim == 2 and tensor.shape[1] == words, operand, f"shape for {on.name}", tensor.shape,
                 f"(partitions, {words})", "shape")  # fmt: skip
    return on


def rand_set_state(src_seeds: NkiTensor, engine: engine = _engine.gpsimd, name: str | None = None) -> Instruction:
    """Load XORWOW's state of each lane from ``src_seeds`` (SBUF, uint32): 6 words for GpSimd, 24 for the Vector engine.

    NeuronCore-v3, on the Vector engine v4. Source: ``nki.isa.rand_set_state``.
    """
    call = Call("rand_set_state", name)
    call.tile("src_seeds", src_seeds, SBUF)
    on = _state(call, "src_seeds", src_seeds, engine)
    record = call.issue(on, (src_seeds,), ())
    if call.values:
        held = generator(call.core, on)
        words = np.array(call.read("src_seeds", src_seeds))
        held.state[_lanes(src_seeds)] = words.reshape(-1, WAYS[on], 6)
    return record


def rand_get_state(dst: NkiTensor, engine: engine = _engine.gpsimd, name: str | None = None) -> Instruction:
    """Store XORWOW's state of each lane in ``dst`` (uint32; PSUM from the Vector engine of NeuronCore-v4).

    Source: ``nki.isa.rand_get_state``.
    """
    call = Call("rand_get_state", name)
    call.tile("dst", dst, ON_CHIP)
    on = _state(call, "dst", dst, engine)
    record = call.issue(on, (), (dst,), elements=dst.free_size)
    if call.values:
        call.write("dst", dst, generator(call.core, on).state[_lanes(dst)].reshape(dst.shape))
    return record
