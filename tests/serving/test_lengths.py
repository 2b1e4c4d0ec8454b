"""Buckets and padded prompts against sums over every step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.serving import lengths
from trainshed.software.schema import Engine


def by_hand(isl: int, osl: int, first: int) -> float:
    """The mean bucket over the steps, one by one."""
    total = 0.0
    for i in range(1, osl):
        size = first
        while size < isl + i:
            size *= 2
        total += max(min(size, isl + osl), isl + i)
    return total / (osl - 1)


@given(isl=st.integers(1, 5000), osl=st.integers(2, 3000))
def test_the_mean_bucket_is_the_mean_over_steps(isl: int, osl: int) -> None:
    engine = Engine(name="e", family="e", version="any", title="E", bucket="power-of-two", first_bucket=128)
    assert lengths.attended(engine, float(isl), float(osl)) == pytest.approx(by_hand(isl, osl, 128), rel=1e-12)


@given(isl=st.integers(1, 5000), osl=st.integers(2, 3000))
def test_without_buckets_the_mean_context_is_half_way(isl: int, osl: int) -> None:
    engine = Engine(name="e", family="e", version="any", title="E")
    steps = [isl + i for i in range(1, osl)]
    assert lengths.attended(engine, float(isl), float(osl)) == pytest.approx(np.mean(steps), rel=1e-12)


def test_a_whole_bucket_attends_everything_from_the_start(engine: Callable[..., Engine]) -> None:
    assert lengths.attended(engine(bucket="whole"), 100.0, 28.0) == 128


def test_prompts_are_padded_to_a_compiled_length(engine: Callable[..., Engine]) -> None:
    padded = lengths.prompt(engine(pads_prompts=True), np.array([1.0, 128.0, 129.0, 5000.0]), 1e9)
    assert padded.tolist() == [128, 128, 256, 8192]
    assert lengths.prompt(engine(), 5000.0, 1e9) == 5000


def test_no_bucket_is_longer_than_what_was_compiled(engine: Callable[..., Engine]) -> None:
    assert lengths.bucket(engine(bucket="power-of-two"), 1100.0, 1152.0) == 1152
    assert lengths.bucket(engine(bucket="power-of-two"), 600.0, 1152.0) == 1024
