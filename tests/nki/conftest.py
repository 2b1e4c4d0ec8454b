"""Functions of ``nki.language`` run on tiles made from arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.language as nl
from trainshed.chip.tensor import NkiTensor


@pytest.fixture
def on_tiles() -> Callable[..., np.ndarray[Any, Any]]:
    """``on_tiles(function, *arrays, target="trn3")``: what ``function`` makes of the arrays, loaded into SBUF."""

    def run(function: Callable[..., Any], *arrays: np.ndarray[Any, Any], target: str = "trn3") -> Any:
        def kernel(*tensors: NkiTensor) -> NkiTensor:
            tile = function(*(nl.load(tensor) for tensor in tensors))
            out = nl.ndarray(tile.shape, tile.dtype, nl.shared_hbm)
            nl.store(out, tile)
            return out

        return nki.simulate(kernel, target=target)(*arrays)

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(20260817)
