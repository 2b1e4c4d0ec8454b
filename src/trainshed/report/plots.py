"""Plots as SVG text, from plain numbers: what is plotted is decided elsewhere."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trainshed.core.errors import not_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

#: One colour per series, readable for colour-blind people (Okabe and Ito's set).
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#666666", "#000000")

Points = Sequence[tuple[float, float]]


class Canvas:
    """One axes and, once drawn, its SVG text."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.svg = ""


@contextmanager
def canvas(title: str, width: float = 7.2, height: float = 4.2) -> Iterator[Canvas]:
    """An axes to draw on; ``svg`` holds the text after the block."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise not_installed("matplotlib", extra="plots", where="plots") from error
    with mpl.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "trainshed"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        drawing = Canvas(axes)
        yield drawing
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawing.svg = text.getvalue()[text.getvalue().index("<svg") :]


def pareto(title: str, series: Mapping[str, Points], x: str, y: str) -> str:
    """Fronts of two quantities that one would both like large."""
    with canvas(title) as drawing:
        for colour, (name, points) in zip(_cycle(), series.items(), strict=False):
            if points:
                xs, ys = zip(*sorted(points), strict=True)
                drawing.axes.plot(xs, ys, "o-", color=colour, markersize=3.5, linewidth=1.4, label=name)
        drawing.axes.set(xlabel=x, ylabel=y, xscale="log", yscale="log")
        drawing.axes.grid(True, which="major", alpha=0.25)
        drawing.axes.legend(frameon=False, fontsize=8)
    return drawing.svg


def stacked(title: str, bars: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Horizontal bars, each the sum of the same named parts."""
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    with canvas(title, height=1.2 + 0.5 * len(bars)) as drawing:
        left = [0.0] * len(bars)
        for colour, part in zip(_cycle(), parts, strict=False):
            widths = [bar.get(part, 0.0) for bar in bars.values()]
            drawing.axes.barh(list(bars), widths, left=left, color=colour, label=part.replace("_", " "))
            left = [a + b for a, b in zip(left, widths, strict=True)]
        drawing.axes.invert_yaxis()
        drawing.axes.set_xlabel(unit)
        drawing.axes.legend(frameon=False, fontsize=8, ncols=5, loc="upper left", bbox_to_anchor=(0, -0.18))
    return drawing.svg


def bars(title: str, values: Mapping[str, float | None], unit: str) -> str:
    """Horizontal bars with their figure beside them; what is unknown is written, not drawn."""
    with canvas(title, height=1.0 + 0.4 * len(values)) as drawing:
        heights = [value or 0.0 for value in values.values()]
        drawing.axes.barh(list(values), heights, color=[c for c, _ in zip(_cycle(), values, strict=False)])
        for row, value in enumerate(values.values()):
            text = "not published" if value is None else f" {value:,.3g}"
            drawing.axes.text(value or 0.0, row, text, va="center")
        drawing.axes.set_xlim(0, 1.15 * max([*heights, 1e-30]))
        drawing.axes.invert_yaxis()
        drawing.axes.set_xlabel(unit)
    return drawing.svg


def _cycle() -> Iterator[Any]:
    while True:
        yield from COLOURS
