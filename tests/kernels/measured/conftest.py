"""What the measured kernels are compared with: the same arithmetic in NumPy, in float32 and by another order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from trainshed.kernels.measured.moe import packed

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


#: Sizes of the small experts; a row has room for 3 + 4 scales and 12 bytes more.
HIDDEN, WIDE, EXPERTS, ROW = 512, 64, 5, 3 * 4 * 64 + 40


@dataclass(frozen=True)
class Experts:
    """Small experts: weights (gate, up, down, scales), their blobs, and the output of one for all tokens."""

    weights: list[tuple[Array, ...]]
    hidden: int = HIDDEN
    row: int = ROW

    @property
    def blobs(self) -> Array:
        return np.stack([packed(*one, self.row) for one in self.weights])

    def __call__(self, expert: int, x: Array) -> Array:
        """In float32; a scale for every 128 hidden elements."""
        gate, up, down, scales = self.weights[expert]
        by_gate, by_up, by_down = np.repeat(scales, 128, axis=1)
        a = x.astype(np.float32) @ (gate.astype(np.float32) * by_gate[:, None])
        b = x.astype(np.float32) @ (up.astype(np.float32) * by_up[:, None])
        return (a / (1 + np.exp(-a)) * b) @ (down.astype(np.float32) * by_down)


@pytest.fixture
def experts(rng: np.random.Generator) -> Experts:
    def fp8(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32).astype(ml_dtypes.float8_e4m3)

    return Experts(
        [
            (fp8(HIDDEN, WIDE), fp8(HIDDEN, WIDE), fp8(WIDE, HIDDEN), rng.uniform(0.5, 2, (3, HIDDEN // 128)))
            for _ in range(EXPERTS)
        ]
    )
