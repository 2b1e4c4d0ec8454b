"""Storage: the bytes behind tensors, and which of them have been written.

Every allocation owns its bytes, whether the address is the compiler's or the kernel's. Addresses, banks,
capacity and what overlaps are settled from the instruction records when the run ends (``chip/allocate.py``,
``chip/hazards.py``), as a compiler does from its whole program.
"""

from __future__ import annotations

from copy import copy
from math import prod
from typing import Any

import numpy as np

from trainshed.chip.errors import Source
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType

View = tuple[int, tuple[int, ...], tuple[int, ...], int]
"""Bytes of an element, shape, strides and offset (in elements)."""


class Storage:
    """One allocation: ``shape[0]`` partitions of ``row`` bytes on chip, one run of bytes in HBM.

    ``written`` says how much is initialised: ``False`` nothing, ``True`` all, else a byte mask (1 = written).
    """

    __slots__ = (
        "_data", "_matmul", "_products", "address", "argument", "buffer", "changed", "dtype", "held", "lent",
        "name", "nbytes", "origin", "row",
        "scale", "serial", "shape", "shared", "source", "waiting", "wide", "written",
    )  # fmt: skip

    def __init__(
        self,
        serial: int,
        shape: tuple[int, ...],
        dtype: DType,
        buffer: MemoryRegion,
        *,
        name: str = "",
        address: tuple[int, int] | None = None,
        source: Source | None = None,
        data: np.ndarray[Any, Any] | None = None,
        wide: bool = False,
    ) -> None:
        self.serial, self.shape, self.dtype, self.buffer = serial, shape, dtype, buffer
        self.name, self.address, self.source = name, address, source
        count = 1
        for size in shape:
            count *= size
        self.nbytes = count * dtype.itemsize
        self.row = self.nbytes // shape[0] if buffer.on_chip else self.nbytes
        #: 1, or with ``NKI_PRECISE_FP=0`` how many times wider a float32 is than the named format.
        self.scale = 4 // dtype.itemsize if wide and dtype.is_float else 1
        if data is not None and self.scale != 1:
            data = data.astype(np.float32, copy=False)
        #: None until somebody asks for the bytes.
        self._data: np.ndarray[Any, Any] | None = None if data is None else _read_only(data)
        #: The bytes are the caller's: the first instruction that writes here makes them its own (``own``).
        self.lent = data is not None
        self.written: bool | np.ndarray[Any, Any] = data is not None
        #: PSUM only: which bytes hold a matmul's accumulation, but for the views in ``_products``.
        self._matmul: bool | np.ndarray[Any, Any] = False
        self._products: dict[View, tuple[int, int]] | None = None
        #: An instruction wrote to it.
        self.changed = False
        #: Where what is undefined in it was first read: instruction, operand, line.
        self.origin: Any = None
        #: A parameter of the kernel.
        self.argument = data is not None
        #: Seen by both cores of a logical NeuronCore.
        self.shared = buffer is MemoryRegion.shared_hbm
        #: PSUM only: products that are not in ``data`` yet (``chip/waiting.py``).
        self.waiting: Any = None
        #: Products that wait for it as an operand, and all of it as float32 (``chip/waiting.py``).
        self.held: Any = None
        self.wide: np.ndarray[Any, Any] | None = None

    def described(self) -> Storage:
        """The allocation without its bytes: what is kept of an on-chip tile that no tensor names any more."""
        kept = copy(self)
        kept._data = _NOTHING
        return kept

    def own(self) -> None:
        """Bytes of its own in place of those lent."""
        if self.lent:
            assert self._data is not None
            bytes_ = _aligned(self._data.size)
            np.copyto(bytes_, self._data)
            self._data, self.lent = bytes_, False

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The bytes."""
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.settle()
        if self._data is None:
            self._data = _aligned(self.nbytes * self.scale)
        return self._data

    @property
    def matmul(self) -> bool | np.ndarray[Any, Any]:
        """PSUM only: which bytes hold a matmul's accumulation (same meaning as ``written``)."""
        views, self._products = self._products, None
        for view in views or ():
            self._matmul = mark(self._matmul, self.nbytes, *view)
        return self._matmul

    def accumulate(self, view: View) -> None:
        """A matmul's results are in a view now."""
        if self._matmul is True:
            return
        if covers(self.nbytes // view[0], *view[1:]):
            self._matmul = True
            return
        if self._products is None:
            self._products = {}
        self._products[view] = _bytes_of_row(self.row, view)

    def accumulates(self, view: View) -> bool:
        """Whether all of a view holds a matmul's results."""
        views = self._products
        if self._matmul is True or (views and view in views):
            return True
        if self._matmul is False:
            low, high = _bytes_of_row(self.row, view)
            if views is None or all(high <= begin or end <= low for begin, end in views.values()):
                return False
        return not missing(self.matmul, *view)


def _bytes_of_row(row: int, view: View) -> tuple[int, int]:
    """The bytes of each partition among which those of an on-chip view are."""
    size, shape, strides, offset = view
    low = high = offset * size % row
    for count, stride in zip(shape[1:], strides[1:], strict=True):
        if stride < 0:
            low += (count - 1) * stride * size
        else:
            high += (count - 1) * stride * size
    return low, high + size


_NOTHING = np.empty(0, np.uint8)


def _read_only(data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bytes of contiguous data, of which nobody here may change one."""
    bytes_ = data.reshape(-1).view(np.uint8)
    bytes_.flags.writeable = False
    return bytes_


def _aligned(nbytes: int) -> np.ndarray[Any, Any]:
    """Bytes on a cache line of their own: 16 bytes beside a source's page offset, a copy takes ten times as long."""
    raw = np.empty(nbytes + 63, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    return raw[start : start + nbytes]


_ONES: dict[int, Any] = {1: np.uint8(1), 2: np.uint16(0x0101), 4: np.uint32(0x01010101)}
_WORDS: dict[int, np.dtype[Any]] = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.uint32)}


def mark(
    state: bool | np.ndarray[Any, Any],
    nbytes: int,
    itemsize: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
) -> bool | np.ndarray[Any, Any]:
    """The state after a write of ``shape`` elements at ``offset`` (elements), ``strides`` apart."""
    if state is True:
        return True
    if covers(nbytes // itemsize, shape, strides, offset):
        return True
    if state is False:
        state = np.zeros(nbytes, np.uint8)
    before = state[-1]
    window(state, itemsize, shape, strides, offset)[...] = _ONES[itemsize]
    # A tile filled piece by piece is looked through once, when its last byte is written.
    return True if not before and state[-1] and bool((state == 1).all()) else state


def covers(count: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> bool:
    """Whether a view touches every one of ``count`` elements exactly once, in whatever order."""
    if offset:
        return False
    expected = 1
    for stride, size in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return expected == count


def window(
    data: np.ndarray[Any, Any], itemsize: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> np.ndarray[Any, Any]:
    """A byte array seen as words of ``itemsize`` at the places of a view."""
    return np.ndarray(
        shape, _WORDS[int(itemsize)], data.data, offset * itemsize, tuple(stride * itemsize for stride in strides)
    )


def missing(
    state: bool | np.ndarray[Any, Any],
    itemsize: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
) -> int:
    """How many elements of a view have a byte that was never written."""
    if state is True:
        return 0
    if state is False:
        return prod(shape)
    words = window(state, itemsize, shape, strides, offset)
    return int(np.count_nonzero(words != _ONES[itemsize]))
