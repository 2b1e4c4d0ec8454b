"""Products that wait: matmuls one after another onto one tile of PSUM are multiplied as one when PSUM is looked at.

A kernel sums its contraction 128 rows at a time; a library multiplies thousands of rows without stopping between, and
on several threads. Operands stay where they are until then: an instruction that writes to them first lets the products
that wait take copies (``let_go``). Whoever touches the bytes of the storage (``Storage.data``) finds the sum there.
"""

from __future__ import annotations

import math
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


Operand = NkiTensor | Array
"""A view whose bytes stay where they are until they are written, or values of the products' own."""


class Waiting:
    """Operands of products that one view of PSUM is to hold the sum of."""

    __slots__ = ("adds", "depth", "kinds", "parts", "place", "target")

    def __init__(self, dst: NkiTensor, target: Array, adds: bool) -> None:
        self.place = _place(dst)
        self.target, self.adds, self.depth = target, adds, 0
        self.parts: list[tuple[Operand, Operand]] = []
        self.kinds: tuple[DType, DType] | None = None

    def append(self, stationary: Operand, moving: Operand, kinds: tuple[DType, DType]) -> None:
        """One more product, of operands ``[K, M]`` and ``[K, N]`` as stored."""
        if self.kinds is not None and self.kinds != kinds:
            self.take()
            stationary, moving = _own(stationary, kinds[0]), _own(moving, kinds[1])
            kinds = _FLOAT32
        self.kinds = kinds
        self.parts.append((stationary, moving))
        self.depth += stationary.shape[0]
        for operand in (stationary, moving):
            if isinstance(operand, NkiTensor):
                storage = operand.storage
                if not storage.held or storage.held[-1] is not self:
                    storage.held = [*(one for one in storage.held or () if one.parts), self]

    def take(self) -> None:
        """Copies of the operands, as float32."""
        if self.kinds is not None:
            first, second = self.kinds
            self.parts = [(_own(a, first), _own(b, second)) for a, b in self.parts]
            self.kinds = _FLOAT32

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
        self.parts, self.kinds, self.depth = [], None, 0

    def _matrices(self) -> tuple[Array, Array]:
        """Both operands ``[K, …]`` as float32, the rows of K in one order or another, but the same in both."""
        assert self.kinds is not None
        sides = [[part[0] for part in self.parts], [part[1] for part in self.parts]]
        steps = [_step(side) for side in sides]
        if steps[0] is not None and steps[1] is not None:
            return _stack(sides[0], steps[0]), _stack(sides[1], steps[1])
        first, second = (
            np.concatenate([to_float32(_values(operand), kind) for operand in side])
            for side, kind in zip(sides, self.kinds, strict=True)
        )
        return first, second


_FLOAT32 = (DType("float32"), DType("float32"))


def _values(operand: Operand) -> Array:
    from trainshed.chip.call import array

    return array(operand) if isinstance(operand, NkiTensor) else operand


def _own(operand: Operand, kind: DType) -> Array:
    values = _values(operand)
    wide = to_float32(values, kind)
    return wide.copy() if isinstance(operand, NkiTensor) and wide is values else wide


def _step(operands: list[Operand]) -> int | None:
    """Elements from one view to the next where all are alike and lie at equal distances in one storage."""
    first = operands[0]
    if not isinstance(first, NkiTensor):
        return None
    like = first.storage, first.dtype, first.shape, first.strides
    step = None
    for place, operand in enumerate(operands):
        if not isinstance(operand, NkiTensor) or (
            operand.storage, operand.dtype, operand.shape, operand.strides
        ) != like:  # fmt: skip
            return None
        if place == 1:
            step = operand.offset - first.offset
        elif place and operand.offset - first.offset != place * (step or 0):
            return None
    return step or 0


def _stack(operands: list[Operand], step: int) -> Array:
    """Views ``[K, n]`` that lie ``step`` elements apart as a float32 matrix ``[K * len, n]``."""
    first = operands[0]
    assert isinstance(first, NkiTensor)
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
    from trainshed.chip.call import array

    storage.waiting = made = Waiting(dst, array(dst), adds)
    return made
