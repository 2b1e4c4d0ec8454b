"""The command line: options in, a Result out, printed for people or as JSON. Every mistake is one sentence, exit 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console

from trainshed import __version__
from trainshed.app import api
from trainshed.core import Result, ResultError, UserError, plain
from trainshed.report.terminal import show

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False, add_completion=False,
    help="A software twin of the AWS Trainium3 UltraServer: what AI workloads take in time, memory, energy and money.",
)  # fmt: skip

On = Annotated[str, typer.Option("--on", help="A system of the catalogue, e.g. trn3-gen2, trn2-ultra, p6e-gb200.")]
Chips = Annotated[int | None, typer.Option("--chips", help="Chips to use; default one UltraServer, rack or board.")]
Ultra = Annotated[int | None, typer.Option("--ultraservers", help="Instead of --chips: whole UltraServers.")]
PlanText = Annotated[str | None, typer.Option("--plan", help="e.g. 'tp8 pp4 dp4 zero1'; default the best one found.")]
Dtype = Annotated[str, typer.Option("--dtype", help="bf16, fp8, mxfp8 … or weights=mxfp4,activations=bf16,kv=fp8.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Override a number: chip.hbm_bandwidth=5.2TB/s.")]
Extra = Annotated[list[Path] | None, typer.Option("--hardware", help="A TOML with chips and systems of your own.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with SI units in the keys.")]
Trace = Annotated[Path | None, typer.Option("--trace", help="Write a Perfetto trace.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Write a plot (SVG).")]
Price = Annotated[str | None, typer.Option("--price", help="Price per chip-hour, e.g. 2.10USD/h.")]
Purchase = Annotated[str | None, typer.Option("--purchase", help="capacity-block, on-demand, spot or reserved.")]
Require = Annotated[bool, typer.Option("--require", help="Exit 1 when it does not fit or misses the SLO.")]
Framework = Annotated[str | None, typer.Option("--framework", help="Training framework, e.g. megatron-bridge.")]
Engine = Annotated[str | None, typer.Option("--engine", help="Serving engine, e.g. vllm, trtllm, sglang.")]
Slo = Annotated[str | None, typer.Option("--slo", help="e.g. 'ttft<2s tpot<40ms'.")]
Minimise = Annotated[str, typer.Option("--minimise", help="time, chips, usd or joules.")]
Isl = Annotated[int, typer.Option("--isl", help="Input tokens per request.")]
Osl = Annotated[int, typer.Option("--osl", help="Output tokens per request.")]
Sequence = Annotated[int, typer.Option("--seq", help="Tokens per training sequence.")]
GlobalBatch = Annotated[int | None, typer.Option("--global-batch", help="Sequences per optimizer step.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", help="Requests in flight, always.")]
Rate = Annotated[str | None, typer.Option("--rate", help="Arrivals, e.g. 20/s.")]
Batch = Annotated[int | None, typer.Option("--batch", help="One static batch of so many requests.")]
Offline = Annotated[bool, typer.Option("--offline", help="All requests queued at once: highest throughput.")]
Frames = Annotated[int | None, typer.Option("--frames", help="Frames of one video (1 is an image).")]
Size = Annotated[str | None, typer.Option("--size", help="Height x width of a frame, e.g. 320x512.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Denoising steps.")]
Fps = Annotated[float | None, typer.Option("--fps", help="Frames per second of the finished video.")]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Seconds of audio.")]


def main(argv: list[str] | None = None) -> None:
    """Entry point of the ``trainshed`` command."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = app(args=arguments, prog_name="trainshed", standalone_mode=False)
    except UserError as error:
        _fail(str(error), error.to_json(), arguments, 2)
    except ResultError as error:
        _fail(str(error), {"what": str(error), "where": "result", "value": None, "expected": "--require"}, arguments, 1)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "trainshed"
        sentence = f"{command}: {error.format_message()} Try '{command} --help'."
        _fail(sentence, {"what": error.format_message(), "where": command, "value": None, "expected": "--help"},
              arguments, 2)  # fmt: skip
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str, error: dict[str, Any], arguments: list[str], code: int) -> None:
    print(sentence, file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": plain(error)}))
    sys.exit(code)


def _emit(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.to_json(__version__), indent=1))
    else:
        show(result, Console())


hardware_app = typer.Typer(no_args_is_help=True, help="Chips and systems, every number with its source.")
models_app = typer.Typer(no_args_is_help=True, help="Built-in models and config.json files.")
plan_app = typer.Typer(no_args_is_help=True, help="Search all plans; the best ten and the Pareto front.")
explain_app = typer.Typer(no_args_is_help=True, help="Where a number comes from, down to sourced constants.")
collective_app = typer.Typer()
app.add_typer(hardware_app, name="hardware")
app.add_typer(models_app, name="models")
app.add_typer(plan_app, name="plan")
app.add_typer(explain_app, name="explain")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"trainshed {__version__}")
        raise typer.Exit


@hardware_app.command("list")
def hardware_list(as_json: Json = False, hardware: Extra = None) -> None:
    """Every chip and system of the catalogue.

    Example: `trainshed hardware list`
    """
    _emit(api.hardware_list(hardware=hardware or ()), as_json)


@hardware_app.command("show")
def hardware_show(
    name: Annotated[str, typer.Argument(help="trn3, chip/trn3, system/trn3-gen2; a bare name shows both kinds.")],
    sources: Annotated[bool, typer.Option("--sources", help="Source, date and conflicting figures too.")] = False,
    as_json: Json = False,
    set_values: Sets = None,
    hardware: Extra = None,
) -> None:
    """One chip or system, number by number.

    Example: `trainshed hardware show chip/trn3 --sources`
    """
    _emit(api.hardware_show(name, sources=sources, set_values=set_values or (), hardware=hardware or ()), as_json)


@hardware_app.command("diff")
def hardware_diff(a: str, b: str, as_json: Json = False, hardware: Extra = None) -> None:
    """Two chips or systems side by side, with ratios.

    Example: `trainshed hardware diff trn2 trn3`
    """
    _emit(api.hardware_diff(a, b, hardware=hardware or ()), as_json)


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """The built-in models with their exact and published parameter counts.

    Example: `trainshed models list`
    """
    _emit(api.models_list(), as_json)


@models_app.command("show")
def models_show(model: str, as_json: Json = False) -> None:
    """One model: parameters by part, FLOPs and KV bytes per token, its operators.

    Example: `trainshed models show gpt-oss-120b` or `trainshed models show path/to/config.json`
    """
    _emit(api.models_show(model), as_json)
