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
from trainshed.app import api, views
from trainshed.app.collective import Views as Sends
from trainshed.app.demo import run_demo
from trainshed.app.kernel import mismatch, run_kernel
from trainshed.app.kernel_inputs import described, parse_inputs
from trainshed.app.kernel_views import Views
from trainshed.core import Result, ResultError, UserError, plain
from trainshed.report.terminal import show
from trainshed.validate.leave_out import write_evidence as write_evidence_table
from trainshed.validate.page import write_accuracy_page
from trainshed.validate.plot import plot as draw

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False, add_completion=False,
    help="A software twin of the AWS Trainium3 UltraServer: what AI workloads take in time, memory, energy and money.",
)  # fmt: skip

#: Columns of tables that are not printed on a terminal.
WIDTH = 132

On = Annotated[str, typer.Option("--on", help="A system of the catalogue, e.g. trn3-gen2, trn2-ultra, p6e-gb200.")]
Chips = Annotated[int | None, typer.Option("--chips", help="Chips to use; default one UltraServer, rack or board.")]
Ultra = Annotated[int | None, typer.Option("--ultraservers", help="Instead of --chips: whole UltraServers.")]
PlanText = Annotated[str | None, typer.Option("--plan", help="e.g. 'tp8 pp4 dp4 zero1'; default the best one found.")]
ModelName = Annotated[str, typer.Argument(help="A built-in model, or a path to a config.json.")]
ServeDtype = Annotated[str | None, typer.Option("--dtype", help="Default: those of the published checkpoint.")]
Dtype = Annotated[str, typer.Option("--dtype", help="bf16, fp8, mxfp8 … or weights=mxfp4,activations=bf16,kv=fp8.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Override a number: chip.hbm_bandwidth=5.2TB/s.")]
Extra = Annotated[list[Path] | None, typer.Option("--hardware", help="A TOML with chips and systems of your own.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with SI units in the keys.")]
Trace = Annotated[Path | None, typer.Option("--trace", help="Write a Perfetto trace.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Write a plot (SVG).")]
Price = Annotated[str | None, typer.Option("--price", help="Price per chip-hour, e.g. 2.10USD/h.")]
Purchase = Annotated[str | None, typer.Option("--purchase", help="capacity-block, on-demand, spot or reserved.")]
Grid = Annotated[str | None, typer.Option("--grid", help="Grid whose carbon is counted: us, us-east-1, world, …")]
Require = Annotated[bool, typer.Option("--require", help="Exit 1 when it does not fit or misses the SLO.")]
Framework = Annotated[str | None, typer.Option("--framework", help="Training framework, e.g. megatron-bridge.")]
Engine = Annotated[str | None, typer.Option("--engine", help="Serving engine, e.g. vllm, trtllm, sglang.")]
Slo = Annotated[str | None, typer.Option("--slo", help="e.g. 'ttft<2s tpot<40ms'.")]
Minimise = Annotated[str | None, typer.Option("--minimise", help="time, chips, usd or joules.")]
Isl = Annotated[int | None, typer.Option("--isl", help="Input tokens per request.")]
Osl = Annotated[int | None, typer.Option("--osl", help="Output tokens per request.")]
Sequence = Annotated[int | None, typer.Option("--seq", help="Tokens per training sequence.")]
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
        _fail(str(error), _failed(error), arguments, 1)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "trainshed"
        sentence = f"{command}: {error.format_message()} Try '{command} --help'."
        _fail(sentence, {"what": error.format_message(), "where": command, "value": None, "expected": "--help"},
              arguments, 2)  # fmt: skip
    except OSError as error:
        wrong = {"what": str(error.strerror), "where": str(error.filename), "value": None, "expected": "another path"}
        _fail(f"{error.filename}: {error.strerror}; expected another path.", wrong, arguments, 2)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _failed(error: ResultError) -> dict[str, Any]:
    return {"what": str(error), "where": "result", "value": None, "expected": "--require"}


