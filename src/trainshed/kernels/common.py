"""What kernels of the library share: the target, how rows come and go, the sentence for arguments that do not fit."""

from __future__ import annotations

from typing import Any

import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.core.errors import UserError
from trainshed.kernels.blocks import Rows, up

Tensor = Any
"""A tensor of a kernel (``trainshed.chip.tensor.NkiTensor``), whose views are untyped in NKI."""

#: Bytes of each partition in a DMA: from there on the DMA engines run at their full rate.
ROW = 4096
#: Elements of each partition in a block of a kernel that knows no rows.
WIDTH = 2048
#: Partitions of SBUF and PSUM. Source: nki.language.tile_size, "pmax".
PARTITIONS = 128


def require(good: bool, kernel: str, what: str, value: object, expected: str) -> None:
    """One sentence for an argument that a kernel cannot take."""
    if not good:
        raise UserError(what, where=f"kernels.{kernel}", value=value, expected=expected)


def target() -> str:
    """The chip that the kernel runs on, as the hardware catalogue calls it."""
    return ("trn1", "trn2", "trn3")[int(nisa.get_nc_version()) - 2]


def sbuf(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """A new tile in SBUF."""
    return nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)


def loaded(view: Tensor) -> Tensor:
    """A new SBUF tile with a view of HBM in it."""
    tile = sbuf(view.shape, view.dtype)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def rows_of(kernel: str, x: Tensor, held: int) -> int:
    """The columns of ``x`` [rows, columns], of which a partition holds ``held`` bytes per column at a time."""
    require(len(x.shape) == 2, kernel, "dimensions of x", len(x.shape), "2")
    most = nl.tile_size.sbuf_fmax_bytes // held
    require(x.shape[1] <= most, kernel, "columns", x.shape[1], f"at most {most}")
    columns: int = x.shape[1]
    return columns


def own_rows(count: int) -> slice:
    """This core's share of ``count`` rows (or blocks), of several cores."""
    each = up(count, nl.num_programs(0))
    first = min(nl.program_id(0) * each, count)
    return slice(first, min(first + each, count))


def chunk(x: Tensor, rows: Rows) -> int:
    """Steps that one DMA moves: 4 KiB of each partition, or a row that is longer."""
    return min(rows.steps, max(1, ROW // int(x.shape[1] * x.itemsize)))


def alike(rows: Rows, first: int, count: int) -> list[slice]:
    """``count`` steps from ``first`` on, counted from there, in one or two parts of as many partitions each."""
    cut = min(max(rows.rest - first, 0), count)
    found: list[slice] = []
    if cut > 0:
        found.append(slice(0, cut))
    if cut < count:
        found.append(slice(cut, count))
    return found


def runs(x: Tensor, width: int = WIDTH) -> list[tuple[int, int, int]]:
    """This core's blocks of all elements of ``x``: the first element, partitions, and elements in each of them."""
    size, found = x.size, list[tuple[int, int, int]]()
    whole = size // (PARTITIONS * width)
    for block in range(whole):
        found.append((block * PARTITIONS * width, PARTITIONS, width))
    start = whole * PARTITIONS * width
    columns = (size - start) // PARTITIONS
    if columns > 0:
        found.append((start, PARTITIONS, columns))
        start += columns * PARTITIONS
    if start < size:
        found.append((start, 1, size - start))
    return found[nl.program_id(0) :: nl.num_programs(0)]


def flat(x: Tensor, run: tuple[int, int, int]) -> Tensor:
    """A block of the elements of a tensor in HBM."""
    start, partitions, columns = run
    return x.reshape((x.size,))[start : start + partitions * columns].reshape((partitions, columns))


def loaded_run(x: Tensor, run: tuple[int, int, int]) -> Tensor:
    """A new tile with a block of elements in it."""
    return loaded(flat(x, run))


def load_rows(data: Tensor, rows: Rows, columns: slice, first: int, stop: int) -> Tensor:
    """A new tile [partitions, steps, columns] with the steps from ``first`` to ``stop`` of a tensor [rows, …] in it."""
    tile = sbuf((rows.partitions(first), stop - first, columns.stop - columns.start), data.dtype)
    _move(data, rows, columns, first, tile, True)
    return tile


def store_rows(data: Tensor, rows: Rows, columns: slice, first: int, tile: Tensor) -> None:
    """The way back: a tile's steps are those from ``first`` on."""
    _move(data, rows, columns, first, tile, False)


def _move(data: Tensor, rows: Rows, columns: slice, first: int, tile: Tensor, load: bool) -> None:
    """One DMA, and a small one for the partition that has fewer rows."""
    stop, whole = first + tile.shape[1], rows.depth * rows.steps
    view = data[0:whole, columns].reshape_dim(0, (rows.depth, rows.steps))[:, first:stop, :]
    _copy(tile[0 : rows.depth, :, :], view, load)
    if first < rows.rest:
        last = min(stop, rows.rest)
        view = data[whole + first : whole + last, columns].expand_dim(0)
        _copy(tile[rows.depth : rows.depth + 1, 0 : last - first, :], view, load)


def _copy(tile: Tensor, view: Tensor, load: bool) -> None:
    if load:
        nisa.dma_copy(dst=tile, src=view)
    else:
        nisa.dma_copy(dst=view, src=tile)
