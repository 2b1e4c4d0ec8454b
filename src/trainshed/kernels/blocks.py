"""The blocks of a matrix product on a NeuronCore: what waits in SBUF, what passes by, what a DMA moves.

A result's block is eight banks of PSUM at most, ``rows`` by ``width``, and is finished there: every product over all
of k is added up before it leaves. While the columns of w pass by, block after block, the block of rows of x stays in
SBUF where half of it suffices, so that x is read once and w once per block of rows. Where k is so long that fewer
than four tiles of rows would stay, both pass by, eight tiles of rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from trainshed.core.errors import UserError, unknown_name
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.schema import NeuronCore

#: Bytes of what one partition holds of a column (an element, or a container of four), and the elements of k in it.
_HELD = {"bf16": (2, 1), "fp16": (2, 1), "fp32": (4, 1), "fp8": (1, 1), "mxfp8": (4, 4), "mxfp4": (2, 4)}
#: Rows of a tile, columns and banks of PSUM.
_TILE, _BANK, _BANKS = 128, 512, 8
#: Cycles from one matmul to the next, at least. Source: NKI performance guide.
_LEAST = 64
#: Bytes per partition that one DMA moves: rows long enough for the DMA engines' full rate, 512 KiB in all.
_ROW = 4096
#: Tiles of rows that have to stay for w to pass by slowly enough.
_FEW = 4


def up(size: int, of: int) -> int:
    """How many of ``of`` cover ``size``."""
    return -(-size // of)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How rows of a tensor lie in partitions: partition p holds ``steps`` rows from ``p * steps`` on.

    So what one partition takes of several rows is one piece of HBM.
    """

    steps: int
    depth: int
    """Partitions that hold ``steps`` rows."""
    rest: int
    """Rows that are left, fewer than ``steps``, which one more partition holds."""

    def partitions(self, step: int) -> int:
        """Partitions that have a row at ``step``."""
        return self.depth + (step < self.rest)


def spread(rows: int) -> Rows:
    """As many rows over as many of 128 partitions as they fill evenly."""
    steps = up(rows, _TILE)
    return Rows(steps=steps, depth=rows // steps, rest=rows % steps)


@dataclass(frozen=True, kw_only=True)
class Blocks(Rows):
    """The blocks of y[m, n] = x[m, k] · w[k, n]. The rows that lie in partitions are those of k, in tiles (steps)."""

    pair: int
    """Tiles of k that one matmul takes (2: double row)."""
    rows: int
    """Rows of a block of the result, all of m or tiles of 128."""
    width: int
    """Columns of a block of the result."""
    columns: int
    """Blocks of columns."""
    x_stays: bool
    """The block of x stays in SBUF while w passes; else it passes too, once per block of columns."""
    w_stays: bool
    """All of w stays in SBUF and is read once; else once per block of rows."""
    apart: bool
    """Tiles of rows are finished one after the other, not all at the end of k.

    That takes room for x and for two blocks of w over all of k, and the DMA engines done in three quarters of the time.
    """
    x_steps: int
    """Tiles of k of a block of x that one DMA loads."""
    w_steps: int
    """The same of w."""
    stored: int
    """Blocks of columns that one DMA stores."""


def turned(m: int, n: int, dtype: str) -> bool:
    """Whether a product is quicker with its operands exchanged, w before x: the result is [n, m] then.

    TensorE passes the columns of one operand for each 128 rows of the other, 64 cycles at least: exchanged it takes
    fewer cycles where m fills its tiles badly and n better. Up to 128 rows (of other dtypes than fp32) that is no gain:
    the weights come more slowly than TensorE takes them.
    """
    if m <= _TILE and dtype != "fp32":
        return False
    passes = 4 if dtype == "fp32" else 1
    rows = up(m, _TILE) * max(n * passes, _LEAST * up(n, _BANK))
    return up(n, _TILE) * max(m * passes, _LEAST * up(m, _BANK)) < rows


@lru_cache
def _core(target: str) -> NeuronCore:
    core = Catalogue().chip(target).neuron
    if core is None:
        raise UserError("chip", where="kernels.blocks", value=target, expected="one of NeuronCores")
    return core


def _steps(k: int, dtype: str, core: NeuronCore) -> tuple[int, int, int, int]:
    """``steps``, ``depth``, ``rest`` and ``pair``."""
    _, packed = _HELD[dtype]
    if packed > 1:  # zeros fill what is left of a group of 32
        steps = up(k, packed * _TILE)
        return steps, 32 * up(k, packed * steps * 32), 0, 1
    pair = 2 if dtype == "fp8" and float(core.depth["fp8"].value) > _TILE and k > 1 else 1
    steps = pair * up(k, pair * _TILE)
    return steps, k // steps, k % steps, pair


@lru_cache(maxsize=4096)
def blocks(m: int, k: int, n: int, dtype: str, target: str, cores: int = 1) -> Blocks:
    """The blocks of a product of ``dtype`` on ``target``, its columns shared by ``cores``.

    Each of ``cores`` takes ``columns / cores`` blocks of columns; the last ones may be narrower than ``width``, or
    empty.
    """
    if dtype not in _HELD:
        raise unknown_name("dtype", dtype, _HELD, where="kernels.blocks")
    for name, value in (("m", m), ("k", k), ("n", n), ("cores", cores)):
        if value < 1:
            raise UserError(name, where="kernels.blocks", value=value, expected="at least 1")
    core, (size, _) = _core(target), _HELD[dtype]
    steps, depth, rest, pair = _steps(k, dtype, core)
    row = int(float(core.sbuf.value)) // _TILE
    tiles = up(m, _TILE)
    whole = steps * min(m, _TILE) * size  # of one tile of rows, over all of k
    fit = min(row // 2 // whole, _BANKS, tiles)
    x_stays = fit >= min(_FEW, tiles)
    passes = up(tiles, fit if x_stays else _BANKS)
    rows = min(m, up(tiles, passes) * _TILE)
    columns = cores * up(n, cores * _BANK)
    width = up(n, columns)
    banks = up(rows, _TILE)
    stored = min(columns // cores, 2 if banks > _FEW else 4)
    loads = _TILE * steps * (rows + columns // cores * width) * size / float(core.dma_bandwidth.value)
    products = banks * columns // cores * steps / pair * width * (4 if dtype == "fp32" else 1)
    soon = loads <= 0.75 * products / float(core.tensor_clock.value)
    results = 2 * banks * stored * width * (4 if dtype == "fp32" else 2)
    return Blocks(
        steps=steps, depth=depth, rest=rest, pair=pair, rows=rows, width=width, columns=columns, x_stays=x_stays,
        w_stays=x_stays and passes > 1 and steps * columns // cores * width * size <= row // 4,
        apart=x_stays and steps * (rows + 2 * width) * size + results <= row and soon,
        x_steps=_chunk(rows * size, steps, pair), w_steps=_chunk(width * size, steps, pair), stored=stored,
    )  # fmt: skip


def _chunk(row: int, steps: int, pair: int) -> int:
    """Tiles of k to a DMA, of ``row`` bytes each."""
    return min(steps, max(pair, _ROW // row // pair * pair))
