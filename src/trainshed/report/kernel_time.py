"""Tables of a kernel's time: engines, bounds, the critical path, idle engines, and two kernels side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainshed import units
from trainshed.report.page import Grid

Json = Mapping[str, Any]

#: What bounds are called.
BOUNDS = {
    "tensor": "TensorE at work", "vector": "VectorE at work", "scalar": "ScalarE at work",
    "gpsimd": "GpSimd at work", "sync": "sync engine at work", "dma": "DMA bytes at full bandwidth",
    "hbm": "HBM bytes at full bandwidth", "dma_descriptors": "DMA descriptors",
    "dependencies": "longest chain of dependent instructions",
}  # fmt: skip
#: Rows of a table on the terminal; ``--json`` has all.
_ROWS = 10


def seconds(value: float) -> str:
    """A time for people."""
    return units.format(value, "s")


def percent(value: float) -> str:
    """A share for people."""
    return f"{100 * value:.1f} %"


def place(source: str) -> str:
    """A line without its folders."""
    return Path(source).name


def time_grids(time: Json) -> list[Grid]:
    """The tables of one kernel's time, from the result of ``trainshed kernel``."""
    return [summary(time), bounds(time), critical(time), *idle(time)]


def summary(time: Json) -> Grid:
    """The time, what limits it, and the shares of the peaks."""
    rows = [["time", seconds(time["time_s"])]]
    if len(time["cores_s"]) > 1:
        rows.append(["by core", ", ".join(map(seconds, time["cores_s"]))])
    limit = time["limit"]
    if limit:
        rows.append(["nearest bound", f"{BOUNDS[limit]}, {ratio(time['bounds'][limit]['ratio'])}"])
    rows += [
        ["MFU", f"{percent(time['mfu'])} of TensorE's peak in matmuls"],
        ["HFU", f"{percent(time['hfu'])} with transposes"],
        ["MBU", f"{percent(time['mbu'])} of its cores' share of the HBM bandwidth"],
        ["DMA", f"{percent(time['dma_share'])} of the bandwidth of its DMA engines"],
    ]  # fmt: skip
    return Grid(title="Time", columns=("", ""), rows=rows)


def ratio(value: float | None) -> str:
    """How far a time is from a bound."""
    return "" if value is None else f"{value:.3g} x"


def bounds(time: Json) -> Grid:
    """What the kernel cannot be faster than, the nearest first."""
    ordered = sorted(time["bounds"].items(), key=lambda pair: -pair[1]["time_s"])
    rows = [[BOUNDS[name], seconds(one["time_s"]), ratio(one["ratio"])] for name, one in ordered]
    return Grid(title="Bounds", columns=("", "least time", "the time is"), rows=rows)


def critical(time: Json, most: int = _ROWS) -> Grid:
    """The lines that the time is made of."""
    steps = time["critical"]
    rows = [
        [place(s["source"]), s["opcode"], s["engine"], f"{s['count']:,}", seconds(s["time_s"]), percent(s["share"])]
        for s in steps[:most]
    ]  # fmt: skip
    rest = steps[most:]
    if rest:
        spent, share = sum(s["time_s"] for s in rest), sum(s["share"] for s in rest)
        rows.append([f"{len(rest)} more lines", "", "", f"{sum(s['count'] for s in rest):,}", seconds(spent),
                     percent(share)])  # fmt: skip
    columns = ("line", "opcode", "engine", "times", "time", "share")
    return Grid(title="Critical path", columns=columns, rows=rows)


def idle(time: Json, most: int = 3) -> list[Grid]:
    """What each engine waited for, the longest first."""
    rows = [
        [name if i == 0 else "", waited_for(wait), f"{wait['count']:,}", seconds(wait["time_s"]),
         percent(wait["share"])]
        for name, one in time["engines"].items()
        for i, wait in enumerate(one.get("waits", ())[:most])
    ]  # fmt: skip
    columns = ("engine", "waits for", "times", "time", "of the time")
    return [Grid(title="Idle engines", columns=columns, rows=rows)] if rows else []


def waited_for(wait: Json) -> str:
    """The instruction whose end an engine waited for."""
    return f"{wait['opcode']} at {place(wait['source'])} ({wait['engine']})" if wait["source"] else wait["opcode"]


# --- two kernels ----------------------------------------------------------------------------------------------


def comparison_grids(found: Json) -> list[Grid]:
    """Two kernels: their figures, and which lines made the difference."""
    return [figures(found), lines(found)]


def names(found: Json) -> list[str]:
    """The two kernels, without their folders where that tells them apart."""
    short = [place(name) for name in found["kernels"]]
    return short if short[0] != short[1] else list(found["kernels"])


def figures(found: Json) -> Grid:
    """Times, engines at work, traffic and instructions of both."""
    rows = [
        [row["what"], *(_figure(value, row["unit"]) for value in row["values"]), _times(*row["values"])]
        for row in found["figures"]
    ]
    return Grid(title="Compared with", columns=("", *names(found), "ratio"), rows=rows)


def _figure(value: float, unit: str) -> str:
    if unit == "share":
        return percent(value)
    return units.format(value, unit) if unit else f"{value:,}"


def _times(one: float, two: float) -> str:
    return f"{one / two:.3g} x" if two else ""


def _signed(value: float) -> str:
    return ("+" if value > 0 else "−" if value < 0 else "") + seconds(abs(value))


def lines(found: Json, most: int = _ROWS) -> Grid:
    """The lines of both critical paths, the largest difference first."""
    rows = []
    for change in found["lines"][:most]:
        one, two = change["times_s"]
        rows.append([
            ", ".join(map(place, change["sources"])), change["opcode"], change["engine"],
            " / ".join(f"{count:,}" for count in change["counts"]), seconds(one), seconds(two),
            _signed(change["difference_s"]),
        ])  # fmt: skip
    rest: Sequence[Json] = found["lines"][most:]
    if rest:
        spent = [sum(change["times_s"][side] for change in rest) for side in (0, 1)]
        rows.append([f"{len(rest)} more lines", "", "", "", seconds(spent[0]), seconds(spent[1]), ""])
    columns = ("line", "opcode", "engine", "times", *names(found), "difference")
    return Grid(title="What made the difference (critical paths by line)", columns=columns, rows=rows)
