"""One virtual NeuronCore: its memories, its hidden registers, its generators, and what it has executed."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from trainshed.chip.errors import Source, source, violation
from trainshed.chip.memory import Storage
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion, nc_version
from trainshed.hardware.catalogue import Catalogue
from trainshed.numerics.formats import DType


@dataclass(frozen=True, kw_only=True)
class Target:
    """The limits of one generation, from the hardware catalogue."""

    chip: str
    version: nc_version
    partitions: int
    sbuf_row: int
    """Bytes of SBUF per partition."""
    psum_row: int
    psum_banks: int

    @property
    def psum_bank(self) -> int:
        """Bytes of one PSUM bank per partition."""
        return self.psum_row // self.psum_banks


_VERSIONS = {"trn1": nc_version.gen2, "inf2": nc_version.gen2, "trn2": nc_version.gen3, "trn3": nc_version.gen4}


@lru_cache
def target(chip: str) -> Target:
    """The limits of ``trn1``, ``trn2`` or ``trn3``."""
    core = Catalogue().chip(chip).neuron
    assert core is not None, chip
    partitions = int(core.partitions.value)
    return Target(
        chip=chip, version=_VERSIONS[chip], partitions=partitions,
        sbuf_row=int(core.sbuf.value) // partitions, psum_row=int(core.psum.value) // partitions,
        psum_banks=int(core.psum_banks.value),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a kernel is run."""

    values: bool = True
    """Compute what instructions compute; otherwise only check and record them."""
    precise: bool = True
    """Low-precision formats as they are (``NKI_PRECISE_FP=1``); otherwise all floats are stored as float32."""
    stochastic: bool = False
    """Stochastic rounding where the hardware rounds (``NEURON_RT_STOCHASTIC_ROUNDING_EN=1``)."""
    seed: int = 0
    """``NEURON_RT_STOCHASTIC_ROUNDING_SEED``."""
    quantize_rule: str = "0.5"
    """Scale rule of quantize_mx: ``0.5`` (NKI 0.5 and later) or ``0.4`` (OCP's, before)."""


@dataclass
class Hidden:
    """Registers no operand names; instructions share them under ``reduce_cmd``. One value per partition."""

    vector: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(128, np.float32))
    scalar: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(128, np.float32))


class NeuronCore:
    """One physical core of a launch."""

    def __init__(self, target: Target, options: Options, *, index: int = 0, cores: int = 1) -> None:
        self.target, self.options = target, options
        self.index, self.cores = index, cores
        self.grid: tuple[int, ...] = (cores,)
        self.hidden = Hidden()
        self.instructions: list[Instruction] = []
        self.storages: list[Storage] = []
        self.findings: list[Any] = []
        self.pending: Any = None
        """The last call, where it read undefined elements whose consequences are still to be marked."""
        self.launch: Any = None
        """The launch this core is part of (chip/launch.py): shared HBM, barriers, exchange."""
        self.passed: dict[Any, Any] = {}
        """What rules said of operands, by all that they ask of them: loops ask the same again and again."""
        self.state: dict[str, Any] = {}
        """Generators and other engine state, by the instruction module that owns it."""

    @property
    def version(self) -> nc_version:
        return self.target.version

    def allocate(
        self,
        shape: tuple[int, ...],
        dtype: DType,
        buffer: MemoryRegion,
        *,
        name: str = "",
        address: tuple[int, int] | None = None,
        data: np.ndarray[Any, Any] | None = None,
        at: Source | None = None,
    ) -> NkiTensor:
        """A new tensor. Shared HBM is one allocation for all cores of the launch."""
        at = at or source()
        self._check_allocation(shape, dtype, buffer, address, at)
        make: Callable[[], Storage] = lambda: self._storage(shape, dtype, buffer, name, address, at, data)  # noqa: E731
        if buffer is MemoryRegion.shared_hbm and self.launch is not None and data is None:
            storage: Storage = self.launch.shared(self, (name or str(at)), shape, dtype, make)
        else:
            storage = make()
        return NkiTensor(shape, dtype, storage)

    def _storage(
        self, shape: tuple[int, ...], dtype: DType, buffer: MemoryRegion, name: str,
        address: tuple[int, int] | None, at: Source, data: np.ndarray[Any, Any] | None,
    ) -> Storage:  # fmt: skip
        """A storage with the core's next serial; cores of one launch count in steps of their number."""
        storage = Storage(
            len(self.storages) * self.cores + self.index, shape, dtype, buffer,
            name=name, address=address, source=at, data=data, wide=not self.options.precise,
        )  # fmt: skip
        # A tile's bytes, where there are any, live as long as a tensor names them; what is said of it stays.
        self.storages.append(storage.described() if buffer.on_chip and self.options.values else storage)
        return storage

    def _check_allocation(
        self, shape: tuple[int, ...], dtype: DType, buffer: MemoryRegion, address: tuple[int, int] | None, at: Source
    ) -> None:
        def fail(what: str, value: object, expected: str, rule: str) -> Exception:
            return violation("ndarray", buffer.value, what, value=value, expected=expected, rule=rule, at=at)

        if any(size < 1 for size in shape) or not shape:
            raise fail("shape", shape, "positive sizes", "shape")
        if not buffer.on_chip:
            return
        if len(shape) < 2:
            raise fail("dimensions", len(shape), "at least 2: partitions and a free dimension", "shape")
        if shape[0] > self.target.partitions:
            raise fail("partitions", shape[0], f"at most {self.target.partitions}", "partitions")
        capacity = self.target.psum_row if buffer is MemoryRegion.psum else self.target.sbuf_row
        row = math.prod(shape[1:]) * dtype.itemsize
        start = 0 if address is None else address[1]
        if start < 0 or start + row > capacity:
            raise fail("bytes per partition, up to", start + row, f"at most {capacity}", f"{buffer.value}-capacity")
        if buffer is MemoryRegion.psum and start % 4:  # nki.language.tile_size.psum_min_align
            raise fail("address", start, "a multiple of 4 bytes", "alignment")
        if address is not None and not 0 <= address[0] <= self.target.partitions - shape[0]:
            raise fail("start partition", address[0], f"0 to {self.target.partitions - shape[0]}", "partitions")


_current = threading.local()


def active() -> NeuronCore:
    """The core whose kernel runs on this thread."""
    core: NeuronCore | None = getattr(_current, "core", None)
    if core is None:
        raise violation(
            "nki", "", "used outside a kernel", value=None, rule="no-kernel",
            expected="a call inside a function run by nki.simulate or @nki.jit",
        )  # fmt: skip
    return core


def running() -> NeuronCore | None:
    """The core whose kernel runs on this thread, if any."""
    return getattr(_current, "core", None)


def enter(core: NeuronCore | None) -> NeuronCore | None:
    """Make ``core`` this thread's; returns the one before."""
    before: NeuronCore | None = getattr(_current, "core", None)
    _current.core = core
    return before
