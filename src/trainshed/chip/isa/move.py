"""Instructions that fill and copy tiles on chip: ``memset``."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.call import ON_CHIP, Call
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, engine
from trainshed.numerics.formats import PACKED

_engine = engine  # the parameter of the same name hides it


def memset(dst: NkiTensor, value: Any, engine: engine = _engine.unknown, name: str | None = None) -> Instruction:
    """Fill ``dst`` (SBUF or PSUM) with a constant. Packed formats take 0 only.

    Source: ``nki.isa.memset``. VectorE, or GpSimdE, which has no way to PSUM.
    """
    call = Call("memset", name)
    call.tile("dst", dst, ON_CHIP)
    allowed = (_engine.vector, _engine.gpsimd) if dst.buffer is MemoryRegion.sbuf else (_engine.vector,)
    on = call.on_engine(engine, allowed)
    call.require(dst.dtype not in PACKED or value == 0, "value", f"value for {dst.dtype}", value, "0", "packed-memset")
    record = call.issue(on, (), (dst,), elements=dst.free_size)
    if call.values:
        call.write("dst", dst, np.full(dst.shape, value, dst.dtype.storage))
    return record
