"""A workload checks itself."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.serving import Workload


def test_each_mode_says_what_it_lacks() -> None:
    with pytest.raises(UserError, match="mode closed needs concurrency"):
        Workload(mode="closed", isl=10.0, osl=10.0)
    with pytest.raises(UserError, match="mode open needs rate_per_s"):
        Workload(mode="open", isl=10.0, osl=10.0)
    with pytest.raises(UserError, match="unknown mode"):
        Workload(mode="batch", isl=10.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), np.array([1.0, -2.0])])
def test_numbers_are_above_zero(value: float) -> None:
    with pytest.raises(UserError, match="isl out of range"):
        Workload(mode="static", isl=value, osl=1.0, batch=1.0)


def test_arrays_are_taken() -> None:
    assert np.sum(Workload(mode="static", isl=np.array([1.0, 2.0]), osl=1.0, batch=1.0).prompt()) == 3
