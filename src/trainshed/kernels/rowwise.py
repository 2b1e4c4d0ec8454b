"""Elementwise kernels: copy, cast, residual sum, SiLU with its gate, rotary embeddings.

What has no rows is taken as one run of elements, cut in blocks of 128 by 2,048, so that every partition reads and
writes one piece of HBM. On several cores each takes every other block.
"""

from __future__ import annotations

from typing import Any

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.blocks import spread, up
from trainshed.kernels.common import (
    ROW,
    Tensor,
    alike,
    chunk,
    flat,
    load_rows,
    loaded_run,
    own_rows,
    require,
    runs,
    sbuf,
    store_rows,
)

#: Columns of float32 in a bank of PSUM. Source: nki.language.tile_size, "psum_bank_fmax".
BANK = 512


@nki.jit
def copy(x: Tensor) -> Tensor:
    """``x``, of any shape, from HBM to HBM: every byte passes the DMA engines once."""
    y = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for run in runs(x):
        nisa.dma_copy(dst=flat(y, run), src=flat(x, run))
    return y


@nki.jit
def cast(x: Tensor, dtype: Any) -> Tensor:
    """``x``, of any shape, in another dtype: VectorE and ScalarE by turns."""
    y = nl.ndarray(x.shape, dtype=dtype, buffer=nl.shared_hbm)
    blocks = runs(x)
    for at in nl.affine_range(len(blocks)):
        tile = loaded_run(x, blocks[at])
        out = sbuf(tile.shape, dtype)
        if at % 2:
            nisa.activation(dst=out, op=nl.copy, data=tile)
        else:
            nisa.tensor_copy(dst=out, src=tile, engine=nisa.vector_engine)
        nisa.dma_copy(dst=flat(y, blocks[at]), src=out)
    return y


@nki.jit
def add(x: Tensor, y: Tensor) -> Tensor:
    """``x + y`` of equal shapes, as of a residual: VectorE."""
    _equal("rowwise.add", x, y)
    z = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for run in runs(x):
        one, two, out = loaded_run(x, run), loaded_run(y, run), sbuf(run[1:], z.dtype)
        nisa.tensor_tensor(dst=out, data1=one, data2=two, op=nl.add)
        nisa.dma_copy(dst=flat(z, run), src=out)
    return z


