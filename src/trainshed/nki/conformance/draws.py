"""The suite's random MX data at once: the same numbers as its loop over blocks, which takes minutes for MoE weights.

For every block of 8 by 4 the suite draws a row, a column, a sign and a mantissa from NumPy's global generator, four
calls a block. Here the generator's raw words are drawn whole and taken apart as those calls do (masked rejection).
"""

# ruff: noqa: NPY002 (the suite draws from the global generator)
from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: Blocks drawn at a time: their words stay in the processor's cache.
_PART = 4096
_Generator = Callable[..., tuple[Any, Any, Any]]


def _next_valid(words: Array, mask: int, most: int) -> Array:
    """For each place, the first from there on whose masked word is at most ``most`` (the end, where none is)."""
    places = np.where((words & mask) <= most, np.arange(len(words)), len(words))
    found: Array = np.minimum.accumulate(places[::-1])[::-1]
    return found


def block_draws(blocks: int) -> tuple[Array, Array, Array, Array]:
    """``randint(0, 7)``, ``randint(0, 3)``, ``choice([-1, 1])`` and ``random()`` for each block, in that order.

    The global generator is left where those calls would leave it.
    """
    parts = [_part_draws(min(_PART, blocks - start)) for start in range(0, max(blocks, 1), _PART)]
    rows, columns, signs, mantissas = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, columns, signs, mantissas


def _part_draws(blocks: int) -> tuple[Array, Array, Array, Array]:
    kind, *state = np.random.get_state()
    words_of: Any = np.random.MT19937()
    given = {"bit_generator": kind, "state": {"key": state[0], "pos": state[1]}}
    count = 6 * blocks + 64
    while True:
        words_of.state = given
        words = words_of.random_raw(count).astype(np.uint32)
        rows, columns = _next_valid(words, 7, 6), _next_valid(words, 3, 2)
        # A row at r and a column at c are followed by one word for the sign and two for the mantissa.
        column_of = columns[np.minimum(rows + 1, count - 1)]
        steps = np.where(column_of + 4 <= count, column_of + 4, count + 1).tolist()
        # Where the words do not suffice, every further block starts after their end.
        steps += [count + 1, count + 1]
        starts, end = [], 0
        for _ in range(blocks):
            starts.append(end)
            end = steps[end]
        if end <= count:
            break
        count *= 2
    words_of.state = given
    words_of.random_raw(end, output=False)
    after: Any = words_of.state["state"]
    np.random.set_state((kind, after["key"], after["pos"], *state[2:]))
    places = np.array(starts, np.int64)
    row, column = rows[places], column_of[places]
    high, low = words[column + 2].astype(np.uint64) >> np.uint64(5), words[column + 3].astype(np.uint64) >> np.uint64(6)
    mantissas = (high.astype(np.float64) * 67108864.0 + low.astype(np.float64)) / 9007199254740992.0
    return words[row] & 7, words[column] & 3, (words[column + 1] & 1).astype(np.int64) * 2 - 1, mantissas


def stabilized(module: ModuleType) -> _Generator:
    """``generate_stabilized_mx_data`` of the suite's module, without its loop."""
    theirs: _Generator = module.generate_stabilized_mx_data

    def generate(mx_dtype: Any, shape: tuple[int, int], val_range: float = 1.0) -> tuple[Any, Any, Any]:
        height, width = shape
        if height % 8 or width % 4 or val_range == 0:
            return theirs(mx_dtype, shape, val_range)
        most, exponent = module.get_mx_fp_max(mx_dtype), module.get_mx_max_exp(mx_dtype)
        data = np.empty(shape, np.float32)
        for start in range(0, height, 32):  # a part at a time stays in the processor's cache
            part = np.random.random((min(32, height - start), width))
            part *= 2
            part -= 1
            part *= most
            data[start : start + 32] = part
        rows, columns, signs, mantissas = block_draws(height // 8 * (width // 4))
        tops, lefts = np.divmod(np.arange(len(rows)), width // 4)
        data[tops * 8 + rows, lefts * 4 + columns] = signs * (1.0 + mantissas * 0.5) * (2**exponent)
        quantized = module.static_cast(data, module.NL_TO_DT_DTYPE.get(mx_dtype, mx_dtype))
        upper = min(255, int(np.log2(val_range / most) + 127))
        scales = np.random.randint(max(0, upper - 10), upper + 1, size=(height // 8, width // 4), dtype=np.uint8)
        values = np.asarray(module.static_cast(quantized, np.float32)).reshape(height // 8, 8, width // 4, 4)
        factors = 2.0 ** np.clip(scales.astype(np.int32) - 127, -127, 127)
        return (values * factors[:, None, :, None]).reshape(shape), quantized, scales

    return generate if _same(theirs, generate, module) else theirs


def _same(theirs: _Generator, ours: _Generator, module: ModuleType) -> bool:
    """Whether both give the same data, and leave the generator in the same place."""
    before = np.random.get_state()
    found = []
    for generate in (theirs, ours):
        np.random.seed(7)
        made = generate(module.nl.float8_e4m3fn_x4, (64, 64), 2.0)
        found.append([np.asarray(part).tobytes() for part in made] + [np.random.random(3).tobytes()])
    np.random.set_state(before)
    return found[0] == found[1]


class Uniform:
    """``np.random.uniform(low, high, size)`` that draws when it is cast, a part at a time: the same numbers.

    A hundred experts' weights are gigabytes in float64 before they are cast to 16 bits.
    """

    def __init__(self, low: float, high: float, size: Any) -> None:
        self._low, self._high, self._size = low, high, tuple(size)

    def astype(self, dtype: Any) -> Array:
        """The array in another format."""
        made = np.empty(self._size, dtype)
        flat = made.reshape(-1)
        for start in range(0, flat.size, _DRAWN):
            part = flat[start : start + _DRAWN]
            part[...] = np.random.uniform(self._low, self._high, part.size)
        return made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.astype(np.float64 if dtype is None else dtype)


#: Numbers drawn at a time, and the sizes from which on a ``Uniform`` takes the place of an array.
_DRAWN = 1 << 15
_LARGE = 1 << 24


def uniform(low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
    """``np.random.uniform``, large arrays in parts."""
    large = isinstance(size, tuple | list) and math.prod(size) >= _LARGE
    return Uniform(low, high, size) if large else np.random.uniform(low, high, size)
