"""The engines' pseudo-random generators, all lanes at once.

What is published: up to NeuronCore-v3 the Vector engine has a linear-feedback shift register, GpSimd (v3 on) and the
Vector engine of v4 have XORWOW, with 6 words of state per lane on GpSimd and 24 on the Vector engine (four generators,
"4 values per lane and cycle"). Not published, and ours: the register's polynomial, the order of the words
(x, y, z, w, v and the counter d), and how one seed spreads over the lanes.

Sources: ``nki.isa.rng``, ``rand2``, ``rand_set_state`` (NKI 0.6); G. Marsaglia, "Xorshift RNGs", J. Stat. Soft. 8/14.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LANES = 128
#: What XORWOW's counter grows by at each step.
WEYL = np.uint32(362437)
#: x^32 + x^22 + x^2 + x + 1, of period 2^32 - 1 (Galois form).
TAPS = 0x80200003


def spread(seed: int, count: int) -> Array:
    """``count`` words of a seed, none of them 0 (SplitMix64's upper halves)."""
    with np.errstate(over="ignore"):
        state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words = ((state ^ (state >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)
    return np.where(words == 0, np.uint32(1), words)


class Xorwow:
    """``ways`` generators in each lane; ``state`` is ``[lanes, ways, 6]``."""

    def __init__(self, ways: int, seed: int = 0) -> None:
        self.ways = ways
        self.state: Array = np.empty((LANES, ways, 6), np.uint32)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """A state for every lane from one number."""
        self.state[...] = spread(seed, self.state.size).reshape(self.state.shape)

    def draw(self, lanes: slice, count: int) -> Array:
        """``[lanes, count]`` words; element i is of generator i modulo ``ways``. Other lanes stay as they are."""
        x, y, z, w, v, d = (np.ascontiguousarray(word) for word in np.moveaxis(self.state[lanes], 2, 0))
        steps = -(-count // self.ways)
        words = np.empty((steps, *v.shape), np.uint32)
        for step in range(steps):
            t = x ^ (x >> 2)
            x, y, z, w = y, z, w, v
            v = v ^ (v << 4) ^ t ^ (t << 1)
            d = d + WEYL
            words[step] = v + d
        self.state[lanes] = np.stack((x, y, z, w, v, d), axis=2)
        return words.transpose(1, 0, 2).reshape(v.shape[0], steps * self.ways)[:, :count]


@lru_cache
def _leap(steps: int) -> Array:
    """The register ``steps`` words (of 32 shifts) later, as four tables by byte: ``[4, 256]``."""
    if steps == 1:
        state = np.arange(256, dtype=np.uint32)[None] << (8 * np.arange(4, dtype=np.uint32)[:, None])
        for _ in range(32):
            state = (state >> 1) ^ np.where(state & 1, np.uint32(TAPS), np.uint32(0))
        return state
    half = _leap(steps // 2)
    return _leaped(half, half)


def _leaped(tables: Array, state: Array) -> Array:
    result: Array = tables[0][state & 255]
    for place in range(1, 4):
        result = result ^ tables[place][(state >> (8 * place)) & 255]
    return result


class Lfsr:
    """A shift register of 32 bits in each lane; a word is the register after 32 shifts."""

    def __init__(self, seed: int = 0) -> None:
        self.state: Array = spread(seed, LANES)

    def seed(self, seed: int) -> None:
        """A state for every lane from one number."""
        self.state = spread(seed, LANES)

    def draw(self, lanes: slice, count: int) -> Array:
        """``[lanes, count]`` words: what is known doubles with each leap."""
        words = _leaped(_leap(1), self.state[lanes])[:, None]
        while words.shape[1] < count:
            words = np.concatenate((words, _leaped(_leap(words.shape[1]), words)), axis=1)
        words = words[:, :count]
        self.state[lanes] = words[:, -1]
        return words


def unit(words: Array) -> Array:
    """Words as float32 in [0, 1), by their upper 24 bits."""
    return (words >> 8).astype(np.float32) * np.float32(2**-24)
