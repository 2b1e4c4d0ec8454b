"""Between the two cores of a logical NeuronCore: barriers and exchange of tiles."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from trainshed.chip.call import HBM, ON_CHIP, SBUF, Call
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import dma_engine as _dma
from trainshed.chip.words import engine, nc_version

_engine = engine  # a parameter of the same name hides it
#: Largest bytes per partition of an exchange by GpSimd's own DMA, by element size.
GPSIMD_BYTES = {4: 1024, 2: 512, 1: 256}


def _turn(call: Call, key: Hashable) -> int:
    """How often this core has come to ``key`` before."""
    counts: dict[Hashable, int] = call.core.state.setdefault("exchange", {})
    counts[key] = counts.get(key, -1) + 1
    return counts[key]


def _lnc(call: Call) -> None:
    """Exchange needs NeuronCore-v3 or newer and two physical cores."""
    call.generation(nc_version.gen3)
    call.require(call.core.cores == 2, "", "cores of the launch", call.core.cores, "2: launch it as kernel[2]", "lnc")


def core_barrier(
    data: NkiTensor, cores: Sequence[int] | int, engine: engine = _engine.gpsimd, name: str | None = None
) -> Instruction:
    """Both cores wait here until the other has come, so that each sees what the other wrote to ``data``.

    ``data`` is in shared HBM; ``cores`` is ``(0, 1)``, or ``(0,)`` where the launch has one core. AWS's library also
    names tiles of SBUF, and a lone core as ``0``. Source: ``nki.isa.core_barrier``.
    """
    call = Call("core_barrier", name)
    call.generation(nc_version.gen3)
    named = (cores,) if isinstance(cores, int) else tuple(cores)
    every = tuple(range(call.core.cores))
    call.require(named == every, "cores", f"cores of a launch on {len(every)}", named, str(every), "lnc")
    call.tile("data", data, (*HBM, *ON_CHIP))
    turn = _turn(call, "barrier")
    record = call.issue(
        engine if engine is not _engine.unknown else _engine.gpsimd, (data,), (), attributes={"barrier": turn}
    )
    if len(every) > 1:
        call.core.launch.barrier(call.core, every, ("barrier", turn), "core_barrier")
    return record


def sendrecv(
    src: Any, dst: Any, send_to_rank: int, recv_from_rank: int, pipe_id: int, dma_engine: _dma = _dma.dma,
    name: str | None = None,
) -> Instruction:  # fmt: skip
    """Send ``src`` to one core and receive another's into ``dst``, tiles of SBUF of one shape and dtype.

    Source: ``nki.isa.sendrecv``.
    """
    call = Call("sendrecv", name)
    _lnc(call)
    call.tile("src", src, SBUF)
    call.tile("dst", dst, SBUF)
    for operand, rank in (("send_to_rank", send_to_rank), ("recv_from_rank", recv_from_rank)):
        call.require(int(rank) in (0, 1), operand, "rank", rank, "0 or 1", "lnc")
    call.require(src.dtype == dst.dtype, "dst", "dtype", dst.dtype, f"{src.dtype}, as src", "dtype")
    call.same_elements("dst", dst, src)
    if dma_engine is _dma.gpsimd_dma:
        row, limit = src.free_size * src.itemsize, GPSIMD_BYTES[src.itemsize]
        call.require(row <= limit, "src", "bytes per partition by gpsimd_dma", row, f"at most {limit}", "gpsimd-dma")
    me, to, origin = call.core.index, int(send_to_rank), int(recv_from_rank)
    turn = _turn(call, ("pipe", pipe_id))
    record = call.issue(
        _engine.dma if dma_engine is _dma.dma else _engine.gpsimd, (src,), (dst,), bytes=src.nbytes,
        attributes={"send_to": to, "receive_from": origin, "pipe": pipe_id, "turn": turn, "engine": dma_engine.name},
    )  # fmt: skip
    launch = call.core.launch
    values = np.array(call.read("src", src)) if call.values else None
    undefined, call.undefined = (call.undefined or {}).get("src"), None
    launch.put(("pipe", pipe_id, me, to, turn), (src.shape, str(src.dtype), values, undefined))
    shape, dtype, received, undefined = launch.take(call.core, ("pipe", pipe_id, origin, me, turn), "sendrecv")
    if int(np.prod(shape)) != dst.size or shape[0] != dst.shape[0] or dtype != dst.dtype:
        raise call.fail("dst", f"tile of {dst.shape} {dst.dtype} receives", (shape, dtype), "the same on both cores",
                        "lnc-divergence")  # fmt: skip
    if received is not None:
        call.write("dst", dst, received.reshape(dst.shape))
    if undefined is not None:
        call.undefined, call.core.pending = {"received": undefined}, call
        call.origin = call.origin or (call.opcode, "src", call.source)
    return record
