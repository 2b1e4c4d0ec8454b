"""How kernels of the library are checked against their references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import trainshed.nki as nki
from trainshed.kernels.library import library


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(20261124)


@pytest.fixture
def holds(rng: np.random.Generator) -> Callable[[str, str], None]:
    """``holds(name, target)``: a kernel of the library gives its values there, in every dtype and at every shape."""

    def check(name: str, target: str) -> None:
        one = library()[name]
        for dtype in one.dtypes:
            for shape in one.shapes:
                inputs = one.inputs(shape, dtype, rng)
                found: Any = nki.simulate(one.kernel, target=target)(**inputs)
                assert one.error(found, one.reference(inputs)) <= one.tolerance[dtype], (dtype, shape)

    return check


@pytest.fixture
def recorded() -> Callable[..., Any]:
    """``recorded(kernel, *arguments, target=, lnc=)``: the kernel's records without values."""

    def run(kernel: Any, *arguments: Any, target: str = "trn2", lnc: int = 1, **more: Any) -> Any:
        simulated = nki.simulate(kernel[lnc], target=target, values=False)
        simulated(*arguments, **more)
        return simulated

    return run
