"""Results on a terminal: tables, the tree of an explanation, assumptions and evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from trainshed import units
from trainshed.core import Assumption, Result
from trainshed.report.page import Grid
from trainshed.report.perfetto import REPEATED
from trainshed.report.tables import evidence_line, grids, percent, plainly

#: A cell longer than this is text, not a figure.
SENTENCE = 40


def show(result: Result, console: Console) -> None:
    """Print a result with what it assumes and what backs it."""
    if result.command.startswith("explain"):
        assert isinstance(result.result, Mapping)
        console.print(tree(result.result["tree"]))
        rows = [[g["what"], percent(g["gain_for_10_percent"])] for g in result.result["sensitivity"][:15]]
        console.print(table(Grid(title="What 10 % more would gain", columns=("constant", "gain"), rows=rows)))
    else:
        for grid in grids(result):
            console.print(table(grid))
    for reason in result.details.get("reasons", ()):
        console.print(f"[bold red]{reason}[/]")
    if result.evidence is not None:
        console.print(evidence_line(result.evidence), style="green")
    if result.assumptions:
        console.print("Assumed, since not said:", style="dim")
        for a in _grouped(result.assumptions):
            unit = f" {a.unit}" if a.unit not in ("", "1") else ""
            source = f", {a.source}" if a.source else ""
            console.print(f"  {a.what}: {plainly(a.value)}{unit} ({a.status}{source})", style="dim")


def _grouped(assumptions: Sequence[Assumption]) -> list[Assumption]:
    """Assumptions with those that differ in nothing but their name told once, the first few by name."""
    alike: dict[tuple[str, ...], list[Assumption]] = {}
    for a in assumptions:
        alike.setdefault((str(a.value), a.unit, a.status, a.source), []).append(a)
    return [replace(same[0], what=_names([a.what for a in same])) for same in alike.values()]


def _names(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more (--json lists them)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def table(grid: Grid) -> Table:
    """A grid as a rich table: the first column and sentences left, numbers right."""
    out = Table(title=grid.title, title_justify="left", header_style="bold")
    for i, column in enumerate(grid.columns):
        sentences = any(len(row[i]) > SENTENCE for row in grid.rows)
        out.add_column(column, justify="left" if i == 0 or sentences else "right", overflow="fold")
    for row in grid.rows:
        out.add_row(*row)
    return out


def tree(node: Mapping[str, Any], root: float | None = None, floor: float = 0.01, times: float = 1.0) -> Tree:
    """An explanation as a tree; parts under ``floor`` of the root are folded away.

    ``times``: how often the node stands in the root (a layer, a micro-batch); shares are of the root.
    """
    root = abs(node["value"]) if root is None else root
    out = Tree(_line(node, root, times))
    for c in node["constants"]:
        out.add(f"[cyan]{c['what']}[/] = {units.format(c['value'], c['unit'])}  [dim]{c['status']}: {c['source']}[/]")
    inside = times * (node.get("inputs", {}).get("times", 1.0) if node.get("expression") == REPEATED else 1.0)
    same = [c for c in node["children"] if c["unit"] == node["unit"]]
    small = [c for c in same if root and abs(c["value"]) * inside < floor * root]
    for child in node["children"]:
        if child not in small:
            whole = root if child["unit"] == node["unit"] else abs(child["value"])
            out.add(tree(child, whole, floor, inside if child["unit"] == node["unit"] else 1.0))
    if small:
        rest = sum(c["value"] for c in small)
        out.add(f"[dim]{len(small)} smaller parts, together {units.format(rest, node['unit'])}[/]")
    return out


def _line(node: Mapping[str, Any], root: float, times: float) -> str:
    share = f" [dim]{100 * node['value'] * times / root:.1f} %[/]" if root else ""
    name = node.get("label", node["what"])
    how = f"= {node['expression']}" if node["how"] == "formula" else f"({node['how']})"
    if kernel := node.get("kernel"):
        tiles = ", ".join(f"{size:g} {tile}" for tile, size in kernel["tiles"].items())
        how = f"kernel {kernel['family']}, {tiles} at a time, bound by {kernel['bound']}"
    return f"[bold]{name}[/] {units.format(node['value'], node['unit'])}{share} [dim]{how}[/]"
