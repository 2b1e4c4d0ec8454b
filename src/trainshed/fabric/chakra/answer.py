"""The answer of ``trainshed collective replay``: a directory of traces on a system."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from trainshed.core import Assumption, Result, UserError
from trainshed.fabric.chakra import schema
from trainshed.fabric.chakra.pricing import ClosedForms, Compute, Fabric, communication, roofline, work
from trainshed.fabric.chakra.reader import read
from trainshed.fabric.chakra.replay import Times, run
from trainshed.fabric.chakra.trace import Bools, Floats, Trace
from trainshed.hardware.schema import System

_WORK = (schema.COMPUTE, schema.LOAD, schema.STORE)
_TALK = (schema.SEND, schema.RECEIVE, schema.COLLECTIVE)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """All calls of one kind of collective (or sends), each counted once however many ranks take part."""

    calls: int
    bytes: float
    """Sizes added up, NCCL's convention."""
    seconds: float
    """Added up; they may overlap."""
    waited: float
    """Seconds of ranks that were there before the last member, added up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """A trace on a system: when each node happened, and where each rank's time went."""

    trace: Trace
    times: Times
    total: float
    """s"""
    compute: Floats
    """``[ranks]`` s in which a rank's device works (compute or memory nodes)."""
    communication: Floats
    """``[ranks]`` s in which a rank's links are in use, from the last member's arrival."""
    exposed: Floats
    """``[ranks]`` s of that in which the device does not work."""
    idle: Floats
    """``[ranks]`` s of neither; with ``compute`` and ``exposed`` the total."""
    host: Floats
    """``[ranks]`` s in which the host works, whatever else happens."""
    kinds: Mapping[str, Kind]

    def figures(self) -> dict[str, Any]:
        """The ``result`` object of the command's JSON."""
        columns = {"compute": self.compute, "communication": self.communication, "exposed": self.exposed,
                   "idle": self.idle, "host": self.host}  # fmt: skip
        last = int(np.argmax(self.times.end)) if len(self.trace) else 0
        return {
            "time_s": self.total, "ranks": self.trace.ranks, "nodes": len(self.trace),
            "last_rank": int(self.trace.rank[last]) if len(self.trace) else None,
            **{f"{name}_s": {"mean": float(c.mean()), "least": float(c.min()), "most": float(c.max())}
               for name, c in columns.items()},
            "ranks_s": {name: c.tolist() for name, c in columns.items()},
            "collectives": {
                name: {"calls": k.calls, "bytes": k.bytes, "time_s": k.seconds, "waited_s": k.waited}
                for name, k in self.kinds.items()
            },
        }  # fmt: skip


def replay(
    directory: Path | str, system: System, *, ranks_per_chip: int = 1, name: str | None = None,
    groups: Path | str | None = None, dims: Sequence[int] = (), compute: Compute = "recorded", dtype: str = "bf16",
    one_at_a_time: bool = True, fabric: Fabric | None = None,
) -> Result:  # fmt: skip
    """Read the traces of a directory and replay them on the first chips of a system.

    ``name``, ``groups``, ``dims``: see ``reader.read``; ``compute``: see ``pricing.work``, in ``dtype``;
    ``one_at_a_time``: see ``replay.run``; ``fabric``: what times the collectives (default: the closed forms).
    """
    if compute not in get_args(Compute):
        raise UserError("unknown source of durations", where="replay", value=compute, expected="recorded or roofline")
    if ranks_per_chip < 1:
        raise UserError("ranks per chip", where="--ranks-per-chip", value=ranks_per_chip, expected="at least 1")
    trace = read(directory, name=name, groups=groups, dims=dims)
    chips = math.ceil(trace.ranks / ranks_per_chip)
    if chips > system.max_chips:
        raise UserError(
            "a trace of more ranks than the system has", where=str(directory), value=trace.ranks,
            expected=f"at most {system.max_chips * ranks_per_chip} ranks on {system.name}",
        )  # fmt: skip
    done = on(
        trace, system, ranks_per_chip=ranks_per_chip, compute=compute, dtype=dtype, one_at_a_time=one_at_a_time,
        fabric=fabric,
    )  # fmt: skip
    inputs = {
        "directory": str(directory), "trace": trace.name, "system": system.name, "chips": chips,
        "ranks_per_chip": ranks_per_chip, "compute": compute,
    }  # fmt: skip
    return Result(
        command="collective replay", inputs=inputs, result=done.figures(), details={"replay": done},
        assumptions=_assumptions(trace, system, compute, one_at_a_time, fabric is None),
    )  # fmt: skip


