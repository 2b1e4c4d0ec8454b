"""What --trace, --plot, --require and progress bars make of a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from trainshed.core import Cost, Result, UserError
from trainshed.fabric.chakra import write
from trainshed.report import perfetto, plots
from trainshed.training.chakra import chakra_trace
from trainshed.training.tracks import stage_tracks


def trace(result: Result, path: Path) -> None:
    """Write the result's time tree as a Perfetto trace, one track per pipeline-stage class."""
    if result.command not in ("train", "serve") or result.cost is None:
        raise UserError("no trace of this", where="--trace", value=result.command, expected="train or serve")
    perfetto.write(path, f"trainshed {result.command}", tracks(result))


def tracks(result: Result) -> Mapping[str, Cost]:
    """One cost per track: of training each class of pipeline stage, of serving the headline."""
    assert result.cost is not None
    if result.command == "train":
        return stage_tracks(result.details["step"])
    return {result.cost.what: result.cost.scalar()}


def chakra(result: Result, folder: Path) -> None:
    """Write a training step as Chakra execution traces, one file per rank: ``step.RANK.et``."""
    parts = (result.details[name] for name in ("model", "system", "plan", "job", "framework"))
    write(chakra_trace(*parts), folder)


def plot(result: Result, path: Path) -> None:
    """Write the plot that people look for first in such a result."""
    if path.suffix.lower() != ".svg":
        raise UserError("not a kind of plot file", where="--plot", value=str(path), expected="a name ending in .svg")
    svg = figure(result)
    if svg is None:
        raise UserError("no plot of this", where="--plot", value=result.command, expected="train, serve, plan, compare")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg, encoding="utf-8")


def figure(result: Result) -> str | None:
    """The SVG of a result; None for results without one."""
    figures: Any = result.result
    if result.command == "train":
        return plots.stacked("Time of one training step", {figures["plan"]: figures["time_breakdown_s"]}, "s")
    if result.command == "serve" and figures.get("memory_breakdown_bytes"):
        parts = {k: v / 1e9 for k, v in figures["memory_breakdown_bytes"].items()}
        return plots.stacked("Memory of one chip", {figures["plan"]: parts}, "GB")
    if result.command == "plan serve":
        points = [(line["tokens_per_s_per_user"], line["tokens_per_s_per_chip"]) for line in figures["pareto"]]
        return plots.pareto("Serving", {"Pareto front": points}, "tokens/s per user", "tokens/s per chip")
    if result.command == "plan train":
        points = [(line["memory_per_rank_bytes"] / 1e9, line["tokens_per_s_per_chip"]) for line in figures["pareto"]]
        return plots.pareto("Training", {"Pareto front": points}, "GB per rank", "tokens/s per chip")
    if result.command == "compare":
        key = next(k for k in figures["systems"][0] if k.endswith("_per_s_per_chip"))
        made = key.removesuffix("_per_s_per_chip")
        rates = {line["system"]: line[key] for line in figures["systems"]}
        return plots.bars(f"{made.capitalize()} per second and chip", rates, f"{made}/s")
    if result.command == "collective":
        times = {k: v * 1e6 for k, v in figures["algorithms_s"].items()}
        return plots.bars("What each algorithm would take", times, "µs")
    return None


def failures(result: Result) -> list[str]:
    """Why a result is not what ``--require`` wants; empty if it is."""
    figures: Any = result.result
    reasons = list(result.details.get("reasons", ()))
    missed = [name for name, kept in (figures.get("slo_attainment") or {}).items() if kept is False]
    return reasons + [f"misses the objective on {name}" for name in missed]


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A callback (done, all) that moves a progress bar on the terminal; None where there is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
