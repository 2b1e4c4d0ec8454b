"""Products that wait: matmuls one after another onto one tile of PSUM are multiplied as one when PSUM is looked at.

A kernel sums its contraction 128 rows at a time; a library multiplies 1,024 rows without stopping between, and
on several threads. Operands are copied, as float32, when the instruction executes, so that later writes to them do not
matter. Whoever touches the bytes of the storage (``Storage.data``) finds the sum there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trainshed.chip.core import NeuronCore
from trainshed.chip.tensor import NkiTensor
from trainshed.numerics.cast import to_float32
from trainshed.numerics.formats import DType
from trainshed.numerics.gemm import product

Array = np.ndarray[Any, Any]
#: Rows that are gathered before they are multiplied, and multiply-adds from which a product is worth to wait.
DEPTH, LEAST = 1024, 1 << 20
_COPIED = frozenset([np.dtype(np.float32), DType("bfloat16").storage])


class Waiting:
    """Operands of products that one view of PSUM is to hold the sum of."""

    __slots__ = ("adds", "depth", "moving", "place", "pool", "stationary", "target")

    def __init__(self, core: NeuronCore, dst: NkiTensor, target: Array, rows: int, columns: int, adds: bool) -> None:
        pools: dict[tuple[int, int], list[tuple[Array, Array]]] = core.state.setdefault("matmul-buffers", {})
        self.pool = pools.setdefault((rows, columns), [])
        self.stationary, self.moving = (
            self.pool.pop()
            if self.pool
            else (np.empty((DEPTH, rows), np.float32), np.empty((DEPTH, columns), np.float32))
        )
        self.place = _place(dst)
        self.target, self.adds, self.depth = target, adds, 0

    def append(self, stationary: Array, moving: Array, kinds: tuple[DType, DType]) -> None:
        """One more product, of operands as stored, ``[K, M]`` and ``[K, N]``."""
        end = self.depth + stationary.shape[0]
        for into, values, kind in ((self.stationary, stationary, kinds[0]), (self.moving, moving, kinds[1])):
            np.copyto(into[self.depth : end], values if values.dtype in _COPIED else to_float32(values, kind))
        self.depth = end

    def settle(self) -> None:
        """Multiply, and write or add to PSUM."""
        first, second, target = self.stationary[: self.depth].T, self.moving[: self.depth], self.target
        with np.errstate(all="ignore"):
            if not self.adds and target.ndim == 2 and target.strides[1] == 4:
                product(first, second, target)
            elif self.adds:
                np.add(target, product(first, second).reshape(target.shape), out=target)
            else:
                target[...] = product(first, second).reshape(target.shape)
        self.drop()

    def drop(self) -> None:
        """Give the memory back."""
        self.pool.append((self.stationary, self.moving))


def _place(dst: NkiTensor) -> tuple[Any, ...]:
    return dst.offset, dst.shape, dst.strides


def waiting_for(core: NeuronCore, dst: NkiTensor, rows: int, columns: int, depth: int, adds: bool) -> Waiting | None:
    """Where a float32 product onto ``dst`` may wait; None where it is to be computed now."""
    if rows * columns * depth < LEAST or dst.indirection is not None or str.__ne__(dst.dtype, "float32"):
        return None
    storage = dst.storage
    waits: Waiting | None = storage.waiting
    if waits is not None and waits.place == _place(dst):
        if not adds:
            storage.waiting = None
            waits.drop()
        elif waits.depth + depth <= DEPTH:
            return waits
    from trainshed.chip.call import array

    storage.waiting = made = Waiting(core, dst, array(dst), rows, columns, adds)
    return made
