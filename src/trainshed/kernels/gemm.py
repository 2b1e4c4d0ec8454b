"""Matrix products: ``y[m, n] = x[m, k] · w[k, n]`` for any sizes.

Both operands come with k first, as the rows of TensorE's array want it: ``x`` is [k, m], ``w`` is [k, n] or, so that
DMAs find long rows, [blocks, k, width] (``gemm_layout.arranged``). ``matmul(w, x)`` is the result turned, [n, m], which
the next product takes as its x; at some sizes it is quicker (``blocks.turned``). Blocks: ``kernels.blocks``. On several
cores each takes a share of the columns.
"""

from __future__ import annotations

from typing import Any

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.kernels.blocks import Blocks, Rows, blocks, spread, up
from trainshed.kernels.common import Tensor, load_rows, loaded, require, sbuf, store_rows, target

#: Columns of a moving tile. Source: nki.language.tile_size, "gemm_moving_fmax".
MOVING = 512
#: Bytes of a row of y from which on it is long enough for a DMA.
SHORT = 2048
#: What the blocks are called by the dtype of an operand.
KINDS = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float8_e4m3": "fp8", "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8", "float8_e4m3fn_x4": "mxfp8", "float8_e5m2_x4": "mxfp8", "float4_e2m1fn_x4": "mxfp4",
}  # fmt: skip


@nki.jit
def matmul(x: Tensor, w: Tensor, x_scale: Tensor = None, w_scale: Tensor = None, columns: int | None = None) -> Tensor:
    """``x`` [k, m] and ``w`` [k, n] or [blocks, k, width] of bf16, fp16, fp32 or fp8 give ``y`` [m, n].

    Args:
        x: the left operand, contraction first.
        w: the right operand, in the same dtype (or the other fp8).
        x_scale: float32 [m, 1], by which each row of y is multiplied, as ``quantise.rows`` makes them; or None.
        w_scale: float32 [1, n], by which each column of y is multiplied; or None.
        columns: n, where the last of the blocks of w is filled up; default all columns of w.

    Returns y in the dtype of x, of fp8 operands in bf16; sums are float32. FP8 runs two tiles of k at a time (double
    row) from NeuronCore-v3 on.
    """
    k, m = x.shape
    wide = w.shape[-1] if len(w.shape) == 2 else w.shape[0] * w.shape[2]
    n = wide if columns is None else columns
    kinds = (KINDS.get(str(x.dtype), ""), KINDS.get(str(w.dtype), ""))
    require(kinds[0] in ("bf16", "fp16", "fp32", "fp8"), "gemm.matmul", "dtype of x", x.dtype, "bf16, fp16, fp32, fp8")
    require(kinds[1] == kinds[0], "gemm.matmul", "dtype of w", w.dtype, f"{x.dtype}, as x")
    require(w.shape[-2] == k, "gemm.matmul", "k of w", w.shape[-2], f"{k}, as x")
    cut = blocks(m, k, n, kinds[0], target(), nl.num_programs(0))
    _check_blocks("gemm.matmul", w, 3, n, wide, cut)
    out = nl.bfloat16 if kinds[0] == "fp8" else x.dtype
    y = nl.ndarray((m, n), dtype=out, buffer=nl.shared_hbm)
    _product(y, (x, None, None), (w, None, None), (x_scale, w_scale), cut)
    return y


