"""Bytes overwritten while they are still needed: through another tensor at the same address, or by one DMA.

NKI preserves program order between instructions that touch the same addresses, so that reusing an address is
legal; what is wrong is to read a tensor after another one was written over it.

Source: the NKI language guide (sequential programming model).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.chip.accesses import Accesses, Array, Lives, columns_of, extent, itemsize, lives, meet
from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import NkiValidationError, violation
from trainshed.chip.findings import Finding
from trainshed.chip.layout import joined
from trainshed.chip.memory import Storage
from trainshed.chip.record import Instruction, Region
from trainshed.chip.words import engine


def check_overlap(columns: Accesses) -> None:
    """The error ``overlap`` where a tensor is read after another one at the same addresses was written over it."""
    for buffer in ("sbuf", "psum"):
        life = lives(columns, buffer)
        explicit = [i for i, storage in enumerate(life.storages) if storage.address is not None]
        if len(explicit) > 1:
            _overlap(columns, Lives([life.storages[i] for i in explicit], life.first[explicit], life.last[explicit]))


@dataclass(frozen=True)
class _Boxes:
    """Explicit tensors as boxes of partitions and bytes."""

    top: Array
    bottom: Array
    low: Array
    high: Array

    def touching(self, i: int) -> Array:
        found: Array = (
            (self.top < self.bottom[i]) & (self.bottom > self.top[i])
            & (self.low < self.high[i]) & (self.high > self.low[i])
        )  # fmt: skip
        return found


def _boxes(storages: Sequence[Storage]) -> _Boxes:
    place = np.array([storage.address for storage in storages], np.int64)
    partitions = np.array([storage.shape[0] for storage in storages], np.int64)
    rows = np.array([storage.row for storage in storages], np.int64)
    return _Boxes(place[:, 0], place[:, 0] + partitions, place[:, 1], place[:, 1] + rows)


def _overlap(columns: Accesses, life: Lives) -> None:
    boxes = _boxes(life.storages)
    earliest: tuple[int, NkiValidationError] | None = None
    for i in _suspects(boxes, life):
        others = boxes.touching(i) & (life.first <= life.last[i]) & (life.last >= life.first[i])
        others[i] = False
        partners = [life.storages[k] for k in np.flatnonzero(others).tolist()]
        if partners:
            found = _clobbered(columns, life.storages[i], partners, None if earliest is None else earliest[0])
            earliest = found or earliest
    if earliest is not None:
        raise earliest[1]


def _suspects(boxes: _Boxes, life: Lives) -> list[int]:
    """Tensors that share an address with another one while both are in use."""
    edges = np.unique(np.concatenate((boxes.low, boxes.high)))
    left, right = np.searchsorted(edges, boxes.low).tolist(), np.searchsorted(edges, boxes.high).tolist()
    rows = np.unique(np.concatenate((boxes.top, boxes.bottom)))
    top, bottom = np.searchsorted(rows, boxes.top).tolist(), np.searchsorted(rows, boxes.bottom).tolist()
    until = np.full((len(rows), len(edges)), -1, np.int64)
    clash: set[int] = set()
    first, last = life.first.tolist(), life.last.tolist()
    order = np.argsort(life.first, kind="stable").tolist()
    for i in order:
        cells = until[top[i] : bottom[i], left[i] : right[i]]
        if int(cells.max()) >= first[i]:
            clash.add(i)
        np.maximum(cells, last[i], out=cells)
    if not clash:
        return []
    # The earlier partner of each clash is the one that may be overwritten, so both are looked at.
    found = set(clash)
    for i in clash:
        both = boxes.touching(i) & (life.first <= life.last[i]) & (life.last >= life.first[i])
        found.update(np.flatnonzero(both).tolist())
    return sorted(found)


def _clobbered(
    columns: Accesses, victim: Storage, partners: list[Storage], before: int | None
) -> tuple[int, NkiValidationError] | None:
    """The first read of ``victim`` that meets bytes of another tensor (earlier than instruction ``before``)."""
    by_serial = {storage.serial: storage for storage in partners}
    events = [columns.of(victim.serial)]
    for other in partners:
        mine = columns.of(other.serial)
        events.append(mine[columns.write[mine]])
    mask = np.zeros((victim.shape[0], victim.row), bool)
    dirty = False
    history: list[int] = []
    for k in np.sort(np.concatenate(events)).tolist():
        region, moment = columns.regions[k], int(columns.time[k])
        if before is not None and moment >= before:
            return None
        if region.indirect is not None:
            continue  # the place is not known here
        other_storage = by_serial.get(region.storage)
        if other_storage is not None:
            dirty |= _paint(mask, region, other_storage, victim, True)
            history.append(k)
        elif columns.write[k] and not _accumulates(columns, moment):
            if dirty:
                _paint(mask, region, victim, victim, False)
        elif dirty and _touches(mask, region, victim):
            return moment, _overlap_error(columns, k, victim, mask, history, by_serial)
    return None


def _accumulates(columns: Accesses, moment: int) -> bool:
    """Whether an instruction adds to what its destination holds (``chip/isa/tensor.py``)."""
    return columns.core.instructions[moment].attributes.get("accumulate") == "True"


def _cells(region: Region, storage: Storage, victim: Storage) -> Iterator[tuple[slice, slice]]:
    """A region of ``storage`` as slices of the victim's partitions and bytes."""
    assert storage.address is not None
    assert victim.address is not None
    rows, spans = columns_of(region, storage.row)
    down = storage.address[0] - victim.address[0]
    along = storage.address[1] - victim.address[1]
    start, stop = rows.start + down, min(rows.stop + down, victim.shape[0])
    if start < 0:
        start += -(start // rows.step) * rows.step
    if start >= stop:
        return
    for low, high in spans:
        low, high = max(low + along, 0), min(high + along, victim.row)
        if low < high:
            yield slice(start, stop, rows.step), slice(low, high)


def _paint(mask: Array, region: Region, storage: Storage, victim: Storage, value: bool) -> bool:
    touched = False
    for cell in _cells(region, storage, victim):
        mask[cell] = value
        touched = True
    return touched


def _touches(mask: Array, region: Region, victim: Storage) -> bool:
    return any(mask[cell].any() for cell in _cells(region, victim, victim))


def _overlap_error(
    columns: Accesses, read: int, victim: Storage, mask: Array, history: list[int], partners: dict[int, Storage]
) -> NkiValidationError:
    instructions = columns.core.instructions
    reader = instructions[int(columns.time[read])]
    bad = np.zeros_like(mask)
    for cell in _cells(columns.regions[read], victim, victim):
        bad[cell] = mask[cell]
    writer, culprit = reader, victim
    for k in reversed(history):
        storage = partners[columns.regions[k].storage]
        if any(bad[cell].any() for cell in _cells(columns.regions[k], storage, victim)):
            writer, culprit = instructions[int(columns.time[k])], storage
            break
    return violation(
        reader.opcode, title(victim), f"reads bytes that {writer.opcode} at {writer.source} wrote over through",
        value=f"{title(culprit)} at address {culprit.address}", rule="overlap", at=reader.source,
        expected=f"another address than {victim.address}, which still holds live data",
    )  # fmt: skip


def overlapping_dmas(core: NeuronCore) -> list[Finding]:
    """The finding ``overlapping-dma`` where a DMA writes bytes that it also reads, other than a view onto itself.

    A transfer is spread over up to 16 engines, each at its own pace, so that bytes may be overwritten before they
    are read; the values here are those of a source read whole first. Views whose place is found at run time are
    left out. Source: "Introduction to Direct Memory Access (DMA) with NKI", basic capabilities.
    """
    found = []
    known: dict[tuple[Region, Region, bool], bool] = {}
    for instruction in core.instructions:
        if instruction.engine is not engine.dma or not instruction.writes:
            continue
        for read in instruction.reads:
            written = instruction.writes[0]
            if read[0] != written[0]:
                continue
            moves = "transpose" in instruction.attributes
            key = read, written, moves
            if key not in known:
                known[key] = _tangled(read, written, moves)
            if known[key]:
                found.append(_dma_finding(core, instruction, written))
                break
    return found


def _tangled(read: Region, written: Region, moves: bool) -> bool:
    """Whether two regions of one storage share a byte and are not the same elements in the same order.

    ``moves``: the DMA changes the order, so that no element stays where it is.
    """
    if read.indirect is not None or written.indirect is not None:
        return False
    (low, high), (start, stop) = extent(read), extent(written)
    if high <= start or stop <= low:
        return False
    if not moves and _walk(read) == _walk(written):
        return False
    return meet(read, written)


def _walk(region: Region) -> tuple[int, int, list[tuple[int, int]]]:
    """Equal for regions that name the same bytes element by element, in whatever shape."""
    return itemsize(region), region.offset, joined(region.shape, [stride for stride, _ in region.pattern])


def _dma_finding(core: NeuronCore, instruction: Instruction, written: Region) -> Finding:
    owner = core.launch.cores[written.storage % core.cores] if core.cores > 1 else core
    storage = owner.storages[written.storage // core.cores]
    return Finding(
        "overlapping-dma", f"{instruction.opcode} reads and writes the same bytes of {title(storage)}: right only if "
        "all is read before the first is written, which engines that share a transfer do not promise",
        instruction.source,
    )  # fmt: skip


def title(storage: Storage) -> str:
    """What an error calls a tensor."""
    return storage.name or f"{storage.dtype}{list(storage.shape)} of {storage.source}"
