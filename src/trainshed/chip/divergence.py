"""What differs between the cores of a launch: loops and results may not, static branches may."""

from __future__ import annotations

from collections.abc import Sequence

from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import Source, source, violation
from trainshed.chip.findings import Finding, note
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.words import MemoryRegion


def note_trips(core: NeuronCore, trips: int, at: Source) -> None:
    """Keep how often a loop of the hardware ran, for ``check_loops``."""
    core.state.setdefault("trips", []).append((at, trips))


def check_loops(cores: Sequence[NeuronCore]) -> None:
    """The error ``lnc-divergence`` where cores run a loop of the hardware differently often.

    Source: "Logical NeuronCores", final notes: dynamic control flow that differs between cores is undefined.
    """
    first = cores[0].state.get("trips", [])
    for core in cores[1:]:
        trips = core.state.get("trips", [])
        for k in range(max(len(first), len(trips))):
            one, two = (listed[k] if k < len(listed) else None for listed in (first, trips))
            if one == two:
                continue
            at, count = two or one or (Source("", 0), 0)
            other = f"{one[1]} trips of the loop at {one[0]}" if one else "no such loop"
            raise violation(
                "dynamic loop", "", f"trips on core {core.index}", value=count if two else 0, rule="lnc-divergence",
                expected=f"as on core 0: {other}", at=at,
            )  # fmt: skip


def divergence(cores: Sequence[NeuronCore]) -> list[Finding]:
    """A finding where cores execute different instructions.

    Static control flow may differ (``if nl.program_id(0) == 0`` is common in AWS's kernels); dynamic control flow
    may not ("Logical NeuronCores", final notes).
    """
    if len(cores) < 2:
        return []
    found: list[Finding] = []
    one = [(i.opcode, i.source) for i in cores[0].instructions]
    for core in cores[1:]:
        two = [(i.opcode, i.source) for i in core.instructions]
        place = next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        if place == len(one) == len(two):
            continue
        at: Source = (two[place] if place < len(two) else one[place])[1]
        found.append(Finding(
            "lnc-divergence", f"cores 0 and {core.index} execute different instructions from here on "
            f"({len(one)} and {len(two)} in all): legal if the condition is known when the kernel is compiled", at,
        ))  # fmt: skip
    return found


def check_results(cores: Sequence[NeuronCore], returned: Sequence[Sequence[NkiTensor]]) -> None:
    """The error ``divergent-results`` where a core returns a tensor it wrote that is not core 0's: it would be lost.

    Cores share one tensor of shared HBM where they allocate it at one line or under one name (``Launch.shared``). In
    other memories each core has its own, so there it is a finding, where the values differ. Source: "Logical
    NeuronCores", final notes: outputs are in shared HBM, and the program on each core is the same.
    """
    for core, tensors in zip(cores[1:], returned[1:], strict=True):
        for place, tensor in enumerate(tensors):
            first = returned[0][place] if place < len(returned[0]) else None
            if not _lost(tensor, first):
                continue
            storage = tensor.storage
            at = storage.source or source()
            where = f" of {first.storage.source}" if first is not None and first.storage.source else ""
            kept = f"{_described(first)}{where}" if first is not None else "nothing"
            if storage.buffer is not MemoryRegion.shared_hbm:
                note(core, "divergent-results", f"result {place} of core {core.index}, {_described(tensor)}, is not "
                     f"returned: core 0's is, {kept}", at)  # fmt: skip
                continue
            raise violation(
                "kernel", "", f"result {place} of core {core.index}, which would be lost", value=_described(tensor),
                rule="divergent-results", at=at,
                expected=f"what core 0 returns, {kept}: allocated by all cores at one line or under one name",
            )  # fmt: skip


def _lost(tensor: NkiTensor, first: NkiTensor | None) -> bool:
    """Whether a later core wrote a result that the first core's is not."""
    storage = tensor.storage
    if storage.written is False and not storage.changed:
        return False
    if first is None:
        return True
    if first.storage is storage:
        return (first.shape, first.strides, first.offset) != (tensor.shape, tensor.strides, tensor.offset)
    if storage.buffer is MemoryRegion.shared_hbm:
        return True
    return first.storage.nbytes != storage.nbytes or bool((first.storage.data != storage.data).any())


def _described(tensor: NkiTensor) -> str:
    view = "" if tensor.shape == tensor.storage.shape else f" at element {tensor.offset}"
    return f"{tensor!r}{view}"