@nki.jit
def matmul_mx(
    x: Tensor, w: Tensor, depth: int, x_scale: Tensor = None, w_scale: Tensor = None, x_factor: Tensor = None,
    w_factor: Tensor = None, columns: int | None = None,
) -> Tensor:  # fmt: skip
    """MX operands, quantised beforehand and laid out as they lie in SBUF, give ``y`` [m, n] in bf16 (NeuronCore-v4).

    Args:
        x: [partitions, steps, m] containers of four elements of k, MXFP8 or MXFP4 (``gemm_layout.mx_rows``).
        w: [partitions, steps, n] or [blocks, partitions, steps, width]; the format may differ from x's.
        depth: k; the containers hold zeros where k is no multiple of theirs.
        x_scale: uint8 [partitions / 8, steps, m]: one scale for 8 partitions of 4 elements; None: all are 1, x is
            plain FP8 that takes MX's rate.
        w_scale: the same of ``w``.
        x_factor: float32 [m, 1], by which each row of y is multiplied; or None.
        w_factor: float32 [1, n], by which each column of y is multiplied; or None.
        columns: n, where the last of the blocks of w is filled up; default all columns of w.
    """
    _, _, m = x.shape
    wide = w.shape[-1] if len(w.shape) == 3 else w.shape[0] * w.shape[3]
    n = wide if columns is None else columns
    kinds = (KINDS.get(str(x.dtype), ""), KINDS.get(str(w.dtype), ""))
    require(kinds[0][:2] == "mx", "gemm.matmul_mx", "dtype of x", x.dtype, "a packed MX format")
    require(kinds[1][:2] == "mx", "gemm.matmul_mx", "dtype of w", w.dtype, "a packed MX format")
    cut = blocks(m, depth, n, max(kinds), target(), nl.num_programs(0))
    shape = (cut.depth, cut.steps)
    require(x.shape[:2] == shape, "gemm.matmul_mx", "shape of x", x.shape, f"({shape[0]}, {shape[1]}, m)")
    require(w.shape[-3:-1] == shape, "gemm.matmul_mx", "shape of w", w.shape, f"(…, {shape[0]}, {shape[1]}, n)")
    _check_blocks("gemm.matmul_mx", w, 4, n, wide, cut)
    y = nl.ndarray((m, n), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    ones = sbuf((cut.depth, MOVING), nl.uint8)
    if x_scale is None or w_scale is None:
        nisa.memset(dst=ones, value=127)  # 2^(127 - 127)
    _product(y, (x, x_scale, ones), (w, w_scale, ones), (x_factor, w_factor), cut)
    return y


def _check_blocks(kernel: str, w: Tensor, dimensions: int, n: int, wide: int, cut: Blocks) -> None:
    """Whether w is whole, or lies in the blocks of columns that the kernel takes."""
    if len(w.shape) == dimensions:
        found = (w.shape[0], w.shape[-1])
        require(found == (cut.columns, cut.width), kernel, "blocks of w", found, f"({cut.columns}, {cut.width})")
    require(0 < n <= wide, kernel, "columns", n, f"1 to {wide}")


def _product(y: Tensor, x: Any, w: Any, scales: Any, cut: Blocks) -> None:
    """Blocks of rows one after the other; past each go this core's blocks of columns.

    Operands are the data and, of MX, their scales (or None), and scales of 1.
    """
    m, n = y.shape
    share = cut.columns // nl.num_programs(0)
    first = nl.program_id(0) * share
    kept: list[Any] = []
    for top in nl.affine_range(up(m, cut.rows)):
        rows = slice(top * cut.rows, min((top + 1) * cut.rows, m))
        lie = spread(rows.stop - rows.start)
        factors = None
        x_tiles: list[Any] = []
        for block in nl.affine_range(first, first + share):
            start = block * cut.width
            if start >= n:
                continue
            columns = slice(start, min(start + cut.width, n))
            if (block - first) % cut.stored == 0:
                group = slice(start, min(start + cut.stored * cut.width, (first + share) * cut.width, n))
                out = sbuf((lie.partitions(0), lie.steps, group.stop - group.start), y.dtype)
            if not cut.x_stays:
                x_tiles = []
            w_tiles = kept[block - first] if cut.w_stays and top > 0 else []
            into = slice(start - group.start, columns.stop - group.start)
            by_column = _column_factors(scales[1], columns, lie.partitions(0))
            # While x comes in, each of its tiles is used for all rows at once.
            together = 1 if cut.apart and len(x_tiles) > 0 else lie.steps
            for tile in nl.affine_range(0, lie.steps, together):
                sums = _sums((x, rows, lie), x_tiles, (w, block, columns), w_tiles, slice(tile, tile + together), cut)
                if factors is None and scales[0] is not None:
                    factors = load_rows(scales[0][rows, :], lie, slice(0, 1), 0, lie.steps)
                for at in nl.affine_range(tile, tile + together):
                    tall = lie.partitions(at)
                    factor = None if factors is None else factors[0:tall, at, :]
                    _evict(out[0:tall, at, into], sums[at - tile], factor, by_column, at + block)
                    if columns.stop == group.stop:
                        _store(y[rows, :], lie, group, out, at)
            if cut.w_stays and top == 0:
                kept.append(w_tiles)


def _sums(x: Any, x_tiles: list[Any], w: Any, w_tiles: list[Any], tiles: slice, cut: Blocks) -> list[Tensor]:
    """Some tiles of rows of a block of the result in PSUM, a bank to each; operands are loaded when first needed.

    Tile t has rows t, t + tiles and so on of the block: a partition's results are neighbours in y.
    """
    of, block, columns = w
    data, rows, lie = x
    width = columns.stop - columns.start
    sums: list[Tensor] = []
    for tile in nl.affine_range(tiles.start, tiles.stop):
        sums.append(nl.ndarray((_even(lie.partitions(tile), of[2]), width), dtype=nl.float32, buffer=nl.psum))
    for step in nl.affine_range(0, cut.steps, cut.pair):
        if step // cut.x_steps == len(x_tiles):
            _load(x_tiles, data, rows, step, cut.x_steps, lie.steps, cut)
        if step // cut.w_steps == len(w_tiles):
            if len(of[0].shape) == (3 if of[2] is None else 4):
                scale = None if of[1] is None else of[1][block]
                _load(w_tiles, (of[0][block], scale, of[2]), slice(0, width), step, cut.w_steps, 0, cut)
            else:
                _load(w_tiles, of, columns, step, cut.w_steps, 0, cut)
        left, right = x_tiles[step // cut.x_steps], w_tiles[step // cut.w_steps]
        for at in nl.affine_range(len(sums)):
            low = tiles.start + at
            part = slice(low, low + (sums[at].shape[0] - 1) * lie.steps + 1, lie.steps)
            _multiply(sums[at], left, step % cut.x_steps, part, right, step % cut.w_steps, step, cut)
    return sums


def _multiply(sums: Tensor, left: Any, at: int, part: slice, right: Any, beside: int, step: int, cut: Blocks) -> None:
    """One tile of k, or a pair, of one tile of rows."""
    if left[1] is not None:
        columns = slice(0, sums.shape[1], 1)
        nisa.nc_matmul_mx(
            dst=sums, stationary=_flat(left[0], left[2], at, part), moving=_flat(right[0], right[2], beside, columns),
            stationary_scale=_flat(left[1], left[3], step, part),
            moving_scale=_flat(right[1], right[3], step, columns),
        )  # fmt: skip
    elif cut.pair == 2 and cut.rest != step + 1:
        deep = cut.partitions(step)
        nisa.nc_matmul(
            dst=sums, stationary=left[0][0:deep, at : at + 2, part], moving=right[0][0:deep, beside : beside + 2, :],
            perf_mode=nisa.matmul_perf_mode.double_row,
        )  # fmt: skip
    else:  # a pair whose tiles differ in depth is two
        for more in nl.affine_range(cut.pair):
            deep = cut.partitions(step + more)
            nisa.nc_matmul(
                dst=sums, stationary=left[0][0:deep, at + more, part], moving=right[0][0:deep, beside + more, :]
            )


def _flat(tile: Tensor, width: int, step: int, columns: slice) -> Tensor:
    """Some columns of a step of MX data or scales, ``width`` to a step (0: scales of 1, the same for all steps)."""
    if width == 0:
        return tile[:, 0 : (columns.stop - columns.start - 1) // columns.step + 1]
    return tile[:, step * width + columns.start : step * width + columns.stop : columns.step]


def _load(tiles: list[Any], of: Any, columns: slice, step: int, steps: int, more: int, cut: Blocks) -> None:
    """Append tiles of k from ``step`` on of an operand [k, …], or of MX [partitions, steps, …] with all its scales.

    Of MX with the width of a step in the data and in the scales, and ``more`` columns of zeros behind the last step.
    """
    stop = min(step + steps, cut.steps)
    data, scale, ones = of
    if ones is None:
        tiles.append((load_rows(data, cut, columns, step, stop), None))
        return
    width = columns.stop - columns.start
    if scale is None:
        scales, own = ones, 0
    else:
        scales, own = tiles[0][1] if len(tiles) > 0 else _scales(scale, columns, more), width
    tile = _row(cut.depth, (stop - step) * width, more, data.dtype)
    view = tile[:, 0 : (stop - step) * width].reshape_dim(1, (stop - step, width))
    nisa.dma_copy(dst=view, src=data[:, step:stop, columns])
    tiles.append((tile, scales, width, own))


def _scales(scale: Tensor, columns: slice, more: int) -> Tensor:
    """All scales of a block, in the first four partitions of each quadrant."""
    eighths, steps, width = scale.shape[0], scale.shape[1], columns.stop - columns.start
    tile = _row(eighths * 8, steps * width, more, nl.uint8)
    for quadrant in nl.affine_range(eighths // 4):
        view = tile[quadrant * 32 : quadrant * 32 + 4, 0 : steps * width].reshape_dim(1, (steps, width))
        nisa.dma_copy(dst=view, src=scale[quadrant * 4 : quadrant * 4 + 4, :, columns])
    return tile


def _row(partitions: int, size: int, more: int, dtype: Any) -> Tensor:
    """A tile [partitions, size], and ``more`` zeros behind.

    MX products take an even number of rows: the last of them may be a column that belongs to the next step, or these.
    """
    tile = sbuf((partitions, size + more), dtype)
    if more > 0:
        nisa.memset(dst=tile[:, size:], value=0)
    return tile


def _even(size: int, ones: Tensor) -> int:
    return size if ones is None else size + size % 2


def _evict(dst: Tensor, sums: Tensor, row: Tensor, by_column: Tensor, turn: int) -> None:
    """Sums out of PSUM, rounded and scaled: VectorE and ScalarE by turns, as either has a bank ready."""
    src = sums[0 : dst.shape[0], :]
    if by_column is not None:
        nisa.scalar_tensor_tensor(
            dst=dst, data=src, op0=nl.multiply, operand0=1.0 if row is None else row, op1=nl.multiply,
            operand1=by_column[0 : dst.shape[0], :],
        )  # fmt: skip
    elif turn % 2:
        nisa.activation(dst=dst, op=nl.copy, data=src, scale=1.0 if row is None else row)
    elif row is None:
        nisa.tensor_copy(dst=dst, src=src, engine=nisa.vector_engine)
    else:
        nisa.tensor_scalar(dst=dst, data=src, op0=nl.multiply, operand0=row, engine=nisa.vector_engine)


def _column_factors(scale: Tensor, columns: slice, partitions: int) -> Tensor:
    """The scales of a block of columns, the same in every partition."""
    return None if scale is None else loaded(scale[:, columns].broadcast(0, partitions))


def _store(y: Tensor, lie: Rows, columns: slice, out: Tensor, tile: int) -> None:
    """A tile of results; where y has few columns all at once after the last one, in one long row of each partition."""
    if columns.stop - columns.start == y.shape[1] and y.shape[1] * y.itemsize < SHORT:
        if tile == lie.steps - 1:
            store_rows(y, lie, columns, 0, out)
        return
    tall = lie.partitions(tile)
    rows = slice(tile, tile + (tall - 1) * lie.steps + 1, lie.steps)
    nisa.dma_copy(dst=y[rows, columns], src=out[0:tall, tile, :])
