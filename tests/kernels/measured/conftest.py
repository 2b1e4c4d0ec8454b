"""What the measured kernels are compared with: the same arithmetic in NumPy, in float32 and by another order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

Array = np.ndarray[Any, Any]


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(20261124)


@pytest.fixture
def bf16(rng: np.random.Generator) -> Callable[..., Array]:
    """``bf16(3, 4)``: normal numbers of that shape in bfloat16."""
    return lambda *shape: rng.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16)


@pytest.fixture(params=["trn1", "trn2", "trn3"])
def target(request: pytest.FixtureRequest) -> str:
    """Each generation of NeuronCore."""
    return str(request.param)


@pytest.fixture
def close() -> Callable[[Array, Array, float], None]:
    """``close(found, wanted, steps)``: within so many roundings to bfloat16 of the largest value."""

    def check(found: Array, wanted: Array, steps: float) -> None:
        error = np.abs(found.astype(np.float32) - wanted).max()
        assert error <= steps * 2.0**-8 * np.abs(wanted).max()

    return check
