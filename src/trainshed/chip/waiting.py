"""Products that wait: matmuls one after another onto one tile of PSUM are multiplied as one when PSUM is looked at.

A kernel sums its contraction 128 rows at a time; a library multiplies thousands of rows without stopping between, and
on several threads. Operands stay where they are until then: an instruction that writes to them first lets the products
that wait take copies (``let_go``). Whoever touches the bytes of the storage (``Storage.data``) finds the sum there.
In which order the rows are summed depends on where the operands lie, never on whether they were copied: two cores
that multiply the same values get the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.chip.memory import Storage
from trainshed.chip.tensor import NkiTensor
from trainshed.numerics.cast import to_float32
from trainshed.numerics.formats import DType
from trainshed.numerics.gemm import product

Array = np.ndarray[Any, Any]
#: Rows that are gathered before they are multiplied, and multiply-adds from which a product is worth to wait.
DEPTH, LEAST = 4096, 1 << 20
#: A storage is widened whole, once for all products, where one of them uses at least one part in so many of it.
_SHARE = 8


@dataclass(slots=True)
class Operand:
    """One operand ``[K, n]`` of a product that waits."""

    view: NkiTensor | None
    """Where it lies; None: nowhere that could be followed."""
    kind: DType
    values: Array | None = None
    """Values of its own, float32; None: its bytes stay where they are until they are written."""

    def read(self) -> Array:
        """The values as float32, not to be written to."""
        if self.values is not None:
            return self.values
        assert self.view is not None
        return to_float32(_array(self.view), self.kind)

    def take(self) -> None:
        """Keep a copy."""
        if self.values is None:
            assert self.view is not None
            found = _array(self.view)
            wide = to_float32(found, self.kind)
            self.values = wide.copy() if wide is found else wide


class Waiting:
    """Operands of products that one view of PSUM is to hold the sum of."""

    __slots__ = ("adds", "depth", "parts", "place", "target")

    def __init__(self, dst: NkiTensor, target: Array, adds: bool) -> None:
        self.place = _place(dst)
        self.target, self.adds, self.depth = target, adds, 0
        self.parts: list[tuple[Operand, Operand]] = []

    def append(self, stationary: Operand, moving: Operand, depth: int) -> None:
        """One more product, of operands ``[K, M]`` and ``[K, N]`` of ``depth`` K."""
        self.parts.append((stationary, moving))
        self.depth += depth
        for operand in (stationary, moving):
            if operand.values is None:
                assert operand.view is not None
                storage = operand.view.storage
                if not storage.held or storage.held[-1] is not self:
                    storage.held = [*(one for one in storage.held or () if one.parts), self]

    def take(self) -> None:
        """Copies of the operands, as float32."""
        for part in self.parts:
            for operand in part:
                operand.take()

    def settle(self) -> None:
        """Multiply, and write or add to PSUM."""
        stationary, moving = self._matrices()
        first, target = stationary.T, self.target
        with np.errstate(all="ignore"):
            if not self.adds and target.ndim == 2 and target.strides[1] == 4:
                product(first, moving, target)
            elif self.adds:
                np.add(target, product(first, moving).reshape(target.shape), out=target)
            else:
                target[...] = product(first, moving).reshape(target.shape)
        self.drop()

    def drop(self) -> None:
        """Forget the operands."""
        self.parts, self.depth = [], 0

    def _matrices(self) -> tuple[Array, Array]:
        """Both operands ``[K, …]`` as float32, the rows of K in one order or another, but the same in both."""
        sides = [part[0] for part in self.parts], [part[1] for part in self.parts]
        steps = _step(sides[0]), _step(sides[1])
        if steps[0] is not None and steps[1] is not None:
            return _stack(sides[0], steps[0]), _stack(sides[1], steps[1])
        first, second = (np.concatenate([operand.read() for operand in side]) for side in sides)
        return first, second


def _array(view: NkiTensor) -> Array:
    from trainshed.chip.call import array

    return array(view)


def _step(operands: list[Operand]) -> int | None:
    """Elements from one view to the next where all are alike and lie at equal distances in one storage."""
    first = operands[0].view
    if first is None:
        return None
    like = first.storage, first.dtype, first.shape, first.strides
    step = None
    for place, operand in enumerate(operands):
        view = operand.view
        if view is None or (view.storage, view.dtype, view.shape, view.strides) != like:
            return None
        if place == 1:
            step = view.offset - first.offset
        elif place and view.offset - first.offset != place * (step or 0):
            return None
    return step or 0


def _stack(operands: list[Operand], step: int) -> Array:
    """Views ``[K, n]`` that lie ``step`` elements apart as a float32 matrix ``[K * len, n]``."""
    if any(operand.values is not None for operand in operands):
        values = np.stack([operand.read() for operand in operands], axis=1)
        return values.reshape(-1, values.shape[2])
    first = operands[0].view
    assert first is not None
    kind, storage = first.dtype.storage, first.storage
    shape = (first.shape[0], len(operands), first.shape[1])
    count, start = storage.nbytes // kind.itemsize, first.offset
    source, size = storage.data.view(kind), kind.itemsize
    if first.dtype != "float32" and storage.dtype == first.dtype and math.prod(shape) * _SHARE >= count:
        if storage.wide is None:
            storage.wide = to_float32(source, first.dtype)
        source, size = storage.wide, 4
    strides = (first.strides[0] * size, step * size, first.strides[1] * size)
    view = np.lib.stride_tricks.as_strided(source[start:], shape, strides, writeable=False)
    wide = view if view.dtype == np.float32 else to_float32(view, first.dtype)
    return wide.reshape(-1, shape[2])


def let_go(storage: Storage) -> None:
    """Before a storage is written: what waits for it takes copies, and what was widened of it is forgotten."""
    for waits in storage.held:
        waits.take()
    storage.held, storage.wide = None, None


def _place(dst: NkiTensor) -> tuple[Any, ...]:
    return dst.offset, dst.shape, dst.strides


def waiting_for(dst: NkiTensor, rows: int, columns: int, depth: int, adds: bool) -> Waiting | None:
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
    storage.waiting = made = Waiting(dst, _array(dst), adds)
    return made