@nki.jit
def silu_gate(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up`` of equal shapes, the middle of a SwiGLU MLP: ScalarE, then VectorE."""
    _equal("rowwise.silu_gate", gate, up)
    y = nl.ndarray(gate.shape, dtype=gate.dtype, buffer=nl.shared_hbm)
    for run in runs(gate):
        open_, data = loaded_run(gate, run), loaded_run(up, run)
        activated, out = sbuf(run[1:], nl.float32), sbuf(run[1:], y.dtype)
        nisa.activation(dst=activated, op=nl.silu, data=open_)
        nisa.tensor_tensor(dst=out, data1=activated, data2=data, op=nl.multiply)
        nisa.dma_copy(dst=flat(y, run), src=out)
    return y


@nki.jit
def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embeddings of ``x`` [tokens, heads, dim]; ``cos`` and ``sin`` are [tokens, dim / 2], in the dtype of x.

    The first half of a head's elements turns with the second. VectorE multiplies, in the dtype of x as frameworks do
    it; products of 16 bits TensorE adds (identities times them, in PSUM) and ScalarE rounds, so that VectorE has two
    passes instead of three. GpSimdE would have to wait for VectorE's fast modes: they share their way to SBUF.
    """
    require(len(x.shape) == 3, "rowwise.rope", "dimensions of x", len(x.shape), "3")
    tokens, heads, dim = x.shape
    require(dim % 2 == 0 and dim <= BANK, "rowwise.rope", "dim", dim, f"even, at most {BANK}")
    shape = (tokens, dim // 2)
    require(tuple(cos.shape) == shape, "rowwise.rope", "shape of cos", tuple(cos.shape), str(shape))
    require(tuple(sin.shape) == shape, "rowwise.rope", "shape of sin", tuple(sin.shape), str(shape))
    y = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    share = own_rows(tokens)
    if share.start == share.stop:
        return y
    flat_x, flat_y = x.reshape((tokens, heads * dim))[share, :], y.reshape((tokens, heads * dim))[share, :]
    rows, whole, half = spread(share.stop - share.start), slice(0, heads * dim), slice(0, dim // 2)
    together = chunk(flat_x, rows)
    angles = together * up(ROW // (dim // 2 * cos.itemsize), together)
    signs = _signs(rows.partitions(0), x.dtype) if x.itemsize == 2 else None
    for start in nl.affine_range(0, rows.steps, angles):
        stop = min(start + angles, rows.steps)
        both: list[Tensor] = []
        for first in nl.affine_range(start, stop, together):
            tile = load_rows(flat_x, rows, whole, first, min(first + together, rows.steps))
            if len(both) == 0:
                both.append(load_rows(cos[share, :], rows, half, start, stop))
                both.append(load_rows(sin[share, :], rows, half, start, stop))
            out = sbuf(tile.shape, y.dtype)
            for steps in alike(rows, first, tile.shape[1]):
                deep, before = rows.partitions(first + steps.start), first - start
                at = slice(before + steps.start, before + steps.stop)
                _rotated(
                    out[0:deep, steps, :].reshape_dim(2, (heads, dim)),
                    tile[0:deep, steps, :].reshape_dim(2, (heads, dim)),
                    both[0][0:deep, at, :].expand_dim(2).broadcast(2, heads),
                    both[1][0:deep, at, :].expand_dim(2).broadcast(2, heads),
                    signs,
                )
            store_rows(flat_y, rows, whole, first, out)
    return y


def _signs(partitions: int, dtype: Any) -> Tensor:
    """1 and -1 times the identity, [partitions, 2, partitions]."""
    both, one = sbuf((partitions, 2, partitions), dtype), nl.shared_identity_matrix(partitions, dtype)
    nisa.tensor_copy(dst=both[:, 0, :], src=one)
    nisa.tensor_scalar(dst=both[:, 1, :], data=one, op0=nl.multiply, operand0=-1.0)
    return both


def _rotated(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor, signs: Tensor) -> None:
    """Some rows of heads in each partition, [partitions, rows, heads, dim]."""
    half = x.shape[3] // 2
    one, two = slice(0, half), slice(half, 2 * half)
    straight, crossed = sbuf(x.shape, x.dtype), sbuf(x.shape, x.dtype)
    nisa.tensor_tensor(dst=straight[:, :, :, one], data1=x[:, :, :, one], data2=cos, op=nl.multiply)
    nisa.tensor_tensor(dst=crossed[:, :, :, one], data1=x[:, :, :, two], data2=sin, op=nl.multiply)
    nisa.tensor_tensor(dst=straight[:, :, :, two], data1=x[:, :, :, two], data2=cos, op=nl.multiply)
    nisa.tensor_tensor(dst=crossed[:, :, :, two], data1=x[:, :, :, one], data2=sin, op=nl.multiply)
    if signs is not None:
        _summed(out.flatten_dims(1, 2), straight.flatten_dims(1, 2), crossed.flatten_dims(1, 2), signs)
        return
    for part in (one, two):
        nisa.tensor_tensor(
            dst=out[:, :, :, part], data1=straight[:, :, :, part], data2=crossed[:, :, :, part],
            op=nl.subtract if part == one else nl.add,
        )  # fmt: skip


def _summed(out: Tensor, straight: Tensor, crossed: Tensor, signs: Tensor) -> None:
    """``straight`` minus (first halves) or plus (second halves) ``crossed``, [partitions, heads, dim], bank by bank."""
    deep, heads, dim = out.shape
    half, together = dim // 2, BANK // dim
    plus, minus = signs[0:deep, 0, 0:deep], signs[0:deep, 1, 0:deep]
    for first in nl.affine_range(0, heads, together):
        part = slice(first, min(first + together, heads))
        sums = nl.ndarray((deep, part.stop - part.start, dim), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=sums, stationary=plus, moving=straight[:, part, :])
        nisa.nc_matmul(dst=sums[:, :, 0:half], stationary=minus, moving=crossed[:, part, 0:half])
        nisa.nc_matmul(dst=sums[:, :, half:], stationary=plus, moving=crossed[:, part, half:])
        nisa.activation(dst=out[:, part, :], op=nl.copy, data=sums)


def _equal(kernel: str, x: Tensor, y: Tensor) -> None:
    found, wanted = (tuple(y.shape), str(y.dtype)), (tuple(x.shape), str(x.dtype))
    require(found == wanted, kernel, "second operand", found, f"{wanted}, as the first")
