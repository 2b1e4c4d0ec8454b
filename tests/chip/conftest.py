"""A NeuronCore of each generation to issue instructions on, and tiles made from arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from trainshed.chip.call import Call
from trainshed.chip.core import NeuronCore, Options, active, enter, target
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DType, lookup


@pytest.fixture
def make_core() -> Iterator[Callable[..., NeuronCore]]:
    """``make_core("trn2", values=False, …)``: a fresh core, made the active one."""

    def make(chip: str = "trn3", **options: Any) -> NeuronCore:
        core = NeuronCore(target(chip), Options(**options))
        enter(core)
        return core

    yield make
    enter(None)


@pytest.fixture
def core(make_core: Callable[..., NeuronCore]) -> NeuronCore:
    """A NeuronCore-v4."""
    return make_core()


@pytest.fixture
def tile() -> Callable[..., NkiTensor]:
    """``tile(values, dtype=None, buffer="sbuf")``: an initialised tensor of the active core."""

    def make(values: np.ndarray[Any, Any], dtype: Any = None, buffer: str = "sbuf", **where: Any) -> NkiTensor:
        kind = lookup(dtype if dtype is not None else values.dtype)
        assert kind is not None
        tensor = active().allocate(values.shape, kind, MemoryRegion(buffer), **where)
        Call("test").write("values", tensor, values)
        return tensor

    return make


@pytest.fixture
def empty() -> Callable[..., NkiTensor]:
    """``empty(shape, dtype="float32", buffer="sbuf")``: a tensor nothing has been written to."""

    def make(shape: tuple[int, ...], dtype: str = "float32", buffer: str = "sbuf", **where: Any) -> NkiTensor:
        return active().allocate(shape, DType(dtype), MemoryRegion(buffer), **where)

    return make


@pytest.fixture
def values() -> Callable[[NkiTensor], np.ndarray[Any, Any]]:
    """``values(tensor)``: what a tensor holds, as stored; every element must be defined."""

    def read(tensor: NkiTensor) -> np.ndarray[Any, Any]:
        call = Call("test")
        held = np.array(call.read("values", tensor))
        if call.undefined:
            raise call.unwritten("values", tensor, int(sum(mask.sum() for mask in call.undefined.values())))
        return held

    return read
