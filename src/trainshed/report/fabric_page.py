"""A collective on its network as one self-contained page: heat maps of chips and switches, levels, algorithms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainshed.fabric.play import Played
from trainshed.report.page import Grid, Section, write
from trainshed.report.plots import bars, canvas

Json = Mapping[str, Any]
Array = np.ndarray[Any, Any]
#: Links that the table of the busiest names, bins of the plot over time, names that fit beside a heat map.
_LINKS, _BINS, _NAMES = 12, 240, 48


def write_page(path: Path, figures: Json, done: Played, tables: Sequence[Grid]) -> None:
    """Write the page of a collective that was played, whole or not at all."""
    seconds = done.seconds
    title = f"{done.schedule.kind} among {done.schedule.ranks} ranks on {done.network.name}"
    lead = f"{done.schedule.algorithm}, {_time(seconds)} by the {done.model} model: simulated, not measured."
    sections = [
        Section(title="Who sends how much", plots=_maps(done), notes=[
            "Bytes over the data sheet's rate and the collective's time: 100 % would be a link that never rests. Of a "
            "node its busiest link out counts.",
        ]),
        Section(title="Levels of links", tables=[_levels(done)], plots=[_over_time(done)]),
        Section(title="Busiest links", tables=[_busiest(done)]),
    ]  # fmt: skip
    times = {name: each * 1e6 for name, each in figures["algorithms_s"].items()}
    sections.append(Section(title="Algorithms", plots=[bars("What each algorithm would take", times, "µs")]))
    sections.append(Section(title="Everything else", tables=tables))
    write(path, title, lead, sections, "Made by trainshed collective --plot.")


def use(done: Played) -> Array:
    """``[links]`` the part of the time that a link's bytes take at its full rate."""
    network = done.network
    return done.run.carried / network.bandwidth / max(done.seconds, 1e-30)


def of_nodes(done: Played, level: int) -> Array:
    """``[nodes]`` the busiest link of that level out of each node; NaN where it has none."""
    network = done.network
    out = np.full(network.nodes, np.nan)
    own = np.flatnonzero(network.level == level)
    part = use(done)[own]
    order = np.argsort(part, kind="stable")
    out[network.source[own[order]]] = part[order]
    return out


def _maps(done: Played) -> list[str]:
    """One heat map per level that carries anything: chips by their domains, then the switches of that level."""
    network, made = done.network, []
    for k, level in enumerate(network.levels):
        if not done.run.carried[network.level == k].any():
            continue
        values = of_nodes(done, k)
        rows = _rows(done, values)
        if rows:
            made.append(_map(f"{level} links", rows))
    return made


def _rows(done: Played, values: Array) -> list[tuple[str, Array]]:
    """Named rows of a heat map: chips of each rack (server, sled …), and one row per kind of switch in it."""
    network = done.network
    chips = np.arange(network.chips)
    domains = [name for name in network.coordinates if len(name) > 1]
    sizes = {name: len(np.unique(network.coordinates[name])) for name in domains}
    # The outermost domain of which there are several, as long as they can be told apart on a page.
    good = [name for name in domains if 1 < sizes[name] <= _NAMES] or [name for name in domains if sizes[name] == 1]
    rows: list[tuple[str, Array]] = []
    if good:
        name = min(good, key=lambda each: sizes[each])
        at = network.coordinates[name]
        rows = [(f"{name} {d}: chips", values[chips[at == d]]) for d in np.unique(at)[:_NAMES]]
    elif network.chips <= _NAMES * _NAMES:
        side = int(np.ceil(np.sqrt(network.chips)))
        rows = [
            (f"chips {low} …", values[low : min(low + side, network.chips)]) for low in range(0, network.chips, side)
        ]
    for k, kind in enumerate(network.kinds[1:], 1):
        own = np.flatnonzero(network.kind == k)
        if len(own) <= _NAMES * 4 and not np.isnan(values[own]).all():
            rows.append((f"{kind}es" if kind.endswith("ch") else f"{kind}s", values[own]))
    return [(name, row) for name, row in rows if not np.isnan(row).all()]


def _map(title: str, rows: Sequence[tuple[str, Array]]) -> str:
    width = max(len(row) for _, row in rows)
    grid = np.full((len(rows), width), np.nan)
    for r, (_, row) in enumerate(rows):
        grid[r, : len(row)] = 100 * row
    with canvas(title, height=1.2 + 0.3 * len(rows)) as drawing:
        axes = drawing.axes
        image = axes.imshow(grid, aspect="auto", cmap="viridis", vmin=0, vmax=100, interpolation="nearest")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_xlabel("chip or switch, in order")
        axes.figure.colorbar(image, ax=axes, label="% of the time at full rate")
    return drawing.svg


def _levels(done: Played) -> Grid:
    rows = [
        [name, f"{used.links:,}", f"{used.busy:,}", _bytes(used.carried), f"{100 * used.peak:.0f} %", used.busiest,
         _bytes(used.busiest_bytes)]
        for name, used in done.levels.items()
    ]  # fmt: skip
    columns = ("level", "links", "in use", "bytes over all", "peak", "busiest link", "its bytes")
    return Grid(title="Levels of links", columns=columns, rows=rows)


def _busiest(done: Played) -> Grid:
    network, part = done.network, use(done)
    most = [int(link) for link in np.argsort(-part, kind="stable")[:_LINKS] if part[link] > 0]
    rows = [
        [network.link_name(link), network.levels[int(network.level[link])], _bytes(float(done.run.carried[link])),
         f"{100 * part[link]:.0f} %", f"{100 * done.run.peak[link]:.0f} %"]
        for link in most
    ]  # fmt: skip
    columns = ("link", "level", "bytes", "of the time at full rate", "peak of the reachable rate")
    return Grid(title="Busiest links", columns=columns, rows=rows)


def _over_time(done: Played) -> str:
    """How many sends are under way at each moment."""
    moments = np.linspace(0.0, max(done.seconds, 1e-30), _BINS)
    begun = np.searchsorted(np.sort(done.run.begin), moments, side="right")
    ended = np.searchsorted(np.sort(done.run.end), moments, side="left")
    with canvas("Sends under way", height=2.6) as drawing:
        drawing.axes.fill_between(moments * 1e6, begun - ended, step="mid", alpha=0.6, linewidth=0)
        drawing.axes.set(xlabel="µs", ylabel="sends", xlim=(0, moments[-1] * 1e6), ylim=(0, None))
    return drawing.svg


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds * 1e6:.4g} µs"
