"""A kernel's time as one self-contained page: engines over time, bounds, critical lines, idle engines, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from trainshed.chip.accesses import Accesses
from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.origins import origins
from trainshed.chip.timing.timeline import busy_shares, live_bytes
from trainshed.report import kernel_time as tables
from trainshed.report.page import Grid, Section, write
from trainshed.report.plots import COLOURS, bars, canvas

Json = Mapping[str, Any]
Array = np.ndarray[Any, Any]
#: Parts into which the time is cut for the plot of engines, and lines that plots show.
_PARTS, _LINES, _WAITS = 240, 10, 4


def write_page(
    path: Path, title: str, figures: Json, tables_of: Sequence[Grid], columns: Sequence[Accesses],
    clocks: Sequence[Clock],
) -> None:  # fmt: skip
    """Write the page of ``kernel.result`` whole or not at all.

    ``tables_of``: those of the terminal, which close the page; ``columns`` and ``clocks``: of the cores.
    """
    last = max(range(len(clocks)), key=lambda i: clocks[i].seconds)
    column, clock = columns[last], clocks[last]
    sections = [_time(figures), _engines(column, clock), _bounds(figures), _critical(figures), _idle(figures)]
    if "time_comparison" in figures:
        found = figures["time_comparison"]
        sections.append(Section(title="Compared with " + tables.place(found["kernels"][1]), plots=[_compared(found)],
                                tables=tables.comparison_grids(found)))  # fmt: skip
    sections.append(_memory(column, clock))
    sections.append(Section(title="Everything else", tables=tables_of))
    lead = f"{tables.seconds(figures['time_s'])} on {figures['chip']}: simulated, not measured."
    write(path, title, lead, sections, "Made by trainshed kernel --plot.")


def _time(figures: Json) -> Section:
    return Section(title="Time", tables=[tables.summary(figures)])


def _engines(column: Accesses, clock: Clock) -> Section:
    """One strip per engine, as dark as it is busy."""
    shares = busy_shares(origins(column.core.instructions), clock, _PARTS)
    if not shares:
        return Section(title="Engines over time", paragraphs=["Nothing is executed."])
    scale, unit = _scaled(clock.seconds)
    with canvas("Engines over time (dark: active)", height=0.9 + 0.38 * len(shares)) as drawing:
        axes = drawing.axes
        extent = (0.0, clock.seconds * scale, len(shares) - 0.5, -0.5)
        axes.imshow(np.array(list(shares.values())), aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=extent,
                    interpolation="nearest")  # fmt: skip
        axes.set_yticks(range(len(shares)), labels=list(shares))
        for row in range(1, len(shares)):
            axes.axhline(row - 0.5, color="white", linewidth=3)
        axes.set_xlabel(unit)
    return Section(title="Engines over time", plots=[drawing.svg])


def _scaled(seconds: float) -> tuple[float, str]:
    """What to multiply seconds with, and the unit that makes, for axes that people read."""
    return (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")


def _bounds(figures: Json) -> Section:
    scale, unit = _scaled(figures["time_s"])
    ordered = sorted(figures["bounds"].items(), key=lambda pair: -pair[1]["time_s"])
    values = {"the kernel": figures["time_s"] * scale}
    values |= {tables.BOUNDS[name]: one["time_s"] * scale for name, one in ordered}
    return Section(title="Bounds", plots=[bars("What it cannot be faster than", values, unit)],
                   tables=[tables.bounds(figures)])  # fmt: skip


def _critical(figures: Json) -> Section:
    scale, unit = _scaled(figures["time_s"])
    values = {
        f"{tables.place(step['source'])} {step['opcode']}": step["time_s"] * scale
        for step in figures["critical"][:_LINES]
    }
    plots = [bars("Critical path by line", values, unit)] if values else []
    return Section(title="Critical path", plots=plots, tables=[tables.critical(figures, 30)])


def _idle(figures: Json) -> Section:
    """Of each engine the time it is active, and what it waits for in the rest."""
    scale, unit = _scaled(figures["time_s"])
    rows: dict[str, dict[str, float]] = {}
    for name, one in figures["engines"].items():
        if "waits" in one:
            row = rows[name] = {"active": one["active_s"] * scale}
            for wait in one["waits"]:
                what = tables.waited_for(wait)
                row[what] = row.get(what, 0.0) + wait["time_s"] * scale
    longest = _longest(rows)
    shown = {
        name: {what: spent for what, spent in row.items() if what in longest}
        | {"anything else": sum(spent for what, spent in row.items() if what not in longest)}
        for name, row in rows.items()
    }
    plots = [_parts("Active, and what engines wait for", shown, unit)] if shown else []
    return Section(title="Idle engines", plots=plots, tables=tables.idle(figures, 8))


def _longest(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What is waited for longest, over all engines."""
    total: dict[str, float] = {}
    for row in rows.values():
        for what, spent in row.items():
            total[what] = total.get(what, 0.0) + spent
    total.pop("active", None)
    return ["active", *sorted(total, key=lambda what: -total[what])[:_WAITS]]


