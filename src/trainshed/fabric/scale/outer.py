"""The outermost level of a system: groups of one chip of each domain, every chip on links of its own.

Behind a switch every chip has its own links to it. In a folded Clos of full bisection over which messages are sprayed
no link between switches ever limits: what leaves a leaf is at most what its chips send, and each of its uplinks gets
an equal part of that (Leiserson's fat tree, IEEE Trans. Computers C-34, 1985, with the loads of Valiant's randomised
routing). So a send takes what its two chips' own links take, plus a latency that knows only how many layers it climbs,
and a group of n is n clocks: its columns are ``[patterns, n]``, one row for all groups whose chips lie alike under the
leaves, instead of a graph of millions of links.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.flow.sends import Floats, Ints, Transport
from trainshed.fabric.scale.rounds import Everyone, Round
from trainshed.hardware.schema import Level


@dataclass(frozen=True, kw_only=True, eq=False)
class Rail:
    """The groups at the outermost level: chip d · domain + p of all domains d, for each place p of ``places``."""

    level: Level
    domains: int
    domain: int
    """Chips of a domain."""
    places: Ints
    """``[patterns]`` a place in the domain for each pattern."""
    transport: Transport
    share: int = 1
    """Ranks of a chip that send at the same time."""

    @property
    def rate(self) -> float:
        """B/s of a chip's links when one of its ranks' messages is on them."""
        reach = self.transport.reach.get(self.level.name, 1.0)
        return min(float(self.level.bandwidth.value) * reach, self.transport.inject) / self.share

    def last(self, latency: Floats, size: Floats | float) -> Floats | float:
        """s that a rank's last message takes out of the receive buffer."""
        part = self.transport.last_step.get(self.level.name, 0.0)
        return latency + self.transport.hop.get(self.level.name, 0.0) + part * size / self.rate if part else 0.0

    def latency(self, source: Ints, target: Ints) -> Floats:
        """``[patterns, sends]`` s between domains: the level's, and ``layer`` for each layer of switches above."""
        base = float(self.level.latency.value)
        climbed = self._climbed(source, target)
        layer = self.level.fitted["layer"].value if "layer" in self.level.fitted else 0.0
        return np.asarray(base + float(layer) * climbed)

    def _climbed(self, source: Ints, target: Ints) -> Floats:
        here = np.zeros((len(self.places), len(source)))
        if self.level.topology != "leaf-spine" or "radix" not in self.level.fitted:
            return here
        half = int(self.level.fitted["radix"].value) // 2
        one, other = (self.places[:, None] + self.domain * ends for ends in (source, target))
        pods = math.ceil(self.domains * self.domain / half)
        one, other = one // half, other // half
        while pods > 1:
            here += one != other
            if pods <= 2 * half:  # the uppermost layer joins them all
                break
            one, other, pods = one // half, other // half, math.ceil(pods / half)
        return here


def patterns(level: Level, domain: int) -> Ints:
    """A place for each pattern: ``domain / len`` neighbouring places always hang on one leaf."""
    if level.topology != "leaf-spine" or "radix" not in level.fitted:
        return np.zeros(1, np.int64)
    return np.arange(0, domain, math.gcd(domain, int(level.fitted["radix"].value) // 2))


def run(rail: Rail, rounds: Sequence[Round | Everyone], slot: float, ready: Floats, final: bool = True) -> Floats:
    """``[patterns, domains]`` s when each rank has all that is sent to it.

    ``slot`` bytes; ``ready``: when each rank begins; ``final``: nothing follows, so that what came last takes the
    transport's ``last_step``. A rank's send waits for all that has come to it, and for its last one to have left.
    """
    ready, free, finish = ready.copy(), np.full_like(ready, -np.inf), np.zeros_like(ready)
    for each in rounds:
        if isinstance(each, Everyone):
            free = ready = _everyone(rail, each, slot, ready, finish)
        else:
            _round(rail, each, slot, (ready, free, finish))
    return ready + finish if final else ready


def _round(rail: Rail, each: Round, slot: float, times: tuple[Floats, Floats, Floats]) -> None:
    """A round, in place."""
    ready, free, finish = times
    transport, name = rail.transport, rail.level.name
    before = transport.hop.get(name, 0.0) + transport.message.get(name, 0.0)
    source, target = each.source, each.target
    drain = before + each.slots * slot / rail.rate
    latency = rail.latency(source, target)
    whole = drain + latency
    waits = ready[:, source]
    if each.adds:
        waits = np.maximum(waits, ready[:, target])
    begin = np.maximum(waits, free[:, source] - before)
    end = begin + whole
    if each.repeat > 1:
        end = repeated(each, whole, end, np.argsort(source)[target])
    free[:, source] = end - whole + drain
    ready[:, target] = np.maximum(ready[:, target], end)
    finish[:, target] = rail.last(latency, each.slots * slot)


def repeated(each: Round, whole: Floats, end: Floats, onward: Ints) -> Floats:
    """When the last sends of a ring arrive, the first ones at ``end``; send ``onward[k]`` takes on what send k brings.

    A send waits for that and for the one before it of its pair. Once all times grow by the same they will for ever:
    the slowest link sets the pace.
    """
    got = np.empty_like(end)
    for left in range(each.repeat - 1, 0, -1):
        if onward[0] == 1:  # neighbours: no need to look up who follows whom
            got[:, 1:], got[:, 0] = end[:, :-1], end[:, -1]
        else:
            got[:, onward] = end
        later = np.maximum(got, end)
        later += whole
        if left % 16 == 0:
            grown = later - end
            if np.ptp(grown, axis=1).max() <= 1e-11 * grown.max():
                return np.asarray(later + (left - 1) * grown.max(axis=1, keepdims=True))
        end = later
    return end


def _everyone(rail: Rail, each: Everyone, slot: float, ready: Floats, finish: Floats) -> Floats:
    """A mesh: messages are issued one after another and share the chip's links; the last one ends last."""
    transport, name = rail.transport, rail.level.name
    message, hop = transport.message.get(name, 0.0), transport.hop.get(name, 0.0)
    if each.adds and message:
        raise UserError(
            "a mesh that adds up, with a price per message", where=f"level {name}", value=f"{message} s each",
            expected="ring or rhd: messages for one rank are issued by all at the same time and queue up there",
        )  # fmt: skip
    if np.ptp(ready, axis=1).max() > 1e-9 * max(ready.max(), 1e-12):
        raise UserError(
            "a mesh whose ranks do not begin together", where=f"{each.ranks} domains at level {name}",
            value=f"{np.ptp(ready, axis=1).max():.3g} s apart", expected="ring, rhd or bruck at that level",
        )  # fmt: skip
    peers, drain = each.ranks - 1, slot / rail.rate
    last = hop + max(peers * message + drain, message + peers * drain)
    everyone = np.arange(each.ranks)
    # pods are ranges of chips: what is farthest from a rank is one of the ends
    farthest = np.maximum(*(rail.latency(np.full_like(everyone, end), everyone) for end in (0, each.ranks - 1)))
    finish[:] = rail.last(farthest, slot)
    return np.asarray(ready + last + farthest)
