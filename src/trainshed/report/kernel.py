"""Tables of one kernel's run: outputs, engines, traffic and memory, time, findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainshed.core import Result
from trainshed.report.kernel_time import comparison_grids, seconds, time_grids
from trainshed.report.page import Grid

Json = Mapping[str, Any]


def _bytes(value: float | None) -> str:
    if value is None:
        return ""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.0f} B"


def _outputs(figures: Json) -> Grid:
    compared = figures.get("comparison", {})
    rows = []
    for name, output in figures["outputs"].items():
        row = [name, output["dtype"], "x".join(map(str, output["shape"])), (output["sha256"] or "not computed")[:16]]
        if compared:
            found = compared[name]
            row += [f"{found['max_abs_error']:.3g}", f"{found['max_rel_error']:.3g}", "yes" if found["close"] else "NO"]
        rows.append(row)
    columns = ("output", "dtype", "shape", "sha256")
    return Grid(title="Outputs", columns=(*columns, "max abs error", "max rel error", "close") if compared else columns,
                rows=rows)  # fmt: skip


def _engines(figures: Json) -> Grid:
    """Instructions of all cores; where time is told, how long the engines of the core that ends last are active."""
    timed = "time_s" in figures
    rows = []
    for name, part in figures["engines"].items():
        active = [seconds(part.get("active_s", 0.0)), f"{part.get('active_percent', 0.0):.1f} %"] if timed else []
        opcodes = ", ".join(f"{opcode} {count}" for opcode, count in part["opcodes"].items())
        rows.append([name, str(part["instructions"]), *active, opcodes])
    columns = ("engine", "instructions", *(("active", "of the time") if timed else ()), "by opcode")
    return Grid(title="Engines", columns=columns, rows=rows)


def _traffic(figures: Json) -> Grid:
    dma = figures["dma"]
    rows = [
        ["HBM read", _bytes(figures["hbm_read_bytes"])], ["HBM written", _bytes(figures["hbm_write_bytes"])],
        ["DMA transfers", f"{dma['transfers']} of {_bytes(dma['smallest'])} to {_bytes(dma['largest'])}"],
        ["matmul FLOPs", f"{figures['matmul_flops']:.4g}"],
        ["SBUF peak per partition", f"{_bytes(figures['sbuf_peak_bytes'])} of {_bytes(figures['sbuf_bytes'])}"],
        ["PSUM peak", f"{figures['psum_peak_banks']} of {figures['psum_banks']} banks"],
    ]  # fmt: skip
    return Grid(title="Traffic and memory", columns=("", ""), rows=rows)


def _findings(title: str, items: Sequence[Json]) -> list[Grid]:
    rows = [
        [f"{Path(item['file']).name}:{item['line']}", item["rule"], f"{item['message']}"
         + (f" ({item['count']} times)" if item.get("count", 1) > 1 else "")]
        for item in items
    ]  # fmt: skip
    return [Grid(title=title, columns=("line", "rule", "finding"), rows=rows)] if rows else []


def kernel_grids(result: Result) -> list[Grid]:
    """The tables of ``trainshed kernel``."""
    figures: Any = result.result
    lint = [
        {"file": item["file"], "line": item["line"], "rule": item["rule"],
         "message": f"{item['what']}; write {item['instead']}"}
        for item in figures["lint"]
    ]  # fmt: skip
    time = time_grids(figures) if "time_s" in figures else []
    compared = comparison_grids(figures["time_comparison"]) if "time_comparison" in figures else []
    return [
        _outputs(figures), _engines(figures), _traffic(figures), *time, *compared,
        *_findings("Findings", figures["findings"]),
        *_findings("What the vendor's compiler would refuse", lint),
    ]  # fmt: skip
