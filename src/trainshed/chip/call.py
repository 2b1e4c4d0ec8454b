"""One instruction being executed: the checks all instructions share, access to operands, and its record.

Every instruction function reads the same way: ``call = Call("tensor_tensor", name)``, the rules of its page in
the documents, ``call.issue(...)``, and, where values are wanted, what it computes.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable
from typing import Any

import numpy as np

from trainshed.chip.core import NeuronCore, active
from trainshed.chip.errors import NkiValidationError, Source, source, violation
from trainshed.chip.layout import MOST_DIMENSIONS, MOST_ELEMENTS, MOST_STEP, expressible, joined
from trainshed.chip.memory import Storage, covers, mark, missing
from trainshed.chip.record import Instruction, Region
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.undefined import elements, poisoned, propagate, tainted
from trainshed.chip.waiting import let_go
from trainshed.chip.words import MemoryRegion, engine, nc_version
from trainshed.numerics.cast import from_float32, to_float32

Array = np.ndarray[Any, Any]
SBUF, PSUM = (MemoryRegion.sbuf,), (MemoryRegion.psum,)
ON_CHIP = (MemoryRegion.sbuf, MemoryRegion.psum)
HBM = (MemoryRegion.private_hbm, MemoryRegion.shared_hbm)

_E4M3 = ("float8_e4m3", "float8_e4m3fn")


class Call:
    """The execution of one instruction on the active core."""

    __slots__ = ("_source", "core", "name", "opcode", "origin", "record", "undefined", "writes")

    def __init__(self, opcode: str, name: str | None = None) -> None:
        self.core: NeuronCore = active()
        self.opcode, self.name = opcode, name
        self._source: Source | None = None
        self.record: Instruction | None = None
        #: Tensors the instruction writes, and by operand which elements it read are undefined (chip/undefined.py).
        self.writes: list[NkiTensor] = []
        self.undefined: dict[str, Array] | None = None
        self.origin: Any = None
        pending = self.core.pending
        if pending is not None:
            self.core.pending = None
            propagate(pending)

    @property
    def source(self) -> Source:
        if self._source is None:
            self._source = source()
        return self._source

    @property
    def values(self) -> bool:
        """Whether the instruction must compute."""
        return self.core.options.values

    @property
    def version(self) -> nc_version:
        return self.core.target.version

    # --- rules --------------------------------------------------------------------------------------------

    def fail(self, operand: str, what: str, value: object, expected: str, rule: str) -> NkiValidationError:
        """The error of a broken rule (to raise)."""
        return violation(self.opcode, operand, what, value=value, expected=expected, rule=rule, at=self.source)

    def require(self, good: bool, operand: str, what: str, value: object, expected: str, rule: str) -> None:
        """A rule that must hold."""
        if not good:
            raise self.fail(operand, what, value, expected, rule)

    def generation(self, least: nc_version) -> None:
        """The instruction exists from ``least`` on."""
        if self.core.target.version < least:
            raise self.fail(
                "", "generation", f"NeuronCore-v{int(self.core.target.version)}", f"NeuronCore-v{int(least)} or newer",
                "generation",
            )  # fmt: skip

    def tile(self, operand: str, tensor: Any, buffers: tuple[MemoryRegion, ...] = ON_CHIP) -> NkiTensor:
        """An operand that must be a tensor in one of ``buffers`` and start at a legal partition."""
        if not isinstance(tensor, NkiTensor):
            raise self.fail(operand, "operand", type(tensor).__name__, "a tensor", "operand")
        form = self.form((tensor,), buffers)
        if form in self.core.passed:
            return tensor
        if tensor.storage.buffer not in buffers:
            raise self.fail(
                operand, "memory", tensor.storage.buffer.value, " or ".join(b.value for b in buffers), "memory"
            )
        size = tensor.size
        if tensor.storage.buffer.on_chip:
            self.partitions(operand, tensor)
            # No stride leaves a row, so a short row cannot break the other limits of a pattern.
            if len(tensor.shape) > 5 or tensor.storage.row > 32768 or size > 65535 * tensor.shape[0]:
                self.pattern(operand, tensor)
        if not size:
            raise self.fail(operand, "elements of a view of shape " + str(tensor.shape), 0, "at least one", "empty")
        self.passes(form)
        return tensor

    def form(self, operands: tuple[Any, ...], *asked: Hashable) -> tuple[Hashable, ...] | None:
        """All that the rules of this instruction ask: ``asked`` and the looks of operands; None where it is not known.

        In HBM it does not matter where a tensor begins.
        """
        found: list[Hashable] = [self.opcode, *asked]
        for item in operands:
            if not isinstance(item, NkiTensor) or item.indirection is not None:
                return None
            storage = item.storage
            buffer = storage.buffer
            found += (
                buffer, item.dtype, item.shape, item.strides, item.offset if buffer.on_chip else 0, storage.row,
                storage.address,
            )  # fmt: skip
        return tuple(found)

    def passes(self, form: tuple[Hashable, ...] | None, plan: object = True) -> None:
        """The rules hold for a form, and say ``plan``: ``core.passed`` has it from now on."""
        if form is not None:
            self.core.passed[form] = plan

    def partitions(self, operand: str, tensor: NkiTensor) -> None:
        """Tiles of over 64 partitions start at 0, over 32 at 0 or 64, others at a multiple of 32.

        Source: the NeuronCore architecture guide, "SBUF partitions".
        """
        count, start = tensor.shape[0], tensor.start_partition
        if count > 128:
            raise self.fail(operand, "partitions", count, "at most 128", "partitions")
        if start % 32 or (start and count > 64) or (count > 32 and start % 64):
            legal = "0" if count > 64 else "0 or 64" if count > 32 else "0, 32, 64 or 96"
            raise self.fail(operand, f"start partition of {count} partitions", start, legal, "start-partition")

    def pattern(self, operand: str, tensor: NkiTensor) -> None:
        """An engine walks at most four free dimensions, each a uint16 of elements with an int16 stride in elements.

        Dimensions that walk as one count once, and a long one may be split in two: what counts is whether any
        pattern names these elements in this order. Not for DMA, whose descriptors are others, nor for ``.indirect()``
        views, whose places are not a pattern, nor for kernels of NKI Beta 1, whose compiler made several instructions
        of one (``split-patterns``). Most instructions have fewer than four dimensions; which ones is not published.
        Sources: the NeuronCore-v2 architecture guide, "Accessing SBUF/PSUM tensors using compute engines"; the page
        on access patterns (``nki-aps``), "Hardware Capability".
        """
        if self.opcode in ("sendrecv", "core_barrier") or (
            tensor.indirection is not None and tensor.indirection.kind == "free"
        ):
            return
        dims = joined(tensor.shape[1:], tensor.strides[1:])
        taken = [expressible(size, stride) for size, stride in dims]
        if (0 not in taken and sum(taken) <= MOST_DIMENSIONS) or self.core.state.get("split-patterns"):
            return
        if 0 in taken:
            size, stride = dims[taken.index(0)]
            raise self.fail(
                operand, f"free dimension of {tensor!r} as [stride, elements]", [stride, size],
                f"at most {MOST_ELEMENTS} elements with a stride of {-MOST_STEP - 1} to {MOST_STEP}", "access-pattern",
            )  # fmt: skip
        raise self.fail(
            operand, f"free dimensions of {tensor!r} as [stride, elements]", [[stride, size] for size, stride in dims],
            f"at most {MOST_DIMENSIONS} that do not lie contiguously", "access-pattern",
        )  # fmt: skip

    def on_engine(self, asked: engine, allowed: tuple[engine, ...], default: engine | None = None) -> engine:
        """The engine that runs it: the one asked for, or the default (the first allowed)."""
        if asked is engine.unknown or asked is None:
            return default or allowed[0]
        if asked not in allowed:
            named = getattr(asked, "name", asked)
            raise self.fail("engine", "engine", named, " or ".join(e.name for e in allowed), "engine")
        return asked

    def same_elements(self, operand: str, tensor: NkiTensor, like: NkiTensor) -> None:
        """As many partitions, and as many elements in each, as another operand."""
        if tensor.shape[0] != like.shape[0] or tensor.size != like.size:
            raise self.fail(operand, "shape", tensor.shape, f"as many elements as {like.shape}", "shape")

    # --- the record ---------------------------------------------------------------------------------------

    def issue(
        self,
        engine: engine,
        reads: tuple[Any, ...],
        writes: tuple[Any, ...],
        *,
        attributes: dict[str, Any] | None = None,
        **work: int,
    ) -> Instruction:
        """Append the record. Call it once the rules hold and before operands are touched."""
        core = self.core
        sources = [item for item in reads if isinstance(item, NkiTensor)]
        targets = [item for item in writes if isinstance(item, NkiTensor)]
        precise = core.options.precise
        for item in (*sources, *targets):
            if item.fault is not None:
                raise item.fault
            if not precise:
                self._as_stored(item)
        record = Instruction(
            len(core.instructions), core.index, self.opcode, engine,
            tuple([region(item) for item in sources]), tuple([region(item) for item in targets]),
            work, attributes or {}, self.source, self.name,
        )  # fmt: skip
        core.instructions.append(record)
        self.record = record
        self.writes += targets
        for item in targets:
            storage = item.storage
            storage.changed = True
            if storage.lent:
                storage.own()
            if storage.held:
                let_go(storage)
        return record

    def _as_stored(self, tensor: NkiTensor) -> None:
        """With ``NKI_PRECISE_FP=0`` a narrow float is a float32 in memory: its bits are not there to be seen."""
        index = tensor.indirection.index if tensor.indirection is not None else None
        for item in (tensor, index):
            if isinstance(item, NkiTensor) and reinterprets(item):
                raise self.fail(
                    "", f"NKI_PRECISE_FP=0: dtype in which {item!r} sees a tensor of {item.storage.dtype}",
                    str(item.dtype), f"{item.storage.dtype}, for every float is stored as float32, or NKI_PRECISE_FP=1",
                    "precise-view",
                )  # fmt: skip

    # --- operands -----------------------------------------------------------------------------------------

    def read(self, operand: str, tensor: NkiTensor, *, part: bool = False) -> Array:
        """An operand's values as stored, in its shape (a view where possible: never write to it).

        ``part``: it is a part of the operand, of which another part was written; this one may be wholly undefined.
        """
        if tensor.indirection is not None:
            return self._gather(operand, tensor)
        if tensor.storage.written is not True:
            return self._partly(operand, tensor, part)
        return array(tensor)

    def read_float(self, operand: str, tensor: NkiTensor | float | int) -> Array:
        """An operand's values as float32 (a scalar gives a 0-d array)."""
        if isinstance(tensor, NkiTensor):
            return to_float32(self.read(operand, tensor), tensor.dtype)
        if isinstance(tensor, VirtualRegister):
            return np.asarray(tensor.get(), np.float32)
        return np.asarray(tensor, np.float32)

    def read_column(self, operand: str, tensor: NkiTensor | float | int, partitions: int) -> Array:
        """A per-partition operand: a scalar, or a ``(P, 1)`` tensor as float32 ``[P, 1]``."""
        if not isinstance(tensor, NkiTensor):
            return self.read_float(operand, tensor)
        if tensor.shape[0] != partitions or tensor.free_size != 1:
            raise self.fail(operand, "shape", tensor.shape, f"({partitions}, 1)", "shape")
        return self.read_float(operand, tensor).reshape(partitions, 1)

    def write(self, operand: str, tensor: NkiTensor, values: Array) -> None:
        """Store values (float32 is cast to the tensor's dtype; the same dtype is copied bit by bit)."""
        data = self.cast(tensor, values)
        if data.shape != tensor.shape:
            data = data.reshape(tensor.shape)
        if tensor.indirection is not None:
            self._scatter(operand, tensor, data)
            return
        storage = tensor.storage
        if storage.shared and self.core.cores > 1:
            held = missing(storage.written, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset) == 0
            self.fingerprint(storage, data, array(tensor) if held else None)
        array(tensor)[...] = data
        if storage.written is not True:
            storage.written = mark(
                storage.written, storage.nbytes, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset
            )

    def fingerprint(self, storage: Storage, data: Array, before: Array | None) -> None:
        """Keep a checksum of what is written to shared HBM, and whether it differs from what was there ``before``.

        So equal writes of two cores are known as such. ``core.state["write-values"]``: by (instruction, storage),
        for ``chip/hazards.py``.
        """
        sums: dict[tuple[int, int], tuple[int, bool]] = self.core.state.setdefault("write-values", {})
        key = len(self.core.instructions) - 1, storage.serial
        known, changed = sums.get(key, (0, False))
        bits = data.tobytes()
        sums[key] = zlib.crc32(bits, known), changed or before is None or bits != before.tobytes()

    def cast(self, tensor: NkiTensor, values: Array) -> Array:
        """Values in the NumPy dtype of a tensor's storage."""
        if tensor.storage.scale != 1:
            return values.astype(np.float32, copy=False)
        return from_float32(values, tensor.dtype, stochastic=self._rounding(self.core.options))

    def _rounding(self, options: Any) -> np.random.Generator | None:
        if not options.stochastic:
            return None
        generator: np.random.Generator = self.core.state.setdefault("rounding", np.random.default_rng(options.seed))
        return generator

    def _partly(self, operand: str, tensor: NkiTensor, part: bool) -> Array:
        """An operand of a storage that is not wholly written: with poison where elements are undefined."""
        storage = tensor.storage
        lacking = missing(storage.written, tensor.itemsize, tensor.shape, tensor.strides, tensor.offset)
        if not lacking:
            if covers(storage.nbytes // tensor.itemsize, tensor.shape, tensor.strides, tensor.offset):
                storage.written = True
            return array(tensor)
        if lacking == tensor.size and not part and not tainted(tensor):
            raise self.unwritten(operand, tensor, lacking)
        return poisoned(self, operand, tensor, array(tensor), elements(tensor))

    def unwritten(self, operand: str, tensor: NkiTensor, lacking: int) -> NkiValidationError:
        """The error of an operand none of whose elements was ever written."""
        return self.fail(
            operand, f"uninitialised {tensor.buffer.value} read, elements of {tensor!r} never written", lacking,
            "them to be written first", "uninitialised-read",
        )  # fmt: skip

    def _gather(self, operand: str, tensor: NkiTensor) -> Array:
        from trainshed.chip.indirect import gather

        return gather(self, operand, tensor)

    def _scatter(self, operand: str, tensor: NkiTensor, values: Array) -> None:
        from trainshed.chip.indirect import scatter

        scatter(self, operand, tensor, values)


def reinterprets(tensor: NkiTensor) -> bool:
    """Whether a view takes float32s that stand for a narrow float for the bits of another dtype.

    The two formats named e4m3 have the same values, infinities and the largest apart: those stay what they are.
    """
    storage = tensor.storage
    return (
        storage.scale != 1 and tensor.dtype != storage.dtype and not (tensor.dtype in _E4M3 and storage.dtype in _E4M3)
    )


def array(tensor: NkiTensor) -> Array:
    """The NumPy view of a tensor's storage (no checks of initialisation)."""
    storage, kind = tensor.storage, tensor.dtype.storage
    if storage.scale == 1:
        size = kind.itemsize
        return np.ndarray(
            tensor.shape,
            kind,
            storage.data.data,
            tensor.offset * size,
            tuple(stride * size for stride in tensor.strides),
        )
    size = 4
    return np.ndarray(
        tensor.shape,
        np.float32,
        storage.data.data,
        tensor.offset * size,
        tuple(stride * size for stride in tensor.strides),
    )


def region(tensor: NkiTensor) -> Region:
    """The bytes a tensor names, for the record. Equal patterns are one object."""
    storage, found = tensor.storage, tensor.indirection
    form = tensor.strides, tensor.shape
    pattern = _PATTERNS.get(form)
    if pattern is None:
        if len(_PATTERNS) >= _MOST_PATTERNS:
            _PATTERNS.clear()
        pattern = _PATTERNS[form] = tuple(zip(*form, strict=True))
    kind = None if found is None else found.kind
    return _new(Region, (storage.serial, storage.buffer, tensor.dtype, tensor.offset, pattern, kind))


_new = tuple.__new__  # a named tuple's own takes three times as long
_PATTERNS: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, int], ...]] = {}
_MOST_PATTERNS = 65536
