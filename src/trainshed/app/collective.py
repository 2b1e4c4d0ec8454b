"""``trainshed collective``: one collective in closed form and on its links; ``collective replay`` of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainshed.app.machine import machine
from trainshed.core import Result, UserError, unknown_name
from trainshed.fabric import chakra
from trainshed.fabric.answer import answer
from trainshed.fabric.at_scale import scaled
from trainshed.fabric.collective import KINDS
from trainshed.fabric.group import Group, spread
from trainshed.fabric.on_links import MODELS, Ask, beside, instead, of_file, of_system, played
from trainshed.fabric.play import SOON, soon_played
from trainshed.fabric.schedule import ALGORITHMS
from trainshed.hardware import System
from trainshed.report.fabric_page import write_page
from trainshed.report.fabric_trace import write_trace
from trainshed.report.tables import grids
from trainshed.report.whole import check_path
from trainshed.validate.evidence import evidence_of_collective

CLOSED = "closed"
#: Ranks above which a hierarchy is simulated by symmetry (``fabric.scale``), to the same result.
SYMMETRY = 2304


def collective(
    kind: str, *, bytes: float, on: str | None = None, chips: int | None = None, algorithm: str = "auto",
    model: str = "auto", routing: str = "spray", order: str = "packed", topology: Path | str | None = None,
    fail: Sequence[str] = (), ranks_per_chip: int = 1, set_values: Sequence[str] = (),
    hardware: Sequence[Path | str] = (),
) -> Result:  # fmt: skip
    """One collective of ``bytes`` among the first chips of a system, or of a network of the user's own.

    ``model``: ``closed`` forms alone; ``flow`` or ``packet``: what its sends take on the links; ``auto``: the closed
    form, with the links beside it where they are soon found; the links alone with ``fail``, a ``topology``, and an
    ``order`` or ``routing`` that closed forms do not know.
    """
    if kind not in KINDS:
        raise unknown_name("collective", kind, (*KINDS, "replay"), where="collective")
    if model not in ("auto", CLOSED, *MODELS):
        raise unknown_name("network model", model, ("auto", CLOSED, *MODELS), where="--model")
    if (on is None) == (topology is None):
        raise UserError(
            "where the collective runs", where="--on, --topology", value="neither" if on is None else "both",
            expected="one of them",
        )  # fmt: skip
    unlike = routing != "spray" or order != "packed"
    if model == CLOSED and (fail or topology or unlike):
        raise UserError("closed forms know no single links", where="--model", value=model, expected="flow or packet")
    if topology is not None and (set_values or hardware):
        raise UserError(
            "numbers of the catalogue", where="--set, --hardware", value=", ".join(map(str, (*set_values, *hardware))),
            expected="--on SYSTEM: a network of your own has its numbers in its file",
        )  # fmt: skip
    ask = Ask(
        kind=kind, size=_positive(bytes), ranks=0, algorithm=algorithm, ranks_per_chip=ranks_per_chip, order=order,
        model="flow" if model == "auto" else model, routing=routing,
    )  # fmt: skip
    if topology is not None:
        return _on_file(ask, Path(topology), chips, fail)
    assert on is not None
    where = machine(on, chips=chips, set_values=set_values, hardware=hardware)
    cores = int(float(where.system.chip.cores.value))
    if cores > 1 and ranks_per_chip > cores:
        raise UserError(
            "ranks per chip", where="--ranks-per-chip", value=ranks_per_chip, expected=f"at most {cores}, its cores"
        )
    given = {"kind": kind, "bytes": ask.size, "system": where.system.name, "chips": where.chips, "model": model,
             "algorithm": algorithm, "ranks_per_chip": ranks_per_chip, "routing": routing, "order": order}  # fmt: skip
    ask = _of(ask, where.chips * ranks_per_chip)
    if model == "flow" and not (fail or unlike) and _by_symmetry(ask, algorithm):
        result = scaled(where.system, ask, given)
    elif model in MODELS or fail or unlike:
        _check_spelled_out(ask)
        place = of_system(where.system, where.chips, fail)
        ask = _of(ask, min(where.chips, place.working) * ranks_per_chip)
        result = instead(place, ask, played(place, ask), given | ({"fail": list(fail)} if fail else {}))
    else:
        result = answer(kind, ask.size, where.system, where.chips, algorithm, ranks_per_chip=ranks_per_chip)
        chosen = result.result["algorithm"] if isinstance(result.result, dict) else algorithm
        if model != CLOSED and chosen in ALGORITHMS[kind]:
            result = _with_links(result, ask, where.system, where.chips, str(chosen))
    sets = {"set_values": where.said["set_values"]} if set_values else {}
    assert isinstance(result.result, dict)
    known = evidence_of_collective(
        chip=where.system.chip.name, kind=kind, size=ask.size, value=result.result["time_s"], catalogue=where.catalogue
    )
    return replace(
        result, inputs={**result.inputs, **sets}, assumptions=(*where.assumptions, *result.assumptions), evidence=known
    )


@dataclass(frozen=True, kw_only=True)
class Views:
    """Files to write of one collective."""

    trace: Path | None = None
    plot: Path | None = None

    def check(self) -> None:
        """Before the run: each path can be written."""
        if self.trace is not None:
            check_path(self.trace, "--trace", ".pftrace")
        if self.plot is not None and self.plot.suffix.lower() != ".svg":
            check_path(self.plot, "--plot", ".html")

    @property
    def page(self) -> Path | None:
        """The page of heat maps; None: no plot, or one of the algorithms alone (SVG)."""
        return self.plot if self.plot is not None and self.plot.suffix.lower() != ".svg" else None

    def write(self, result: Result) -> None:
        """Write the trace and the page of what was played."""
        if self.trace is None and self.page is None:
            return
        done = result.details.get("played")
        if done is None:
            raise UserError(
                "nothing was played on links", where="--trace, --plot", value=str(result.inputs.get("algorithm")),
                expected="--model flow, and an algorithm that has a schedule",
            )  # fmt: skip
        if self.trace is not None:
            write_trace(self.trace, done)
        if self.page is not None:
            assert isinstance(result.result, dict)
            write_page(self.page, result.result, done, grids(result))


def replay(
    directory: Path | str | None, *, on: str | None, ranks_per_chip: int = 1, set_values: Sequence[str] = (),
    hardware: Sequence[Path | str] = (),
) -> Result:  # fmt: skip
    """A directory of Chakra execution traces, one file per rank, on the first chips of a system."""
    if directory is None or on is None:
        raise UserError(
            "a replay needs a directory and a system", where="collective replay",
            value="no DIR" if directory is None else "no --on", expected="collective replay DIR --on SYSTEM",
        )  # fmt: skip
    where = machine(on, set_values=set_values, hardware=hardware)
    return chakra.replay(directory, where.system, ranks_per_chip=ranks_per_chip)


def _positive(bytes: float) -> float:
    if not 0 < bytes < float("inf"):
        raise UserError("a collective needs bytes", where="--bytes", value=bytes, expected="a size above 0")
    return float(bytes)


def _of(ask: Ask, ranks: int) -> Ask:
    if ask.ranks_per_chip < 1:
        raise UserError("ranks per chip", where="--ranks-per-chip", value=ask.ranks_per_chip, expected="at least 1")
    return replace(ask, ranks=ranks)


def _by_symmetry(ask: Ask, algorithm: str) -> bool:
    """Whether so many ranks are simulated by their classes: hierarchies of gathers, one rank a chip."""
    gathers = ask.kind in ("all_reduce", "all_gather", "reduce_scatter") and ask.ranks_per_chip == 1
    return gathers and ask.ranks > SYMMETRY and algorithm in ("auto", "hierarchical")


def _check_spelled_out(ask: Ask) -> None:
    if ask.ranks > SOON:
        raise UserError(
            "ranks that are played send by send", where="--chips", value=f"{ask.ranks:,}",
            expected=f"at most {SOON:,}; whole UltraServers with --algorithm hierarchical; or --model closed",
        )  # fmt: skip


def _on_file(ask: Ask, path: Path, chips: int | None, fail: Sequence[str]) -> Result:
    """On a network of the user's own: all its chips, or the first ``chips``."""
    place = of_file(path, fail)
    used = place.network.chips if chips is None else chips
    if not 1 <= used <= place.network.chips:
        raise UserError(
            "group larger than the network", where="--chips", value=used, expected=f"1 to {place.network.chips}"
        )
    ask = _of(ask, min(used, place.working) * ask.ranks_per_chip)
    given = {"kind": ask.kind, "bytes": ask.size, "topology": str(path), "chips": used, "model": ask.model,
             "algorithm": ask.algorithm, "ranks_per_chip": ask.ranks_per_chip, "routing": ask.routing,
             "order": ask.order} | ({"fail": list(fail)} if fail else {})  # fmt: skip
    return instead(place, ask, played(place, ask), given)


def _with_links(result: Result, ask: Ask, system: System, chips: int, chosen: str) -> Result:
    """The closed form's answer and, where its algorithm has a schedule of moderate size here, the same on the links."""
    try:
        shares = spread(Group(ranks=ask.ranks), system.levels, ask.ranks_per_chip)
        if not soon_played(ask.kind, chosen, ask.ranks, shares=shares, copies=ask.copies):
            return result
    except UserError:  # a group that no schedule of this algorithm fits
        return result
    place = of_system(system, chips)
    done = played(place, replace(ask, algorithm=chosen))
    return beside(result, place, done[chosen])
