"""Predicted against measured, one panel per table and metric, coloured by group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainshed.core import UserError
from trainshed.core.errors import not_installed
from trainshed.report.plots import COLOURS
from trainshed.validate.scores import Scored, ValidateReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*X"
#: A metric of fewer counted points gets no panel of its own (nor any, where others of its table do).
LEAST = 10


def plot(report: ValidateReport, path: Path) -> None:
    """Write the figure (``.svg``, ``.png`` or ``.pdf``, by the file's name)."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise not_installed("matplotlib", extra="plots", where="--plot") from error
    panels = _panels(report)
    if not panels:
        raise UserError("nothing was predicted", where="--plot", value=str(path), expected="a table with predictions")
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    with mpl.rc_context({"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "trainshed"}):
        figure = Figure(figsize=(4.4 * columns, 4.0 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
        for ax, (name, groups) in zip(axes, panels.items(), strict=False):
            _draw(ax, name, groups)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The scattered points are one picture inside the SVG: thousands of paths would make it unreadable.
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panels(report: ValidateReport) -> dict[str, dict[str, list[Scored]]]:
    """Table and metric → group → counted rows with a prediction; all metrics where each has but few points."""
    panels: dict[str, dict[str, list[Scored]]] = defaultdict(lambda: defaultdict(list))
    for scored in report.rows:
        if scored.row.counted and scored.error is not None and (scored.predicted or 0) > 0:
            panels[f"{scored.row.table}: {scored.row.metric}"][scored.row.group].append(scored)
    large = {name: groups for name, groups in panels.items() if sum(map(len, groups.values())) >= LEAST}
    return large or dict(panels)


def _draw(ax: Axes, name: str, groups: dict[str, list[Scored]]) -> None:
    for n, (group, members) in enumerate(sorted(groups.items(), key=lambda item: -len(item[1]))):
        ax.scatter(
            [s.row.value for s in members], [s.predicted or 0.0 for s in members], s=7, alpha=0.6, linewidths=0,
            color=COLOURS[n % len(COLOURS)], marker=_MARKERS[n // len(COLOURS) % len(_MARKERS)],
            label=f"{group} ({len(members)})", rasterized=True,
        )  # fmt: skip
    low, high = _limits([s for members in groups.values() for s in members])
    ax.plot([low, high], [low, high], color="#000000", linewidth=0.8)
    for factor in (0.5, 2.0):
        ax.plot([low, high], [low * factor, high * factor], color="#000000", linewidth=0.5, linestyle=":")
    ax.set(
        xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="measured (SI)", ylabel="predicted (SI)"
    )
    ax.set_title(name, loc="left", fontweight="bold")
    ax.legend(frameon=False, fontsize=6, loc="upper left")


def _limits(scored: Sequence[Scored]) -> tuple[float, float]:
    values = [s.row.value for s in scored] + [s.predicted or s.row.value for s in scored]
    return min(values) / 1.5, max(values) * 1.5
