"""Tensors: views of storage, as the hardware's access patterns describe them.

A view is an element offset, and a stride and a count per dimension. On chip, dimension 0 is the partition and
its stride is one row; an element may never leave its partition's row. No view copies anything.

Source: ``NkiTensor`` in the type stubs of NKI 0.6; for ``.ap`` the page on access patterns (``nki-aps``).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.chip.errors import NkiValidationError, violation
from trainshed.chip.layout import infer, merge, reshaped, row_major
from trainshed.chip.memory import Storage
from trainshed.chip.numbers import whole, wholes
from trainshed.chip.operators import NoOperators
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.words import MemoryRegion, NKIObject
from trainshed.numerics.formats import DType, lookup


class DynamicSlice(NKIObject):
    """``nl.ds(start, size)``: ``size`` elements from a start that may be a register."""

    __slots__ = ("size", "start")

    def __init__(self, start: Any, size: int) -> None:
        self.start, self.size = start, size

    def __repr__(self) -> str:
        return f"ds({self.start}, {self.size})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Indirection:
    """How a view finds its place while the kernel runs.

    ``scalar``: the whole view moves by ``index * stride``. ``vector``: row ``p`` starts at ``index[p] * stride``
    in place of its own stride. ``free``: column ``i`` of every partition comes from the i-th offset of ``index``
    (snake order over groups of 16 or 32 partitions).
    """

    kind: str
    index: NkiTensor | VirtualRegister
    stride: int
    limit: int
    """One more than the largest legal index."""
    dim: int = 0


_ALL = slice(None)
_INDEX = (int, np.integer, VirtualRegister)  # a union would be made anew for every index


class NkiTensor(NoOperators, NKIObject):
    """A tensor or a view of one: ``shape``, ``strides`` and ``offset`` in elements of ``dtype``."""

    __slots__ = ("dtype", "fault", "indirection", "offset", "shape", "storage", "strides")

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DType,
        storage: Storage,
        strides: tuple[int, ...] | None = None,
        offset: int = 0,
        indirection: Indirection | None = None,
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self.storage = storage
        self.strides = strides if strides is not None else row_major(self.shape)
        self.offset = offset
        self.indirection = indirection
        #: Why no instruction may use this view.
        self.fault: NkiValidationError | None = None

    # --- what it is ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.storage.name

    @property
    def buffer(self) -> MemoryRegion:
        return self.storage.buffer

    @property
    def base_tensor(self) -> NkiTensor:
        """The tensor this is a view of, as it was made: NKI 0.3's kernels ask for it where a view changed the dtype."""
        return NkiTensor(self.storage.shape, self.storage.dtype, self.storage)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes the view touches, repeats counted."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row(self) -> int:
        """Elements of this dtype in one partition's row of the storage (on chip)."""
        return self.storage.row // self.dtype.itemsize

    @property
    def start_partition(self) -> int:
        """The physical partition of the first element (on chip)."""
        base = self.storage.address[0] if self.storage.address else 0
        return base + self.offset // self.row

    @property
    def free_size(self) -> int:
        """Elements per partition."""
        return math.prod(self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<{self.buffer.value} tensor{name} {self.dtype}{list(self.shape)}>"

    def __str__(self) -> str:
        """What it is and, in a kernel that computes, its values in brief."""
        from trainshed.chip.show import show

        return show(self)

    def is_contiguous(self) -> bool:
        """Whether the view covers storage in row-major order (on chip: within each partition)."""
        start = 1 if self.buffer.on_chip else 0
        expected = 1
        for size, stride in zip(reversed(self.shape[start:]), reversed(self.strides[start:]), strict=True):
            if size != 1:
                if stride != expected:
                    return False
                expected *= size
        return True

    def get_pattern(self) -> list[list[int]]:
        """``[[stride, count], …]`` of the view."""
        return [[stride, size] for stride, size in zip(self.strides, self.shape, strict=True)]

    def is_indirect(self) -> bool:
        """Whether the view finds its place at run time."""
        return self.indirection is not None

    # --- views --------------------------------------------------------------------------------------------

    def _make(self, shape: Sequence[int], strides: Sequence[int], offset: int | None = None) -> NkiTensor:
        view = NkiTensor.__new__(type(self))
        view.shape, view.strides = tuple(shape), tuple(strides)
        view.dtype, view.storage, view.indirection = self.dtype, self.storage, self.indirection
        view.fault = self.fault
        view.offset = self.offset if offset is None else offset
        return view

    def _fail(self, method: str, what: str, value: object, expected: str) -> Exception:
        return violation(method, f"{self!r}", what, value=value, expected=expected, rule="view")

    def _dim(self, method: str, dim: int, *, partition: bool = False) -> int:
        """A checked dimension; ``partition`` allows the partition dimension of an on-chip tensor."""
        if not isinstance(dim, int) or not -self.ndim <= dim < self.ndim:
            raise self._fail(method, "dimension", dim, f"0 to {self.ndim - 1}")
        dim %= self.ndim
        if dim == 0 and not partition and (self.buffer.on_chip or self._vector()):
            raise self._fail(method, "dimension", dim, "a free dimension: the partition dimension stays as it is")
        return dim

    def _vector(self) -> bool:
        return self.indirection is not None and self.indirection.kind == "vector"

    def _not_indirect_dim(self, method: str, dim: int) -> None:
        if self.indirection is not None and self.indirection.dim == dim:
            raise self._fail(method, "dimension", dim, "one that the indirection does not use")

    def __getitem__(self, key: Any) -> NkiTensor:
        keys = key if isinstance(key, tuple) else (key,)
        old_shape, old_strides = self.shape, self.strides
        if len(keys) > len(old_shape):
            at = next((at for at, item in enumerate(keys) if item is Ellipsis), None)
            if at is not None:
                return self[self._spelt_out(keys, at)]
            raise self._fail("indexing", "indices", len(keys), f"at most {self.ndim}")
        shape: list[int] = []
        strides: list[int] = []
        offset = self.offset
        keep_first = self.storage.buffer.on_chip
        for dim, item in enumerate(keys):
            size, stride = old_shape[dim], old_strides[dim]
            if type(item) is slice:
                begin, stop = item.start, item.stop
                if begin is None and stop is None and item.step is None:
                    shape.append(size)
                    strides.append(stride)
                    continue
                if item.step is None and type(begin) is int and type(stop) is int and 0 <= begin < stop <= size:
                    start, count, step = begin, stop - begin, 1
                else:
                    start, count, step = self._slice(dim, item, size)
            elif type(item) is not int and isinstance(item, DynamicSlice):
                start, count, step = self._whole(dim, item.start), self._whole(dim, item.size), 1
                if start < 0 or start + count > size or count < 0:
                    raise self._fail("indexing", f"dimension {dim}", item, f"inside 0 to {size}")
            elif isinstance(item, _INDEX):
                start = int(item)
                if not -size <= start < size:
                    raise self._fail("indexing", f"index of dimension {dim}", start, f"below {size}")
                start %= size
                if dim or not keep_first:
                    self._not_indirect_dim("indexing", dim)
                    offset += start * stride
                    continue
                count, step = 1, 1
            elif item is Ellipsis:
                return self[self._spelt_out(keys, dim)]
            else:
                raise self._fail("indexing", f"index of dimension {dim}", item, "an integer, a slice, nl.ds or ...")
            if count != size:
                self._not_indirect_dim("indexing", dim)
            offset += start * stride
            shape.append(count)
            strides.append(stride * step)
        shape += old_shape[len(keys) :]
        strides += old_strides[len(keys) :]
        least = 2 if keep_first else 1
        while len(shape) < least:
            shape.append(1)
            strides.append(1)
        return self._make(shape, strides, offset)

    def _spelt_out(self, keys: tuple[Any, ...], at: int) -> tuple[Any, ...]:
        """Keys with as many whole dimensions as the ellipsis at ``at`` stands for; there may be only one."""
        if any(item is Ellipsis for item in keys[at + 1 :]):
            raise self._fail("indexing", "indices", "... twice", "... once at most")
        return (*keys[:at], *[_ALL] * (self.ndim - len(keys) + 1), *keys[at + 1 :])

    def _slice(self, dim: int, item: slice, size: int) -> tuple[int, int, int]:
        """Start, count and step of a slice, which must lie inside the dimension."""
        step = 1 if item.step is None else self._whole(dim, item.step)
        start = 0 if item.start is None else self._whole(dim, item.start)
        stop = size if item.stop is None else self._whole(dim, item.stop)
        start, stop = start + size if start < 0 else start, stop + size if stop < 0 else stop
        if step < 1:
            raise self._fail("indexing", f"step of dimension {dim}", step, "at least 1")
        if not 0 <= start < stop or stop > size:
            raise self._fail("indexing", f"slice of dimension {dim}", f"{start}:{stop}", f"a part of 0:{size}")
        return start, -(-(stop - start) // step), step

    def _whole(self, dim: int, value: Any) -> int:
        """A bound of a slice: an integer or a register."""
        try:
            return operator.index(value)
        except TypeError:
            raise self._fail("indexing", f"bound of dimension {dim}", value, "a whole number or a register") from None

    def __iter__(self) -> Iterator[NkiTensor]:
        raise self._fail("iteration", "use", "for, list, …", "a loop over indices, or an instruction")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self._fail("NumPy", "use", "as an array", "an instruction, or print to look at values")

    def __setitem__(self, key: Any, value: Any) -> None:
        from_value = getattr(value, "shape", None)
        raise self._fail("assignment", "value", from_value or value, "an instruction with dst=, or nl.store")

    def permute(self, dims: Sequence[int]) -> NkiTensor:
        """Dimensions in another order; the partition dimension stays first on chip."""
        dims = wholes("permute", "dims", dims, "dimensions")
        if sorted(dims) != list(range(self.ndim)):
            raise self._fail("permute", "dims", dims, f"a permutation of 0 to {self.ndim - 1}")
        if (self.buffer.on_chip or self._vector()) and dims[0] != 0:
            raise self._fail("permute", "dims", dims, "0 first: the partition dimension stays outermost")
        return self._make([self.shape[d] for d in dims], [self.strides[d] for d in dims])

    def broadcast(self, dim: int, size: int) -> NkiTensor:
        """A dimension of size 1 repeated ``size`` times."""
        dim = self._dim("broadcast", dim)
        if self.shape[dim] != 1:
            raise self._fail("broadcast", f"size of dimension {dim}", self.shape[dim], "1")
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = whole("broadcast", "size", size), 0
        return self._make(shape, strides)

    def expand_dim(self, dim: int) -> NkiTensor:
        """A new dimension of size 1 at ``dim``."""
        if not isinstance(dim, int) or not 0 <= dim <= self.ndim:
            raise self._fail("expand_dim", "dimension", dim, f"0 to {self.ndim}")
        if dim == 0 and (self.buffer.on_chip or self._vector()):
            raise self._fail("expand_dim", "dimension", dim, "a free dimension: the partition dimension stays first")
        return self._make((*self.shape[:dim], 1, *self.shape[dim:]), (*self.strides[:dim], 1, *self.strides[dim:]))

    def squeeze_dim(self, dim: int) -> NkiTensor:
        """Without a dimension of size 1."""
        dim = self._dim("squeeze_dim", dim)
        if self.shape[dim] != 1:
            raise self._fail("squeeze_dim", f"size of dimension {dim}", self.shape[dim], "1")
        return self._make((*self.shape[:dim], *self.shape[dim + 1 :]), (*self.strides[:dim], *self.strides[dim + 1 :]))

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> NkiTensor:
        """One dimension split into several; one size may be -1."""
        dim = self._dim("reshape_dim", dim, partition=len(shape) == 1)
        sizes = infer(wholes("reshape_dim", "shape", shape, "size"), self.shape[dim])
        if math.prod(sizes) != self.shape[dim]:
            raise self._fail("reshape_dim", "shape", tuple(shape), f"sizes whose product is {self.shape[dim]}")
        strides = [self.strides[dim] * stride for stride in row_major(sizes)]
        shape = (*self.shape[:dim], *sizes, *self.shape[dim + 1 :])
        return self._make(shape, (*self.strides[:dim], *strides, *self.strides[dim + 1 :]))

    def flatten_dims(self, start_dim: int, end_dim: int) -> NkiTensor:
        """Dimensions ``start_dim`` to ``end_dim`` (inclusive) merged; they must lie contiguously."""
        start, end = self._dim("flatten_dims", start_dim), self._dim("flatten_dims", end_dim)
        merged = merge(self.shape[start : end + 1], self.strides[start : end + 1])
        if merged is None:
            raise self._fail("flatten_dims", "dimensions", (start_dim, end_dim), "contiguous in memory")
        shape = (*self.shape[:start], merged[0], *self.shape[end + 1 :])
        return self._make(shape, (*self.strides[:start], merged[1], *self.strides[end + 1 :]))

    def reshape(self, shape: Sequence[int]) -> NkiTensor:
        """The same elements under another shape, where the layout allows it."""
        sizes = infer(wholes("reshape", "shape", shape, "size"), self.size)
        if math.prod(sizes) != self.size:
            raise self._fail("reshape", "shape", tuple(shape), f"{self.size} elements")
        if (self.buffer.on_chip or self._vector()) and sizes[0] != self.shape[0]:
            raise self._fail("reshape", "partition dimension", sizes[0], f"{self.shape[0]}, as it is")
        strides = reshaped(self.shape, self.strides, sizes)
        if strides is None:
            raise self._fail("reshape", "shape", tuple(shape), "one that this layout allows without a copy")
        return self._make(sizes, strides)

    def rearrange(
        self, src_pattern: Sequence[Any], dst_pattern: Sequence[Any], fixed_sizes: dict[str, int] | None = None
    ) -> NkiTensor:
        """Split, reorder and merge dimensions by name, as einops does."""
        view, names, fixed = self, [], fixed_sizes or {}
        if len(src_pattern) != self.ndim:
            raise self._fail("rearrange", "source pattern", tuple(src_pattern), f"{self.ndim} dimensions")
        for item in src_pattern:
            if isinstance(item, str):
                names.append(item)
                continue
            view = view.reshape_dim(len(names), tuple(fixed.get(name, -1) for name in item))
            names.extend(item)
        flat = [name for item in dst_pattern for name in ((item,) if isinstance(item, str) else item)]
        if sorted(flat) != sorted(names):
            raise self._fail("rearrange", "destination pattern", tuple(dst_pattern), f"the names {names}")
        view = view.permute([names.index(name) for name in flat])
        for dim, item in enumerate(dst_pattern):
            if not isinstance(item, str) and len(item) > 1:
                view = view.flatten_dims(dim, dim + len(item) - 1)
        return view

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> NkiTensor:
        """Elements ``start`` to ``end`` (exclusive) of one dimension."""
        dim = self._dim("slice", dim, partition=True)
        return self[(*[slice(None)] * dim, slice(start, end, step))]

    def select(self, dim: int, index: int | VirtualRegister | NkiTensor) -> NkiTensor:
        """One element of a dimension, which goes away; a tensor or register index is found at run time."""
        if not isinstance(index, NkiTensor | VirtualRegister):
            dim = self._dim("select", dim, partition=True)
            return self[(*[slice(None)] * dim, int(index))]
        dim = self._dim("select", dim)
        if self.indirection is not None:
            raise self._fail("select", "index", index, "an integer: this view is indirect already")
        view = self._make((*self.shape[:dim], *self.shape[dim + 1 :]), (*self.strides[:dim], *self.strides[dim + 1 :]))
        view.indirection = Indirection(
            kind="scalar", index=index, stride=self.strides[dim], limit=self.shape[dim], dim=-1
        )
        return view

    def vector_select(self, dim: int, vector_offset: NkiTensor) -> NkiTensor:
        """Row ``p`` of the result is row ``vector_offset[p]`` of this HBM tensor."""
        if dim != 0 or self.buffer.on_chip or self.indirection is not None:
            raise self._fail("vector_select", "dimension", dim, "0 of an HBM tensor that is not indirect")
        view = self._make((vector_offset.shape[0], *self.shape[1:]), (0, *self.strides[1:]))
        view.indirection = Indirection(kind="vector", index=vector_offset, stride=self.strides[0], limit=self.shape[0])
        return view

    def ap(
        self,
        pattern: Sequence[Sequence[int]],
        offset: int | None = None,
        scalar_offset: NkiTensor | VirtualRegister | None = None,
        vector_offset: NkiTensor | None = None,
        indirect_dim: int = 0,
        dtype: Any = None,
    ) -> NkiTensor:
        """An explicit access pattern ``[[stride, count], …]`` over the storage, from this view's offset on."""
        kind = self.dtype if dtype is None else as_dtype(dtype, "ap")
        try:
            strides, shape = zip(
                *((operator.index(stride), operator.index(count)) for stride, count in pattern), strict=True
            )
        except (TypeError, ValueError):
            raise self._fail("ap", "pattern", pattern, "[[stride, elements], …], a pair for each dimension") from None
        base = self.offset
        if kind.itemsize != self.dtype.itemsize:
            base = base * self.dtype.itemsize // kind.itemsize
        base += 0 if offset is None else whole("ap", "offset", offset)
        view = NkiTensor(shape, kind, self.storage, strides, base)
        if scalar_offset is not None and vector_offset is not None:
            raise self._fail("ap", "offsets", "both", "scalar_offset or vector_offset")
        index = scalar_offset if scalar_offset is not None else vector_offset
        if index is not None:
            stride = math.prod(self.shape[indirect_dim + 1 :])
            if isinstance(index, int):
                view.offset += index * stride
            else:
                view.indirection = Indirection(
                    kind="scalar" if scalar_offset is not None else "vector",
                    index=index, stride=stride, limit=self.shape[indirect_dim],
                    dim=-1 if scalar_offset is not None else 0,
                )  # fmt: skip
        try:
            view.check_bounds("ap")
        except NkiValidationError as error:
            view.fault = error  # a mistake only where an instruction uses it
        return view

    def view(self, dtype: Any) -> NkiTensor:
        """The same bytes as another dtype; the last dimension grows or shrinks with the element."""
        kind = as_dtype(dtype, "view")
        ours, theirs = self.dtype.itemsize, kind.itemsize
        if ours == theirs:
            view = self._make(self.shape, self.strides)
            view.dtype = kind
            return view
        if self.indirection is not None or self.strides[-1] != 1:
            raise self._fail("view", "last dimension", self.strides[-1], "contiguous, of a view that is not indirect")
        if self.shape[-1] * ours % theirs or self.offset * ours % theirs:
            raise self._fail("view", "bytes of the last dimension", self.shape[-1] * ours, f"a multiple of {theirs}")
        strides = [stride * ours // theirs for stride in self.strides[:-1]]
        view = self._make(
            (*self.shape[:-1], self.shape[-1] * ours // theirs), (*strides, 1), self.offset * ours // theirs
        )
        view.dtype = kind
        return view

    reinterpret_cast = view

    def indirect(self, index: NkiTensor, num_elem: int | None = None) -> NkiTensor:
        """Columns of every partition at the offsets in ``index`` (NeuronCore-v4)."""
        if self.indirection is not None or not self.buffer.on_chip:
            raise self._fail("indirect", "tensor", self, "an on-chip tensor that is not indirect")
        if index.shape[0] != self.shape[0]:
            raise self._fail("indirect", "partitions of the index", index.shape[0], str(self.shape[0]))
        columns = merge(self.shape[1:], self.strides[1:])
        if columns is None:
            raise self._fail("indirect", "free dimensions", self.get_pattern()[1:], "columns one stride apart")
        count = index.size if num_elem is None else int(num_elem)
        view = self._make((self.shape[0], count), (self.strides[0], 0))
        view.indirection = Indirection(kind="free", index=index, stride=columns[1], limit=columns[0], dim=1)
        return view

    def check_bounds(self, method: str) -> None:
        """Every element inside the storage, and on chip inside its partition's row."""
        total = self.storage.nbytes // self.dtype.itemsize
        if self.buffer.on_chip:
            row = self.row
            partition, column = divmod(self.offset, row)
            first = self.strides[0]
            if first % row and self.shape[0] > 1:
                raise self._fail(method, "partition stride", first, f"a multiple of the free size {row}")
            last = column + sum((n - 1) * s for n, s in zip(self.shape[1:], self.strides[1:], strict=True))
            if self.indirection is None and not 0 <= last < row:
                raise self._fail(method, "last column", last, f"below {row}: an access never leaves its partition")
            last = partition + (self.shape[0] - 1) * (first // row)
            if last >= self.storage.shape[0]:
                raise self._fail(method, "last partition", last, f"below {self.storage.shape[0]}")
        elif self.indirection is None:
            last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True) if s > 0)
            if self.offset < 0 or last >= total:
                raise self._fail(method, "last element", last, f"below {total}")


def as_dtype(value: object, method: str) -> DType:
    """The format a user names, or the error that says which exist."""
    kind = lookup(value)
    if kind is None:
        raise violation(method, "dtype", "unknown", value=value, expected="one of nki.language's dtypes", rule="dtype")
    return kind
