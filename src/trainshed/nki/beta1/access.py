"""From a Beta-1 index of arrays to the hardware's access pattern: an offset, and a stride and a count per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from trainshed.chip.errors import violation
from trainshed.chip.tensor import DynamicSlice, NkiTensor
from trainshed.nki.beta1.index import Array, Box, affine
from trainshed.nki.beta1.refuse import refusal


class Line(NamedTuple):
    """The affine index of one dimension: ``start + sum(step * axis)``."""

    start: int
    steps: tuple[int, ...]


class Pattern:
    """An index of one tile, resolved: the shape it addresses, and per dimension its affine expression."""

    def __init__(self, base: NkiTensor, keys: Sequence[Any], dynamic: dict[int, tuple[int, ...]]) -> None:
        """``dynamic``: shapes of the indices that are tiles, by dimension (their place is taken by zeros)."""
        self.base = base
        keys = [*keys, *[slice(None)] * (base.ndim - len(keys))]
        if len(keys) > base.ndim:
            raise violation(
                "indexing", repr(base), "indices", value=len(keys), expected=f"at most {base.ndim}", rule="view"
            )
        arrays, self.shape = _broadcast(base.shape, keys, dynamic)
        self.lines: list[Line] = []
        for dim, values in enumerate(arrays):
            found = affine(values)
            if found is None:
                raise refusal(
                    f"index of dimension {dim} that is no affine expression", "a reshape, or .ap() with a pattern"
                )
            self.lines.append(Line(*found))

    def view(self, box: Box | None = None, vector: NkiTensor | None = None, dim: int = 0) -> NkiTensor:
        """The tensor view, of all or of a box of it; ``vector``: a tile of indices for dimension ``dim``."""
        low = [part.start for part in box] if box else [0] * len(self.shape)
        high = [part.stop for part in box] if box else list(self.shape)
        offset, strides = 0, [0] * len(self.shape)
        for d, (line, stride, size) in enumerate(zip(self.lines, self.base.strides, self.base.shape, strict=True)):
            ends = [line.start, line.start]
            for axis, step in enumerate(line.steps):
                first, last = step * low[axis], step * (high[axis] - 1)
                ends[0] += min(first, last)
                ends[1] += max(first, last)
                offset += first * stride
                strides[axis] += step * stride
            offset += line.start * stride
            if ends[0] < 0 or ends[1] >= size:
                raise violation(
                    "indexing", repr(self.base), f"index of dimension {d}", value=f"{ends[0]} to {ends[1]}",
                    expected=f"0 to {size - 1} (mask= leaves the rest out)", rule="view",
                )  # fmt: skip
        counts = [b - a for a, b in zip(low, high, strict=True)]
        pattern = [[stride, count] for stride, count in zip(strides, counts, strict=True)]
        if self.base.buffer.on_chip:
            if pattern[0][1] == 1:
                pattern[0][0] = self.base.row
            if len(pattern) == 1:
                pattern.append([1, 1])
        if vector is None:
            return self.base.ap(pattern, offset)
        if vector.size == 1 and counts[0] != 1:
            return self.base.ap(pattern, offset, scalar_offset=vector, indirect_dim=dim)
        pattern[0][0] = math.prod(self.base.shape[dim + 1 :])
        return self.base.ap(pattern, offset, vector_offset=vector, indirect_dim=dim)


def _broadcast(
    sizes: Sequence[int], keys: Sequence[Any], dynamic: dict[int, tuple[int, ...]]
) -> tuple[list[Array], tuple[int, ...]]:
    """Index arrays of equal rank, one per dimension, and the shape they address together."""
    ranks = [np.ndim(key) for key in keys if isinstance(key, np.ndarray)] + [len(shape) for shape in dynamic.values()]
    rank = max(ranks, default=0)
    axes: list[int | None] = []  # the dimension a slice's axis belongs to, or None for an axis of the arrays
    for dim, key in enumerate(keys):
        if isinstance(key, slice | DynamicSlice):
            axes.append(dim)
        elif (isinstance(key, np.ndarray) or dim in dynamic) and None not in axes:
            axes.extend([None] * rank)
    first = axes.index(None) if None in axes else 0
    arrays, shape = [], [1] * len(axes)
    for dim, (key, size) in enumerate(zip(keys, sizes, strict=True)):
        if isinstance(key, slice | DynamicSlice):
            values, at = _line(key, size), axes.index(dim)
        elif dim in dynamic:
            values, at = np.zeros((dynamic[dim][0], *[1] * (rank - 1)), int), first
        elif isinstance(key, np.ndarray):
            values, at = np.asarray(key).reshape((1,) * (rank - key.ndim) + key.shape), first
        else:
            values, at = np.asarray(int(key)), 0
        whole = [1] * len(axes)
        whole[at : at + values.ndim] = values.shape
        arrays.append(values.reshape(whole))
        shape = [max(a, b) for a, b in zip(shape, whole, strict=True)]
    return arrays, tuple(shape)


def _line(key: slice | DynamicSlice, size: int) -> Array:
    if isinstance(key, DynamicSlice):
        return np.arange(int(key.start), int(key.start) + int(key.size))
    start, stop = key.start or 0, size if key.stop is None else key.stop
    return np.arange(start + size * (start < 0), stop + size * (stop < 0), key.step or 1)