def on(
    trace: Trace, system: System, *, ranks_per_chip: int = 1, compute: Compute = "recorded", dtype: str = "bf16",
    one_at_a_time: bool = True, fabric: Fabric | None = None,
) -> Replay:  # fmt: skip
    """Replay a trace that is in memory."""
    chosen = ClosedForms(levels=system.levels, ranks_per_chip=float(ranks_per_chip)) if fabric is None else fabric
    talk = communication(trace, chosen)
    seconds = work(trace, roofline(system, ranks_per_chip, dtype), compute) + talk
    return accounts(trace, run(trace, seconds, one_at_a_time=one_at_a_time))


def accounts(trace: Trace, times: Times) -> Replay:
    """Where each rank's time went."""
    device, links = np.isin(trace.kind, _WORK), np.isin(trace.kind, _TALK)
    host = device & trace.host
    working = covered(trace, times, device & ~host)
    either = covered(trace, times, (device & ~host) | links)
    total = times.total
    return Replay(
        trace=trace, times=times, total=total, compute=working, communication=covered(trace, times, links),
        exposed=either - working, idle=total - either, host=covered(trace, times, host), kinds=_kinds(trace, times),
    )  # fmt: skip


def covered(trace: Trace, times: Times, chosen: Bools) -> Floats:
    """``[ranks]`` s in which at least one of the chosen nodes is under way."""
    out = np.zeros(trace.ranks)
    nodes = np.flatnonzero(chosen)
    ends = np.searchsorted(trace.rank[nodes], np.arange(trace.ranks + 1))
    for rank in range(trace.ranks):
        mine = nodes[ends[rank] : ends[rank + 1]]
        if not len(mine):
            continue
        mine = mine[np.argsort(times.begin[mine], kind="stable")]
        end = np.maximum.accumulate(times.end[mine])
        before = np.concatenate([[0.0], end[:-1]])
        out[rank] = np.maximum(end - np.maximum(times.begin[mine], before), 0.0).sum()
    return out


def _kinds(trace: Trace, times: Times) -> dict[str, Kind]:
    found = {}
    names = [call.kind for call in trace.calls]
    for kind in dict.fromkeys([*names, "send"]):
        mine = np.flatnonzero(np.isin(trace.call, [i for i, n in enumerate(names) if n == kind]))
        mine = mine[trace.kind[mine] == schema.COLLECTIVE]
        if kind == "send":
            mine = np.flatnonzero(trace.kind == schema.SEND)
        if not len(mine):
            continue
        # a call of n members is seen n times
        each = np.ones(len(mine))
        if kind != "send":
            each /= np.array([len(g.members) for g in trace.groups], dtype=np.float64)[trace.group[mine]]
        took, waited = times.end[mine] - times.begin[mine], times.begin[mine] - times.ready[mine]
        found[kind] = Kind(
            calls=round(float(each.sum())), bytes=float((trace.size[mine] * each).sum()),
            seconds=float((took * each).sum()), waited=float(waited.sum()),
        )  # fmt: skip
    return found


def _assumptions(
    trace: Trace, system: System, compute: Compute, one_at_a_time: bool, closed: bool
) -> tuple[Assumption, ...]:  # fmt: skip
    device = np.isin(trace.kind, _WORK)
    bare = int((device & np.isnan(trace.seconds) & np.isnan(trace.ops) & np.isnan(trace.bytes)).sum())
    uneven = sum(len(np.unique(np.diff(g.members))) > 1 for g in trace.groups)
    said = [
        Assumption(what="placement of ranks", value="rank order, the first chips of the system", source="replay"),
        Assumption(
            what="a rank's links", value="one collective or send at a time" if one_at_a_time else "all at once, each "
            "as if alone", source="replay",
        ),
        Assumption(
            what="durations of compute nodes", value="the trace's, else the chip's roofline" if compute == "recorded"
            else f"the roofline of {system.chip.name}, else the trace's", source="replay",
        ),
    ]  # fmt: skip
    if closed:
        said.append(Assumption(what="collectives", value="closed forms, each alone", source="docs/fabric.md"))
    if bare:
        said.append(
            Assumption(what="compute nodes without a duration, FLOP or bytes", value=bare, unit="nodes, no time",
                       source="the trace")
        )  # fmt: skip
    if uneven and closed:
        said.append(
            Assumption(what="groups of uneven distances", value=uneven, unit="groups, timed at their mean distance",
                       source="replay")
        )  # fmt: skip
    return tuple(said)
