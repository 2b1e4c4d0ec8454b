"""Shapes and strides: layouts as numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def infer(shape: Sequence[int], size: int) -> tuple[int, ...]:
    """A shape whose one -1 is what remains of ``size``."""
    sizes = tuple(shape)
    if sizes.count(-1) != 1:
        return sizes
    rest = math.prod(item for item in sizes if item != -1)
    return tuple(size // rest if item == -1 and rest else item for item in sizes)


def merge(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, int] | None:
    """Size and stride of dimensions seen as one, or None when they do not lie contiguously."""
    pairs = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    if not pairs:
        return 1, strides[-1]
    for (_, outer), (size, inner) in pairwise(pairs):
        if outer != size * inner:
            return None
    return math.prod(shape), pairs[-1][1]


def reshaped(shape: Sequence[int], strides: Sequence[int], new: Sequence[int]) -> tuple[int, ...] | None:
    """Strides of ``new`` over the same memory, or None (the rule of ``numpy.reshape`` without a copy)."""
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result = [1] * len(new)
    # Match groups of old and new dimensions of equal product.
    target = [i for i, size in enumerate(new) if size != 1]
    i = j = 0
    while i < len(target) and j < len(old):
        count_new, count_old = new[target[i]], old[j][0]
        end_i, end_j = i + 1, j + 1
        while count_new != count_old:
            if count_new < count_old:
                count_new *= new[target[end_i]]
                end_i += 1
            else:
                count_old *= old[end_j][0]
                end_j += 1
        merged = merge([n for n, _ in old[j:end_j]], [s for _, s in old[j:end_j]])
        if merged is None:
            return None
        step = merged[1]
        for k in reversed(range(i, end_i)):
            result[target[k]] = step
            step *= new[target[k]]
        i, j = end_i, end_j
    return tuple(result)


#: A free dimension of an access pattern counts in uint16 and steps in int16, in elements; there are four.
MOST_DIMENSIONS, MOST_ELEMENTS, MOST_STEP = 4, 65535, 32767


def joined(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """``(size, stride)`` of as few dimensions as walk the same elements in the same order (none for one element)."""
    dims: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if dims and dims[-1][1] == size * stride:
            dims[-1] = dims[-1][0] * size, stride
        else:
            dims.append((size, stride))
    return dims


def expressible(size: int, stride: int) -> int:
    """How many dimensions of an access pattern a joined dimension takes: 1, 2, or 0 where none can express it."""
    if not -MOST_STEP - 1 <= stride <= MOST_STEP:
        return 0
    if size <= MOST_ELEMENTS:
        return 1
    # As an outer and an inner one, whose size times the stride is the outer one's stride.
    inner = range(-(-size // MOST_ELEMENTS), MOST_STEP // max(abs(stride), 1) + 1)
    return 2 if any(size % length == 0 for length in inner) else 0
