"""The main job: what Llama-3.1-405B training and GPT-OSS-120B serving take and cost on a Trainium3 UltraServer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from trainshed import __version__
from trainshed.app import api, views
from trainshed.core import Result
from trainshed.report import page, plots
from trainshed.report.page import Grid, Section
from trainshed.report.tables import evidence_line, percent, plainly, quantity
from trainshed.report.terminal import table

TRAINED, SERVED = "llama-3.1-405b", "gpt-oss-120b"
SYSTEMS = ("trn3-gen2", "trn2-ultra", "p5en", "p6e-gb200")
#: Whole UltraServers, racks and instances of every system: 16 of Trn3, 36 of Trn2, 288 p5en, 32 NVL72 racks.
TRAINING_CHIPS = 2304
SERVING_CHIPS = 16
ISL, OSL, USERS = 4000, 500, 64


def run_demo(out: Path, console: Console) -> None:
    """Print the answers, write ``report.html`` and ``step.perfetto.json`` into ``out``, say where they are."""
    console.rule("Trainshed: a Trainium3 UltraServer against Trainium2 and Nvidia")
    trained = api.compare(TRAINED, job="train", on=SYSTEMS, chips=TRAINING_CHIPS, per="joule")
    first = f"Training {TRAINED} in BF16 on {TRAINING_CHIPS:,} chips of each system, 8,192 tokens per sequence"
    grids = [_training_grid(first, trained)]
    console.print(table(grids[0]))
    served = api.compare(SERVED, job="serve", on=SYSTEMS, chips=SERVING_CHIPS, isl=ISL, osl=OSL, concurrency=USERS)
    second = f"Serving {SERVED} on {SERVING_CHIPS} chips, {ISL:,} tokens in, {OSL} out, {USERS} users"
    grids.append(_serving_grid(second, served))
    console.print(table(grids[1]))
    with console.status("searching serving plans for the Pareto fronts"):
        searches = {s: api.plan("serve", SERVED, on=s, chips=SERVING_CHIPS, isl=ISL, osl=OSL) for s in SYSTEMS}
    for line in (*_break_even(trained, "training"), *_break_even(served, "serving")):
        console.print(line)
    for name, result in (("training", trained), ("serving", served)):
        if result.evidence:
            console.print(f"{name}, {SYSTEMS[0]}: {evidence_line(result.evidence)}", style="green")
    trace = out / "step.perfetto.json"
    views.trace(trained.details["results"][SYSTEMS[0]], trace)
    report = out / "report.html"
    page.write(
        report, "Trainium3 UltraServer: training and serving", "What they take and cost, against Trainium2 and Nvidia.",
        _sections(trained, served, searches, grids), f"trainshed {__version__}; figures with status and source: "
        "trainshed explain train|serve …",
    )  # fmt: skip
    console.print(
        f"\nReport: [bold]{report}[/]\nTrace of one training step (open in ui.perfetto.dev): [bold]{trace}[/]"
    )


def _lines(result: Result) -> list[dict[str, Any]]:
    figures: Any = result.result
    return list(figures["systems"])


def _training_grid(title: str, result: Result) -> Grid:
    rows = [
        [
            line["system"], quantity(line["step_time_s"], "s"), f"{line['tokens_per_s_per_chip']:,.0f}",
            percent(line["mfu"]), "yes" if line["memory_fits"] else "no", quantity(line["energy_per_token_j"], "J"),
            _usd(line["usd_per_million_tokens"]), line["plan"], _backing(line),
        ]
        for line in _lines(result)
    ]  # fmt: skip
    head = ("system", "step", "tokens/s/chip", "MFU", "fits", "J/token", "USD/M tokens", "best plan", "median error")
    return Grid(title=title, columns=head, rows=rows)


def _serving_grid(title: str, result: Result) -> Grid:
    rows = [
        [
            line["system"], f"{line['tokens_per_s_per_chip']:,.0f}", quantity(line["ttft_s"], "s"),
            quantity(line["tpot_s"], "s"), quantity(line["energy_per_token_j"], "J"),
            _usd(line["usd_per_million_tokens"]), line["plan"], _backing(line),
        ]
        for line in _lines(result)
    ]  # fmt: skip
    head = ("system", "tokens/s/chip", "TTFT", "TPOT", "J/token", "USD/M tokens", "plan", "median error")
    return Grid(title=title, columns=head, rows=rows)


def _usd(value: float | None) -> str:
    return "no price" if value is None else f"{value:,.2f}"


def _backing(line: dict[str, Any]) -> str:
    return f"{percent(line['evidence_median_abs_error'])} of {line['evidence_points']}"


def _break_even(result: Result, job: str) -> list[str]:
    """What a chip without a published price would have to cost per hour to draw level."""
    return [
        f"{line['system']} has no published price: {job} costs the same as on "
        + ", ".join(f"{other} at {usd:,.2f} USD" for other, usd in line["break_even_usd_per_chip_hour"].items())
        + " per chip-hour."
        for line in _lines(result)
        if line["usd_per_chip_hour"] is None
    ]


def _sections(
    trained: Result, served: Result, searches: dict[str, Result], grids: Sequence[Grid]
) -> list[Section]:  # fmt: skip
    steps: dict[str, Any] = {s: r.result for s, r in trained.details["results"].items()}
    runs: dict[str, Any] = {s: r.result for s, r in served.details["results"].items()}
    fronts = {
        s: [(p["tokens_per_s_per_user"], p["tokens_per_s_per_chip"]) for p in _front(r)] for s, r in searches.items()
    }
    memory = {s: {k: v / 1e9 for k, v in r["memory_breakdown_bytes"].items()} for s, r in steps.items()}
    served_memory = {s: {k: v / 1e9 for k, v in r["memory_breakdown_bytes"].items()} for s, r in runs.items()}
    training = Section(
        title="Training Llama-3.1-405B", tables=[grids[0]], paragraphs=_break_even(trained, "training"),
        plots=[
            plots.stacked("Time of one step", {s: r["time_breakdown_s"] for s, r in steps.items()}, "s"),
            plots.stacked("Memory of one chip", memory, "GB"),
            plots.bars("Energy", {s: r["energy_per_token_j"] for s, r in steps.items()}, "J per token"),
            plots.bars("Cost", {s: r["usd_per_million_tokens"] for s, r in steps.items()}, "USD per million tokens"),
        ],
        notes=_notes(trained),
    )  # fmt: skip
    serving = Section(
        title="Serving GPT-OSS-120B", tables=[grids[1]], paragraphs=_break_even(served, "serving"),
        plots=[
            plots.pareto("Every plan and number of users", fronts, "tokens/s per user", "tokens/s per chip"),
            plots.stacked("Memory of one chip", served_memory, "GB"),
            plots.bars("Energy", {s: r["energy_per_token_j"] for s, r in runs.items()}, "J per output token"),
            plots.bars("Cost", {s: r["usd_per_million_tokens"] for s, r in runs.items()}, "USD per million tokens"),
        ],
        notes=_notes(served),
    )  # fmt: skip
    return [training, serving]


def _front(result: Result) -> list[dict[str, Any]]:
    figures: Any = result.result
    return list(figures["pareto"])


def _notes(result: Result) -> list[str]:
    said = [f"{a.what}: {plainly(a.value)} {a.unit} ({a.status}; {a.source})" for a in result.assumptions]
    return [*([evidence_line(result.evidence)] if result.evidence else []), *said]
