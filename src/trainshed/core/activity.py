"""What a run made the machine do: counts that energy follows from, never times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainshed.core.constant import Number


def _add(a: Mapping[str, Number], b: Mapping[str, Number]) -> dict[str, Number]:
    return {k: a.get(k, 0.0) + b.get(k, 0.0) for k in {**a, **b}}


@dataclass(frozen=True, kw_only=True, eq=False)
class Activity:
    """Counts per rank: multiply-accumulates by dtype, elements by engine, bytes by memory level and by link level."""

    macs: Mapping[str, Number] = field(default_factory=dict)
    """Multiply-accumulates that the matrix engine executes, by product dtype."""
    vector: Number = 0.0
    """Elements through VectorE (or a GPU's CUDA cores)."""
    scalar: Number = 0.0
    """Elements through ScalarE (or a GPU's special-function units)."""
    memory: Mapping[str, Number] = field(default_factory=dict)
    """Bytes by memory level: ``hbm``, ``sbuf``, ``psum`` (GPU: ``hbm``, ``l2``)."""
    written: Number = 0.0
    """Bytes of ``hbm`` that were written, where the operators tell reads and writes apart (NeuronCores)."""
    links: Mapping[str, Number] = field(default_factory=dict)
    """Bytes sent by level of the fabric."""

    def __add__(self, other: Activity) -> Activity:
        return Activity(
            macs=_add(self.macs, other.macs), vector=self.vector + other.vector, scalar=self.scalar + other.scalar,
            memory=_add(self.memory, other.memory), written=self.written + other.written,
            links=_add(self.links, other.links),
        )  # fmt: skip

    def scaled(self, factor: Number) -> Activity:
        """``factor`` times as much of everything."""
        return Activity(
            macs={k: v * factor for k, v in self.macs.items()}, vector=self.vector * factor,
            scalar=self.scalar * factor, memory={k: v * factor for k, v in self.memory.items()},
            written=self.written * factor, links={k: v * factor for k, v in self.links.items()},
        )  # fmt: skip


NOTHING = Activity()
