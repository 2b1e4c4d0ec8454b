"""What collectives between ranks take, and by which algorithm.

Ranks are logical NeuronCores in the order of the chips, ``per_chip`` to a chip. The algorithm is the one whose closed
form is cheapest on the levels of the system (``fabric.collective``); its members are taken as evenly spread from the
first to the last. The time is that of its schedule, send by send, on the system's links (``fabric.flow``), with those
of all groups and of all cores of a rank at once; or the closed form's, where that is asked for, the sends are too many,
or the algorithm is a ring: libraries run as many rings at once as there are links, and a schedule is one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trainshed.chip.record import Instruction
from trainshed.core.errors import UserError, unknown_name
from trainshed.fabric import CollectiveCost, Group, collective
from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.sends import Ints, Sends
from trainshed.fabric.flow.transport import transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.graph import Network
from trainshed.fabric.schedule import join, sends
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.schema import System
from trainshed.nki.collectives_values import schedule_of

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


MODELS = ("flow", "closed")
RINGS = ("ring", "kangaring")
#: Sends of a schedule up to which it is played: some seconds.
MOST = 50_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Links:
    """The fabric under the ranks of a world."""

    system: System
    per_chip: int
    """Ranks on a chip."""
    model: str = "flow"
    """Of time: one of ``MODELS``."""
    _costs: dict[object, CollectiveCost] = field(default_factory=dict, init=False)
    _seconds: dict[object, float] = field(default_factory=dict, init=False)
    _networks: dict[int, Network] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise unknown_name("model of the links", self.model, MODELS, where="nki.simulate_ranks")

    def cost(
        self, opcode: str, size: int, members: Sequence[int], concurrent: int = 1, algorithm: str = "auto"
    ) -> CollectiveCost:
        """The closed form of a collective to which each member brings ``size`` bytes; ``concurrent`` such at once."""
        kind, _ = KINDS[opcode]
        ranks = len(members)
        stride = (max(members) - min(members)) / (ranks - 1) if ranks > 1 else 1.0
        key = (opcode, size, ranks, stride, concurrent, algorithm)
        if key not in self._costs:
            self._costs[key] = collective(
                kind, size=whole_size(opcode, size, ranks), group=Group(ranks=ranks, stride=stride),
                levels=self.system.levels, ranks_per_chip=float(self.per_chip), concurrent=float(concurrent),
                algorithm=algorithm,
            )  # fmt: skip
        return self._costs[key]

    def seconds(self, record: Instruction, size: int, members: tuple[int, ...], concurrent: int, way: str) -> float:
        """What a collective takes by the algorithm ``way`` once all its ranks have come to it."""
        cost = self.cost(record.opcode, size, members, concurrent, way)
        if len(members) < 2:
            return float(cost.time.value)
        groups = record.attributes.get("groups", (members,))
        pairs = record.attributes.get("pairs")
        on_chip = record.reads[0].buffer.on_chip
        key = (record.opcode, size, members, groups, pairs, concurrent, on_chip, way)
        if key not in self._seconds:
            by_formula = self.model == "closed" or (pairs is None and str(cost.chosen) in RINGS)
            played = None if by_formula else self._sends(record.opcode, size, groups, pairs, cost)
            if played is None or concurrent * len(played) > MOST:
                self._seconds[key] = float(cost.time.value)
            else:
                paid = transport(
                    self.system, KINDS[record.opcode][0], memory="sbuf" if on_chip else "hbm", algorithm=way,
                    size=whole_size(record.opcode, size, len(members)), ranks=len(members),
                )  # fmt: skip
                table = join([replace(played, group=played.group + k * len(groups)) for k in range(concurrent)])
                run = Flow().run(self._network(groups), table, paid)
                own = table.group % len(groups) == (0 if pairs else groups.index(members))
                self._seconds[key] = float(run.end[own].max())
        return self._seconds[key]

    def _network(self, groups: Sequence[Sequence[int]]) -> Network:
        chips = 1 + max(map(max, groups)) // self.per_chip
        if chips not in self._networks:
            self._networks[chips] = network(self.system, chips)
        return self._networks[chips]

    def _sends(
        self, opcode: str, size: int, groups: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int]] | None,
        cost: CollectiveCost,
    ) -> Sends | None:  # fmt: skip
        """The sends of all groups; None where they are more than can be played."""
        if pairs is not None:
            ends = np.array(pairs, np.int64) // self.per_chip
            none = np.zeros(len(ends), np.int64)
            return Sends(
                source=ends[:, 0], target=ends[:, 1], size=np.full(len(ends), float(size)),
                first=np.zeros(len(ends) + 1, np.int64), before=none[:0], earliest=np.zeros(len(ends)), group=none,
            )  # fmt: skip
        steps = schedule_of(KINDS[opcode][0], cost)
        if steps.sends * len(groups) > MOST:
            return None
        whole = whole_size(opcode, size, len(groups[0]))
        return join([sends(steps, whole, _Placed(np.array(g, np.int64) // self.per_chip), group=k)
                     for k, g in enumerate(groups)])  # fmt: skip


def whole_size(opcode: str, size: int, ranks: int) -> float:
    """Bytes in NCCL's convention: of what is gathered, those of all ranks."""
    return float(size * (ranks if KINDS[opcode][1] else 1))


@dataclass(frozen=True)
class _Placed:
    """Chip of each rank of a group."""

    chip: Ints
