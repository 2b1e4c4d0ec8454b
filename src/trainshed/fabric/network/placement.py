"""Which rank runs where: rank → core → chip → sled → rack → UltraServer → pod, as the network has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import UserError, unknown_name
from trainshed.fabric.network.graph import Ints, Network

ORDERS = ("packed", "spread", "spread:<domain>", "stride:<chips>")


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """``chip[r]`` is the chip of rank r; ranks of one chip sit on its cores in their order."""

    chip: Ints
    """``[ranks]``"""
    coordinates: Mapping[str, Ints]
    """``[chips]`` by name, the network's."""

    def __len__(self) -> int:
        return len(self.chip)

    @property
    def core(self) -> Ints:
        """``[ranks]`` which of its chip's ranks a rank is: the (logical) core it runs on."""
        by_chip = np.argsort(self.chip, kind="stable")
        start = np.searchsorted(self.chip[by_chip], self.chip[by_chip])
        core = np.empty_like(self.chip)
        core[by_chip] = np.arange(len(self.chip)) - start
        return core

    def table(self) -> dict[str, Ints]:
        """``[ranks]`` by name: core, chip, then the domain at each level and the place on a torus."""
        domains = {name: column[self.chip] for name, column in self.coordinates.items()}
        return {"core": self.core, "chip": self.chip, **domains}


def place(
    network: Network, ranks: int, ranks_per_chip: int = 1, order: str | Sequence[int] | Ints = "packed"
) -> Placement:  # fmt: skip
    """Put ranks on chips, ``ranks_per_chip`` on each.

    ``packed``: chips in their order; ``spread``: neighbouring ranks in different domains of the innermost level, in
    turn; ``spread:rack``: of that level; ``stride:4``: every fourth chip, then the next ones; or a list with the chip
    of each rank. Orders pass over chips that have failed. UserError: too many ranks, a chip that does not exist or gets
    more than its ranks.
    """
    where = f"placement on {network.name}"
    if ranks_per_chip < 1:
        raise UserError("ranks of a chip", where=where, value=ranks_per_chip, expected="at least 1")
    able = working(network)
    if not 1 <= ranks <= len(able) * ranks_per_chip:
        raise UserError(
            "ranks to place", where=where, value=ranks,
            expected=f"1 to {len(able) * ranks_per_chip} ({len(able)} chips of {ranks_per_chip})",
        )  # fmt: skip
    if isinstance(order, str):
        chip = _in_order(network, order, where)
        chip = np.repeat(chip[np.isin(chip, able)], ranks_per_chip)[:ranks]
    else:
        chip = _listed(network, order, ranks, ranks_per_chip, where)
    return Placement(chip=chip, coordinates=network.coordinates)


def working(network: Network) -> Ints:
    """Chips with a link out: a failed one has none. Where no chip has any (one chip alone), all of them."""
    able = np.unique(network.source[network.source < network.chips])
    return able if len(able) else np.arange(network.chips)


def _in_order(network: Network, order: str, where: str) -> Ints:
    """``[chips]`` the chips as ranks fill them."""
    chip = np.arange(network.chips)
    kind, _, what = order.partition(":")
    if order == "packed":
        return chip
    if kind == "spread":
        domain = what or next(iter(network.coordinates), "")
        if domain not in network.coordinates:
            raise unknown_name("domain to spread over", domain, network.coordinates, where=where)
        column = network.coordinates[domain]
        return np.asarray(np.lexsort((column, _place_within(column))), dtype=np.int64)
    if kind == "stride":
        if not what.isdecimal() or int(what) < 1:
            raise UserError("stride of a placement", where=where, value=what, expected="a number of chips, as stride:4")
        return np.asarray(np.lexsort((chip, chip % int(what))), dtype=np.int64)
    raise unknown_name("order of a placement", order, ORDERS, where=where)


def _place_within(domain: Ints) -> Ints:
    """``[chips]`` how many chips of the same domain come before each."""
    by_domain = np.argsort(domain, kind="stable")
    place = np.empty_like(domain)
    place[by_domain] = np.arange(len(domain)) - np.searchsorted(domain[by_domain], domain[by_domain])
    return place


def _listed(network: Network, chips: Sequence[int] | Ints, ranks: int, ranks_per_chip: int, where: str) -> Ints:
    chip = np.asarray(chips)
    if chip.ndim != 1 or len(chip) != ranks or not np.issubdtype(chip.dtype, np.integer):
        raise UserError(
            "list of chips", where=where, value=list(np.ravel(chip)[:8]), expected=f"one chip for each of {ranks} ranks"
        )
    if len(outside := chip[(chip < 0) | (chip >= network.chips)]):
        raise UserError("chip of a rank", where=where, value=int(outside[0]), expected=f"0 to {network.chips - 1}")
    count = np.bincount(chip)
    if (count > ranks_per_chip).any():
        full = int(count.argmax())
        raise UserError(
            f"ranks on chip {full}", where=where, value=int(count[full]), expected=f"at most {ranks_per_chip}"
        )
    return chip.astype(np.int64)