def _memory(column: Accesses, clock: Clock) -> Section:
    scale, unit = _scaled(clock.seconds)
    plots = []
    target = column.core.target
    for colour, buffer, size in zip(COLOURS, ("sbuf", "psum"), (target.sbuf_row, target.psum_row), strict=False):
        moments, held = live_bytes(column, clock, buffer)
        with canvas(f"{buffer.upper()} live per partition", height=2.6) as drawing:
            x, y = _steps(moments * scale, held / 1024)
            drawing.axes.fill_between(x, y, step="post", color=colour, alpha=0.5, linewidth=0)
            drawing.axes.axhline(size / 1024, color="#888", linewidth=0.8, linestyle="--")
            drawing.axes.set(xlabel=unit, ylabel="KiB", xlim=(0, max(clock.seconds * scale, 1e-9)), ylim=(0, None))
        plots.append(drawing.svg)
    return Section(title="Memory", plots=plots, notes=["The dashed line is the memory's size."])


def _steps(x: Array, y: Array, most: int = 2000) -> tuple[Array, Array]:
    """A step function of at most ``most`` points: of each stretch its highest value."""
    if len(x) <= most:
        return x, y
    edges = np.linspace(0, len(x), most // 2 + 1).astype(np.int64)[:-1]
    return x[edges], np.maximum.reduceat(y, edges)


def _compared(found: Json) -> str:
    """Both critical paths, by line of code."""
    scale, unit = _scaled(max(found["times_s"]))
    lines = found["lines"][:_LINES]
    said = [
        shorten(f"{', '.join(map(tables.place, line['sources']))}: {line['code']}", 110, placeholder=" …")
        for line in lines
    ]
    rows = {
        name: {what: line["times_s"][side] * scale for what, line in zip(said, lines, strict=True)}
        for side, name in enumerate(tables.names(found))
    }
    return _parts("Critical paths by line", rows, unit)


def _parts(title: str, rows: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Horizontal bars of named parts, whose names are lines of code: the legend has a row for each."""
    parts = list(dict.fromkeys(part for row in rows.values() for part, spent in row.items() if spent))
    with canvas(title, height=1.1 + 0.4 * len(rows) + 0.19 * len(parts)) as drawing:
        left = np.zeros(len(rows))
        for place, part in enumerate(parts):
            widths = np.array([row.get(part, 0.0) for row in rows.values()])
            colour = COLOURS[place % len(COLOURS)]
            drawing.axes.barh(list(rows), widths, left=left, color=colour, label=part.replace("$", r"\$"))
            left += widths
        drawing.axes.invert_yaxis()
        drawing.axes.set_xlabel(unit)
        if parts:
            drawing.axes.figure.legend(frameon=False, fontsize=7.5, loc="outside lower left")
    return drawing.svg
