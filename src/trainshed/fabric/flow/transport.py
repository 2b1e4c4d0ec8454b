"""The transport of a system's links: what its collective library and its engines add to the wires.

All numbers are the catalogue's: fitted or estimated constants of interconnects (``launch``, ``hop``, ``efficiency``,
…), NCCL's protocols (``src/graph/tuning.cc``: a start and a hop of their own, a part of the rate), DMA engines and
memory of NeuronCores. The closed forms (``fabric.algorithms``) read the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import unknown_name
from trainshed.fabric.flow.sends import Transport
from trainshed.hardware.schema import Chip, Level, System

#: Kinds that start with a post of their own, where one was measured, instead of a collective's launch.
POINT_TO_POINT = ("all_to_all", "permute", "moe_dispatch", "moe_combine")
RINGS = ("ring", "bidirectional_ring", "kangaring")
GATHERS = ("all_reduce", "all_gather", "reduce_scatter")
MEMORIES = ("hbm", "sbuf")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One of NCCL's protocols: prefix of what a start and each hop take on top, mechanism of its rate."""

    prefix: str = ""
    rate: str = ""


PROTOCOLS = {
    "LL": Protocol(rate="low_latency"),
    "LL128": Protocol(prefix="line", rate="line_rate"),
    "Simple": Protocol(prefix="bulk"),
}


def transport(
    system: System | Sequence[Level],
    kind: str,
    protocol: str = "auto",
    memory: str = "hbm",
    *,
    algorithm: str = "",
    size: float | None = None,
    ranks: int = 0,
) -> Transport:
    """What sends of a collective pay.

    ``protocol``: of NCCL, for rings and trees; ``auto`` takes Simple, or for a ring of ``ranks`` and ``size`` bytes the
    one that takes least. ``ranks`` also count in the set-up of all pairs of a direct exchange. ``memory``: where
    buffers are; HBM is read and written once per byte, SBUF only needs DMA engines. ``algorithm`` ``nvls`` reaches what
    the switch adds up at. UserError: unknown protocol or memory.
    """
    levels, chip = (system.levels, system.chip) if isinstance(system, System) else (tuple(system), None)
    name = system.name if isinstance(system, System) else "levels"
    if memory not in MEMORIES:
        raise unknown_name("memory", memory, MEMORIES, where="transport")
    if protocol not in ("auto", *PROTOCOLS):
        raise unknown_name("protocol", protocol, ["auto", *PROTOCOLS], where="transport")
    if protocol == "auto":
        protocol = _least(levels, kind, algorithm, size, ranks)
    chosen = PROTOCOLS.get(protocol, Protocol()) if _has(levels, protocol) else Protocol()
    ring = algorithm in RINGS and kind in GATHERS
    return Transport(
        name=" ".join((name, kind, protocol)).strip(),
        launch={at.name: _launch(at, kind, ranks, chosen if ring else Protocol()) for at in levels},
        hop={at.name: _of(at, "hop") + (_of(at, chosen.prefix) if chosen.prefix else 0.0) for at in levels},
        message={at.name: _of(at, "message") for at in levels if "message" in at.fitted},
        reach={at.name: _reach(at, algorithm) * (_of(at, chosen.rate, 1.0) if chosen.rate else 1.0) for at in levels},
        last_step={at.name: _of(at, "last_step") for at in levels[:1] if ring},
        inject=_inject(chip, memory),
    )  # fmt: skip


def _of(level: Level, mechanism: str, default: float = 0.0) -> float:
    constant = level.fitted.get(mechanism)
    return default if constant is None else float(constant.value)


def _launch(level: Level, kind: str, ranks: int, protocol: Protocol) -> float:
    """Start of a collective, of a protocol of its ring, and the set-up of all pairs of ranks of a direct exchange."""
    start = _of(level, "post" if kind in POINT_TO_POINT else "launch", _of(level, "launch"))
    pairs = ranks * min(ranks, _of(level, "pair_most")) if kind in POINT_TO_POINT and kind != "permute" else 0.0
    return start + (_of(level, f"{protocol.prefix}_start") if protocol.prefix else 0.0) + pairs * _of(level, "pair")


def _reach(level: Level, algorithm: str) -> float:
    """Part of the data sheet's rate; NVLS: where the switch adds up, a part of that."""
    sums = algorithm == "nvls" and level.reduction_in_network
    return _of(level, "efficiency", 1.0) * (_of(level, "in_network", 1.0) if sums else 1.0)


def _has(levels: Sequence[Level], protocol: str) -> bool:
    return bool(levels) and "low_latency" in levels[0].fitted and protocol in PROTOCOLS


def _least(levels: Sequence[Level], kind: str, algorithm: str, size: float | None, ranks: int) -> str:
    """The protocol that a library takes: NCCL's tree is Simple's, a ring's the one of least time; others have none."""
    if algorithm == "tree" and _has(levels, "Simple"):
        return "Simple"
    if algorithm not in RINGS or kind not in GATHERS or not _has(levels, "Simple"):
        return ""
    if size is None or ranks < 2:
        return "Simple"
    first, rounds = levels[0], 2.0 if kind == "all_reduce" else 1.0
    takes = {}
    for name, each in PROTOCOLS.items():
        if not each.rate or each.rate in first.fitted:
            start = _of(first, f"{each.prefix}_start") if each.prefix else 0.0
            hop = float(first.latency.value) + _of(first, "hop") + (_of(first, each.prefix) if each.prefix else 0.0)
            rate = (
                float(first.bandwidth.value)
                * _reach(first, algorithm)
                * (_of(first, each.rate, 1.0) if each.rate else 1.0)
            )
            takes[name] = start + rounds * (ranks - 1) * (hop + size / ranks / rate)
    return min(takes, key=takes.__getitem__)


def _inject(chip: Chip | None, memory: str) -> float:
    """B/s that the DMA engines of a chip move, and that its HBM can be read and written at; GPUs copy with SMs."""
    if chip is None or chip.neuron is None:
        return np.inf
    engines = float(chip.cores.value) * float(chip.neuron.dma_bandwidth.value)
    return min(engines, float(chip.hbm_bandwidth.value) / 2.0) if memory == "hbm" else engines