def _fail(sentence: str, error: dict[str, Any], arguments: list[str], code: int) -> None:
    print(sentence, file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": plain(error)}))
    sys.exit(code)


def _console() -> Console:
    """The terminal, or a fixed width where the output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def _emit(result: Result, as_json: bool, failure: ResultError | None = None) -> None:
    """One JSON object, of a failed result with its error in it; or tables."""
    if as_json:
        error = {} if failure is None else {"error": plain(_failed(failure))}
        print(json.dumps(result.to_json(__version__) | error, indent=1))
    else:
        show(result, _console())


hardware_app = typer.Typer(no_args_is_help=True, help="Chips and systems, every number with its source.")
models_app = typer.Typer(no_args_is_help=True, help="Built-in models and config.json files.")
plan_app = typer.Typer(no_args_is_help=True, help="Search all plans; the best ten and the Pareto front.")
explain_app = typer.Typer(no_args_is_help=True, help="Where a number comes from, down to sourced constants.")
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
    hardware: Extra = None,
) -> None:
    """One chip or system, number by number.

    Example: `trainshed hardware show chip/trn3 --sources`
    """
    _emit(api.hardware_show(name, sources=sources, hardware=hardware or ()), as_json)


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


def _given(**options: Any) -> dict[str, Any]:
    """Options that the user gave: the others keep the API's defaults."""
    return {key: value for key, value in options.items() if value is not None and value is not False and value != []}


def _finish(result: Result, *, as_json: bool, trace: Path | None, plot: Path | None, require: bool) -> None:
    if trace is not None:
        views.trace(result, trace)
    if plot is not None:
        views.plot(result, plot)
    reasons = views.failures(result) if require else []
    failure = ResultError("; ".join(reasons)) if reasons else None
    _emit(result, as_json, failure)
    if failure is not None:
        print(failure, file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def train(
    model: ModelName, on: On, chips: Chips = None, ultraservers: Ultra = None, plan: PlanText = None,
    global_batch: GlobalBatch = None, seq: Sequence = None, dtype: Dtype = "bf16", framework: Framework = None,
    price: Price = None, purchase: Purchase = None, grid: Grid = None, set_values: Sets = None,
    hardware: Extra = None, trace: Trace = None, plot: PlotFile = None, require: Require = False, as_json: Json = False,
    chakra: Annotated[Path | None, typer.Option("--chakra", help="Write the step as Chakra traces (folder).")] = None,
) -> None:  # fmt: skip
    """One training step: time, memory, energy, money.

    Examples:

    `trainshed train llama-3.1-405b --on trn3-gen2 --ultraservers 32`

    `trainshed train llama-3-8b --on p5 --chips 64 --plan "tp4 sp1 zero1 mb1" --seq 8192 --global-batch 128`
    """
    options = _given(
        chips=chips, ultraservers=ultraservers, plan=plan, global_batch=global_batch, seq=seq, dtype=dtype,
        framework=framework, price=price, purchase=purchase, grid=grid, set_values=set_values, hardware=hardware,
    )  # fmt: skip
    result = api.train(model, on=on, **options)
    if chakra is not None:
        views.chakra(result, chakra)
    _finish(result, as_json=as_json, trace=trace, plot=plot, require=require)


@app.command()
def serve(
    model: ModelName, on: On, chips: Chips = None, ultraservers: Ultra = None, plan: PlanText = None,
    isl: Isl = None, osl: Osl = None, concurrency: Concurrency = None, rate: Rate = None, batch: Batch = None,
    offline: Offline = False, engine: Engine = None, dtype: ServeDtype = None, slo: Slo = None,
    frames: Frames = None, size: Size = None, steps: Steps = None, fps: Fps = None, seconds: Seconds = None,
    price: Price = None, purchase: Purchase = None, grid: Grid = None, set_values: Sets = None,
    hardware: Extra = None, trace: Trace = None, plot: PlotFile = None, require: Require = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Steady-state serving of language models; generation of pictures, video and music.

    Examples:

    `trainshed serve gpt-oss-120b --on trn3-gen2 --chips 16 --isl 4000 --osl 500 --concurrency 64`

    `trainshed serve gpt-oss-120b --on trn4-nvl`

    `trainshed serve hunyuanvideo --on trn2.3xlarge --frames 61 --size 320x512 --steps 20`
    """
    options = _given(
        chips=chips, ultraservers=ultraservers, plan=plan, isl=isl, osl=osl, concurrency=concurrency, rate=rate,
        batch=batch, offline=offline, engine=engine, dtype=dtype, slo=slo, frames=frames, size=size, steps=steps,
        fps=fps, seconds=seconds, price=price, purchase=purchase, grid=grid,
        set_values=set_values, hardware=hardware,
    )  # fmt: skip
    _finish(api.serve(model, on=on, **options), as_json=as_json, trace=trace, plot=plot, require=require)


@plan_app.command("train")
def plan_train(
    model: ModelName, on: On, chips: Chips = None, ultraservers: Ultra = None, minimise: Minimise = None,
    global_batch: GlobalBatch = None, seq: Sequence = None, dtype: Dtype = "bf16", framework: Framework = None,
    price: Price = None, purchase: Purchase = None, set_values: Sets = None, hardware: Extra = None,
    plot: PlotFile = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Price every training plan; the best ten and the Pareto front.

    Example: `trainshed plan train llama-3.1-405b --on trn3-gen2 --chips 4608`
    """
    options = _given(
        chips=chips, ultraservers=ultraservers, minimise=minimise, global_batch=global_batch, seq=seq, dtype=dtype,
        framework=framework, price=price, purchase=purchase, set_values=set_values, hardware=hardware,
    )  # fmt: skip
    _finish(api.plan("train", model, on=on, **options), as_json=as_json, trace=None, plot=plot, require=False)


@plan_app.command("serve")
def plan_serve(
    model: ModelName, on: On, chips: Chips = None, ultraservers: Ultra = None, minimise: Minimise = None,
    isl: Isl = None, osl: Osl = None, concurrency: Concurrency = None, rate: Rate = None, offline: Offline = False,
    engine: Engine = None, dtype: ServeDtype = None, slo: Slo = None, price: Price = None, purchase: Purchase = None,
    set_values: Sets = None, hardware: Extra = None, plot: PlotFile = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Price every serving plan for every number of users; the best ten and tokens/s/chip against tokens/s/user.

    Example: `trainshed plan serve gpt-oss-120b --on trn3-gen2 --chips 16 --slo "ttft<2s tpot<20ms"`
    """
    options = _given(
        chips=chips, ultraservers=ultraservers, minimise=minimise, isl=isl, osl=osl, concurrency=concurrency,
        rate=rate, offline=offline, engine=engine, dtype=dtype, slo=slo, price=price, purchase=purchase,
        set_values=set_values, hardware=hardware,
    )  # fmt: skip
    _finish(api.plan("serve", model, on=on, **options), as_json=as_json, trace=None, plot=plot, require=False)


@app.command()
def collective(
    kind: Annotated[str, typer.Argument(help="all_reduce, all_to_all, …: an unknown one lists all; or replay.")],
    directory: Annotated[Path | None, typer.Argument(help="Of replay: Chakra traces, one file per rank.")] = None,
    on: Annotated[str | None, typer.Option("--on", help="System, e.g. trn3-gen2.")] = None,
    size: Annotated[str | None, typer.Option("--bytes", help="NCCL's convention, e.g. 1GiB.")] = None,
    chips: Chips = None,
    algorithm: Annotated[str, typer.Option("--algorithm", help="auto, or one that the result lists.")] = "auto",
    model: Annotated[
        str, typer.Option("--model", help="auto, closed (formulas), flow (fair shares of links) or packet (slow).")
    ] = "auto",
    topology: Annotated[Path | None, typer.Option("--topology", help="A network of your own (TOML).")] = None,
    fail: Annotated[
        list[str] | None, typer.Option("--fail", help='"chip 3", "rack 0 plane 1", "chip 3 - sled 0"; repeatable.')
    ] = None,
    routing: Annotated[str, typer.Option("--routing", help="spray, ecmp or shortest.")] = "spray",
    order: Annotated[str, typer.Option("--order", help="packed, spread, spread:LEVEL or stride:N.")] = "packed",
    ranks_per_chip: Annotated[int, typer.Option("--ranks-per-chip", help="Ranks on each chip.")] = 1,
    set_values: Sets = None, hardware: Extra = None,
    trace: Annotated[Path | None, typer.Option("--trace", help="Write all sends as a trace (.pftrace).")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write heat maps of links (.html), or bars of algorithms (.svg).")
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """One collective: time, algorithm, bandwidth, lower bound, bytes and peak use of each level of links.

    `trainshed collective all_reduce --bytes 1GiB --on trn3-gen2 --chips 144`

    Its sends on real links, with a trace for ui.perfetto.dev and heat maps of sleds, racks and switches:
    `trainshed collective all_to_all --bytes 64MiB --on trn3-gen2 --chips 144 --trace a2a.pftrace --plot links.html`

    What a broken switch leaves: `trainshed collective all_reduce --bytes 64MiB --on trn3-gen2 --fail "rack 0 plane 1"`

    A Chakra trace: `trainshed collective replay DIR --on trn3-gen2`
    """
    if kind == "replay":
        unused = _given(bytes=size, chips=chips, topology=topology, fail=fail, trace=trace, plot=plot)
        unused |= {k: v for k, v in (("algorithm", algorithm), ("model", model)) if v != "auto"}
        unused |= {k: v for k, v, usual in (("routing", routing, "spray"), ("order", order, "packed")) if v != usual}
        if unused:
            raise UserError("options of one collective", where="collective replay",
                            value=", ".join(f"--{name}" for name in unused),
                            expected="collective replay DIR --on SYSTEM [--ranks-per-chip N] [--set …]")  # fmt: skip
        options = _given(ranks_per_chip=ranks_per_chip, set_values=set_values, hardware=hardware)
        _finish(api.replay(directory, on=on, **options), as_json=as_json, trace=None, plot=None, require=False)
        return
    if directory is not None or size is None:
        raise UserError("arguments of collective", where="collective", value=str(directory or "no --bytes"),
                        expected=f"collective {kind} --bytes SIZE --on SYSTEM")  # fmt: skip
    shown = Sends(trace=trace, plot=plot)
    shown.check()
    options = _given(on=on, chips=chips, topology=topology, fail=fail, set_values=set_values, hardware=hardware)
    with views.progress("sends on links"):
        result = api.collective(kind, bytes=size, algorithm=algorithm, model=model, routing=routing, order=order,
                                ranks_per_chip=ranks_per_chip, **options)  # fmt: skip
        shown.write(result)
    bars = plot if plot is not None and shown.page is None else None
    _finish(result, as_json=as_json, trace=None, plot=bars, require=False)


@app.command()
def compare(
    model: ModelName,
    on: Annotated[str, typer.Option("--on", help="Systems, comma-separated: trn3-gen2,trn2-ultra,p6e-gb200.")],
    training: Annotated[bool, typer.Option("--train", help="Compare one training step.")] = False,
    serving: Annotated[bool, typer.Option("--serve", help="Compare serving (the default).")] = False,
    per: Annotated[str, typer.Option("--per", help="chip, usd, joule or ultraserver.")] = "chip",
    chips: Chips = None, seq: Sequence = None, global_batch: GlobalBatch = None, isl: Isl = None, osl: Osl = None,
    concurrency: Concurrency = None, offline: Offline = False, frames: Frames = None, size: Size = None,
    steps: Steps = None, fps: Fps = None, seconds: Seconds = None, dtype: ServeDtype = None,
    purchase: Purchase = None, set_values: Sets = None, hardware: Extra = None, plot: PlotFile = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The same work on several systems, on equally many chips; break-even prices where nobody prints one.

    Example: `trainshed compare gpt-oss-120b --serve --on trn3-gen2,trn2-ultra,p6e-gb200 --chips 16`
    """
    if training and serving:
        raise UserError("both --train and --serve", where="compare", value=model, expected="one of them")
    options = _given(
        chips=chips, seq=seq, global_batch=global_batch, isl=isl, osl=osl, concurrency=concurrency, offline=offline,
        frames=frames, size=size, steps=steps, fps=fps, seconds=seconds, dtype=dtype, purchase=purchase,
        set_values=set_values, hardware=hardware,
    )  # fmt: skip
    systems = [name.strip() for name in on.split(",") if name.strip()]
    result = api.compare(model, job="train" if training else "serve", on=systems, per=per, **options)
    _finish(result, as_json=as_json, trace=None, plot=plot, require=False)


@explain_app.command("train")
def explain_train(
    model: ModelName, on: On, chips: Chips = None, ultraservers: Ultra = None, plan: PlanText = None,
    global_batch: GlobalBatch = None, seq: Sequence = None, dtype: Dtype = "bf16", framework: Framework = None,
    set_values: Sets = None, hardware: Extra = None, as_json: Json = False,
) -> None:  # fmt: skip
    """The tree of a training step down to sourced constants, and what 10 % more of each would gain.

    Example: `trainshed explain train llama-3.1-405b --on trn3-gen2 --ultraservers 32`
    """
    options = _given(
        chips=chips, ultraservers=ultraservers, plan=plan, global_batch=global_batch, seq=seq, dtype=dtype,
        framework=framework, set_values=set_values, hardware=hardware,
    )  # fmt: skip
    _emit(api.explain("train", model, on=on, **options), as_json)


@explain_app.command("serve")
def explain_serve(
    model: ModelName, on: On, chips: Chips = None, ultraservers: Ultra = None, plan: PlanText = None,
    isl: Isl = None, osl: Osl = None, concurrency: Concurrency = None, rate: Rate = None, batch: Batch = None,
    offline: Offline = False, engine: Engine = None, dtype: ServeDtype = None, frames: Frames = None,
    size: Size = None, steps: Steps = None, fps: Fps = None, seconds: Seconds = None, set_values: Sets = None,
    hardware: Extra = None, as_json: Json = False,
) -> None:  # fmt: skip
    """The tree of a first token and one more down to sourced constants, and what 10 % more of each would gain.

    Example: `trainshed explain serve gpt-oss-120b --on trn3-gen2 --chips 8`
    """
    options = _given(
        chips=chips, ultraservers=ultraservers, plan=plan, isl=isl, osl=osl, concurrency=concurrency, rate=rate,
        batch=batch, offline=offline, engine=engine, dtype=dtype, frames=frames, size=size, steps=steps, fps=fps,
        seconds=seconds, set_values=set_values, hardware=hardware,
    )  # fmt: skip
    _emit(api.explain("serve", model, on=on, **options), as_json)


@app.command()
def kernel(
    spec: Annotated[str, typer.Argument(metavar="FILE.py::FUNCTION", help="An NKI kernel.")],
    inputs: Annotated[str, typer.Option("--inputs", help="a=bf16[4096,4096],i=uint32[128,1]:0..63,n=4,w=w.npy")] = "",
    on: Annotated[str, typer.Option("--on", help="trn1, trn2 or trn3.")] = "trn3",
    lnc: Annotated[int | None, typer.Option("--lnc", help="Physical cores of the logical NeuronCore: 1 or 2.")] = None,
    values: Annotated[bool, typer.Option("--values/--no-values", help="Compute, or only check and record.")] = True,
    time: Annotated[bool, typer.Option("--time/--no-time", help="Tell how long it takes, and why.")] = True,
    compare_with: Annotated[
        str | None,
        typer.Option("--compare", help="FILE.py::OTHER, run on the same inputs; of a kernel its time is compared too."),
    ] = None,
    rtol: Annotated[float, typer.Option("--rtol", help="Relative tolerance of --compare.")] = 2e-2,
    atol: Annotated[float, typer.Option("--atol", help="Absolute tolerance of --compare.")] = 1e-5,
    seed: Annotated[int, typer.Option("--seed", help="Of the inputs' values.")] = 0,
    trace: Annotated[Path | None, typer.Option("--trace", help="Write a Perfetto trace (.pftrace).")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a page of plots and tables (.html).")] = None,
    explorer: Annotated[
        Path | None, typer.Option("--explorer", help="Write Neuron Explorer's tables (Parquet).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run an NKI kernel on a virtual NeuronCore: outputs, instructions, traffic, memory peaks, findings; and its time:
    engines, MFU, HFU, MBU, bounds, the critical path by line, idle engines and what they wait for.

    Exit 1 when it differs from its reference, 2 when it breaks a rule of the hardware.

    Examples:

    `trainshed kernel examples/kernels/matmul.py::matmul --inputs lhsT=bf16[512,256],rhs=bf16[512,1024]
    --compare examples/kernels/matmul.py::reference --on trn3`

    Time alone, with a trace for ui.perfetto.dev and a page: `trainshed kernel K.py::k --inputs a=bf16[4096,4096]
    --no-values --trace k.pftrace --plot k.html`

    Which lines made the difference: `trainshed kernel new.py::k --inputs … --compare old.py::k`
    """
    shown = Views(trace=trace, plot=plot, explorer=explorer)
    shown.check(time=time)
    given = parse_inputs(inputs, seed=seed)
    result = run_kernel(
        spec, given, on=on, lnc=lnc, values=values, time=time, compare=compare_with, rtol=rtol, atol=atol,
        shown=described(given), waiting=views.progress,
    )  # fmt: skip
    with views.progress("trace and page"):
        shown.write(result)
    failure = mismatch(result)
    _emit(result, as_json, failure)
    if failure is not None:
        print(failure, file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def claims(as_json: Json = False) -> None:
    """Each headline claim about Trainium3 and Trainium4: claimed, found by running the model, verdict.

    Example: `trainshed claims`
    """
    _emit(api.claims(), as_json)


@app.command()
def validate(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables of validation/, or paths; default all.")] = None,
    group: Annotated[str, typer.Option("--group", help="Only rows of this source.")] = "",
    rows: Annotated[bool, typer.Option("--rows", help="Every row, predicted beside measured.")] = False,
    write_evidence: Annotated[bool, typer.Option("--write-evidence", help="Rewrite the shipped evidence.")] = False,
    page: Annotated[Path | None, typer.Option("--page", help="Write the accuracy page (Markdown).")] = None,
    plot: PlotFile = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Predictions beside published measurements: error, coverage, rank correlation, the null model.

    Examples: `trainshed validate training.csv`, `trainshed validate --group vtrain_multi --rows`
    """
    with views.progress("rows") as progress:
        if write_evidence:
            write_evidence_table(progress=progress)
            return
        result = api.validation(tables or (), group=group, rows=rows or as_json, progress=progress)
    if page is not None:
        write_accuracy_page(result.details["report"], page)
    if plot is not None:
        draw(result.details["report"], plot)
    _emit(result, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and the trace.")] = Path("build/demo"),
) -> None:
    """Llama-3.1-405B training and GPT-OSS-120B serving on Trainium3, against Trainium2 and Nvidia."""
    run_demo(out, _console())
