"""What collectives between ranks take, and by which algorithm: the fabric's cost on the levels of the system.

Ranks are logical NeuronCores in the order of the chips, ``per_chip`` to a chip. The members of a group are taken as
evenly spread from its first to its last (what every parallel layout gives), and groups of the other ranks as busy
with the like at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainshed.core.errors import UserError
from trainshed.fabric import CollectiveCost, Group, collective
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.schema import System

#: The fabric's names of the collectives, and whether their size (NCCL's convention) is that of all ranks together.
KINDS: dict[str, tuple[str, bool]] = {
    "all_reduce": ("all_reduce", False), "all_gather": ("all_gather", True), "all_gather_v": ("all_gather", True),
    "reduce_scatter": ("reduce_scatter", False), "all_to_all": ("all_to_all", False),
    "all_to_all_v": ("all_to_all", False), "collective_permute": ("permute", False),
    "collective_permute_implicit": ("permute", False), "collective_permute_implicit_reduce": ("permute", False),
}  # fmt: skip


#: The system of ranks that name none: the largest scale-up domain of the chip.
SYSTEMS = {"trn1": "trn1", "inf2": "inf2.48xlarge", "trn2": "trn2-ultra", "trn3": "trn3-gen2"}


def system_of(chip: str, ranks: int, per_chip: int, name: str | None = None) -> System:
    """The system that ``ranks`` run on, the named one or the default of the chip."""
    system = Catalogue().system(SYSTEMS[chip] if name is None else name)
    if all(pool.chip.name != chip for pool in system.pools):
        raise UserError("system", where="nki.simulate_ranks", value=system.name, expected=f"one of {chip} chips")
    if per_chip < 1:
        raise UserError("ranks on a chip", where="nki.simulate_ranks", value=per_chip, expected="at least 1")
    if -(-ranks // per_chip) > system.max_chips:
        raise UserError(
            "more ranks than the system has room for", where="nki.simulate_ranks", value=ranks,
            expected=f"at most {system.max_chips * per_chip} on {system.name}, {per_chip} to a chip",
        )  # fmt: skip
    return system


@dataclass(frozen=True, kw_only=True, eq=False)
class Links:
    """The fabric under the ranks of a world."""

    system: System
    per_chip: int
    """Ranks on a chip."""
    _known: dict[tuple[object, ...], CollectiveCost] = field(default_factory=dict, init=False)

    def cost(self, opcode: str, size: int, members: Sequence[int], concurrent: int = 1) -> CollectiveCost:
        """A collective of ``size`` bytes of each rank among ``members``; ``concurrent``: so many like it at once."""
        kind, together = KINDS[opcode]
        ranks = len(members)
        stride = (max(members) - min(members)) / (ranks - 1) if ranks > 1 else 1.0
        key = (kind, size, ranks, stride, concurrent)
        if key not in self._known:
            self._known[key] = collective(
                kind, size=float(size * (ranks if together else 1)), group=Group(ranks=ranks, stride=stride),
                levels=self.system.levels, ranks_per_chip=float(self.per_chip), concurrent=float(concurrent),
            )  # fmt: skip
        return self._known[key]
