"""Lengths that an engine really computes: compiled buckets and padded prompts."""

from __future__ import annotations

import numpy as np

from trainshed.core import Number
from trainshed.software.schema import Engine

_LONGEST = 24
"""2^24 tokens: longer than any context."""


def bucket(engine: Engine, length: Number, longest: Number) -> Number:
    """The compiled length that holds ``length`` tokens, at most ``longest``."""
    if engine.bucket == "none":
        return length
    if engine.bucket == "whole":
        return np.maximum(length, longest)
    return np.asarray(np.maximum(length, np.minimum(_power(engine, length), longest)), dtype=np.float64)


def prompt(engine: Engine, isl: Number, longest: Number) -> Number:
    """Prompt tokens that prefill computes."""
    if not engine.pads_prompts:
        return isl
    return np.asarray(np.maximum(isl, np.minimum(_power(engine, isl), longest)), dtype=np.float64)


def _power(engine: Engine, length: Number) -> Number:
    """The power of two that holds a length."""
    return np.asarray(2.0 ** np.ceil(np.log2(np.maximum(length, engine.first_bucket))), dtype=np.float64)


def attended(engine: Engine, isl: Number, osl: Number) -> Number:
    """Tokens that a decode step attends, on average over the osl - 1 steps of a request.

    Step i attends isl + i tokens, or the compiled bucket that holds them; each bucket counts the steps it serves.
    """
    first, last = isl + 1.0, isl + np.maximum(osl - 1.0, 1.0)
    if engine.bucket == "none":
        return (first + last) / 2.0
    longest = isl + osl
    if engine.bucket == "whole":
        return longest * 1.0
    start = int(np.log2(engine.first_bucket))
    area: Number = 0.0
    for power in range(start, _LONGEST + 1):
        low = 0.0 if power == start else 2.0 ** (power - 1)
        steps = np.maximum(np.minimum(last, 2.0**power) - np.maximum(first - 1.0, low), 0.0)
        area = area + steps * np.minimum(2.0**power, longest)
    return area / (last - first + 1.0)
