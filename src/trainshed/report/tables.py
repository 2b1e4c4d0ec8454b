"""Results as tables of text: the terminal prints them and the page shows the same ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainshed import units
from trainshed.core import Evidence, Result
from trainshed.report.kernel import kernel_grids
from trainshed.report.page import Grid

Json = Mapping[str, Any]
DASH = "–"


def quantity(value: Any, unit: str) -> str:
    """A number with its unit for people; a dash where nothing is known."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return units.format(float(value), unit)


def percent(value: float | None, signed: bool = False) -> str:
    """A fraction as per cent."""
    return DASH if value is None else f"{100 * value:{'+' if signed else ''}.1f} %"


def plainly(value: Any) -> str:
    """Any JSON value as a cell."""
    if value is None:
        return DASH
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plainly(v)}" for k, v in value.items()) or DASH
    if isinstance(value, list | tuple):
        return ", ".join(map(plainly, value)) or DASH
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


#: Unit of a JSON key by its ending; the longest ending that fits is taken.
_UNITS = {
    "_s": "s", "_bytes": "B", "_w": "W", "_j": "J", "_bytes_per_s": "B/s", "_flops": "FLOP/s", "_per_s": "1/s",
    "_usd": "USD", "mfu": "%", "slo_attainment": "%", "forward_flops": "FLOP", "_flops_per_token": "FLOP",
    "_bytes_per_sequence": "B",
}  # fmt: skip


def cell(key: str, value: Any) -> str:
    """A JSON value in the unit that its key names."""
    ending = max((e for e in _UNITS if key.endswith(e)), key=len, default=None)
    if isinstance(value, Mapping):
        inner = {k: cell(f"x_{key}" if ending else k, v) for k, v in value.items() if v is not None}
        return ", ".join(f"{k} {v}" for k, v in inner.items()) or DASH
    if not isinstance(value, int | float) or isinstance(value, bool) or ending is None:
        return plainly(value)
    unit = _UNITS[ending]
    return percent(value) if unit == "%" else f"{value:,.4g}/s" if unit == "1/s" else quantity(value, unit)


def rows_of(result: Json, skip: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Key and value lines of a flat result."""
    return [(_heading(key), cell(key, value)) for key, value in result.items() if key not in skip]


def _heading(key: str) -> str:
    """A key without its unit, which the value shows."""
    ending = max((e for e in ("_s", "_bytes", "_w", "_j", "_usd") if key.endswith(e)), key=len, default="")
    bare = key.removesuffix(ending) if not key.endswith("_per_s") else key
    return bare.replace("_", " ")


def _keyed(title: str) -> Callable[[Result], list[Grid]]:
    def build(result: Result) -> list[Grid]:
        assert isinstance(result.result, Mapping)
        return [Grid(title=title, columns=("", "value"), rows=rows_of(result.result, skip=("alternatives", "reasons")))]

    return build


def records(title: str, lines: Sequence[Json], columns: Mapping[str, str]) -> Grid:
    """A table of equal records; ``columns`` maps a key to its heading."""
    body = [[cell(key, line.get(key)) for key in columns] for line in lines]
    return Grid(title=title, columns=tuple(columns.values()), rows=body)


def _hardware_list(result: Result) -> list[Grid]:
    assert isinstance(result.result, Mapping)
    chips = {
        "name": "chip", "title": "", "bf16_flops": "BF16 dense", "fp8_flops": "FP8 dense", "hbm_capacity_bytes": "HBM",
        "hbm_bandwidth_bytes_per_s": "HBM bandwidth", "tdp_w": "TDP", "announced": "announced",
    }  # fmt: skip
    systems = {
        "name": "system", "title": "", "chip": "chip", "ultraserver_chips": "scale-up chips", "max_chips": "most chips",
        "usd_per_chip_hour": "USD per chip-hour",
    }  # fmt: skip
    return [records("Chips", result.result["chips"], chips), records("Systems", result.result["systems"], systems)]


def _hardware_show(result: Result) -> list[Grid]:
    assert isinstance(result.result, Mapping)
    grids = []
    for thing in result.result["hardware"]:
        columns = ["", "value", "status", *(("source", "date") if "source" in (thing["numbers"] or [{}])[0] else ())]
        body = [
            [n["what"], quantity(n["value"], n["unit"]), n["status"], *(n[k] for k in columns[3:])]
            for n in thing["numbers"]
        ]
        grids.append(Grid(title=f"{thing['kind']} {thing['name']}: {thing['title']}", columns=columns, rows=body))
    return grids


def _hardware_diff(result: Result) -> list[Grid]:
    assert isinstance(result.result, Mapping)
    body = [
        [n["what"], quantity(n["a"], n["unit"]), quantity(n["b"], n["unit"]), plainly(n["ratio"])]
        for n in result.result["numbers"]
    ]
    names = (str(result.inputs["a"]), str(result.inputs["b"]))
    return [Grid(title=" and ".join(names), columns=("", *names, "ratio"), rows=body)]


def _models_list(result: Result) -> list[Grid]:
    assert isinstance(result.result, Mapping)
    columns = {
        "name": "model", "family": "family", "parameters": "parameters", "active_parameters": "active per token",
        "published_parameters": "published", "published_in": "where",
    }  # fmt: skip
    return [records("Models", result.result["models"], columns)]


def _models_show(result: Result) -> list[Grid]:
    assert isinstance(result.result, Mapping)
    operators = [
        {"block": f"{b['count']} × {b['name']}", **op} for b in result.result["blocks"] for op in b["operators"]
    ]
    columns = {"block": "block", "name": "operator", "kind": "kind", "shard": "TP split", "parameters": "parameters"}
    head = Grid(title=result.result["name"], columns=("", "value"), rows=rows_of(result.result, skip=("blocks",)))
    return [head, records("Operators", operators, columns)]


def _plan(result: Result) -> list[Grid]:
    assert isinstance(result.result, Mapping)
    grids = []
    for key, title in (("best", "Best plans"), ("pareto", "Pareto front")):
        lines = result.result.get(key) or []
        if lines:
            grids.append(records(title, lines, {k: k.replace("_", " ") for k in lines[0]}))
    return grids


def _validate(result: Result) -> list[Grid]:
    assert isinstance(result.result, Mapping)
    groups = [
        [g["table"], g["group"], g["chip"], g["metric"], g["regime"] or DASH, f"{g['covered']}/{g['points']}",
         str(g["counted"]), percent(g["median_abs_error"]), percent(g["p90_abs_error"]), percent(g["bias"], True),
         percent(g["null_median_abs_error"]), plainly(g["skipped_why"])]
        for g in result.result["groups"]
    ]  # fmt: skip
    head = (
        "table",
        "group",
        "chip",
        "metric",
        "regime",
        "covered",
        "counted",
        "median",
        "p90",
        "bias",
        "null",
        "skipped",
    )
    sweeps = [[s["group"], s["model"], plainly(s["chips"]), str(s["n"]), plainly(s["rank_correlation"])]
              for s in result.result["sweeps"]]  # fmt: skip
    return [
        Grid(title="Predicted against published", columns=head, rows=groups),
        Grid(title="Sweeps", columns=("group", "model", "chips", "points", "rank correlation"), rows=sweeps),
        *_targets(result.result.get("targets") or []),
    ]


def _targets(lines: Sequence[Mapping[str, Any]]) -> list[Grid]:
    """What is asked of collectives, and whether it is met."""
    rows = [
        [t["what"], t["part"], f"{t['covered']}/{t['counted']}", percent(t["median_abs_error"]),
         percent(t["p90_abs_error"]), percent(t["most_median"]), percent(t["most_p90"]),
         {True: "yes", False: "no", None: DASH}[t["met"]]]
        for t in lines
    ]  # fmt: skip
    head = ("what", "part", "covered", "median", "p90", "median asked", "p90 asked", "met")
    return [Grid(title="Targets of collectives", columns=head, rows=rows)] if rows else []


def _compare(result: Result) -> list[Grid]:
    """One column per system: there are more figures than systems."""
    assert isinstance(result.result, Mapping)
    lines = result.result["systems"]
    keys = [key for key in lines[0] if key != "system"]
    body = [[_heading(key), *(cell(key, line.get(key)) for line in lines)] for key in keys]
    return [Grid(title="Comparison", columns=("", *(line["system"] for line in lines)), rows=body)]


def _short(text: str, most: int = 140) -> str:
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"


def _claims(result: Result) -> list[Grid]:
    lines: Any = result.result
    body = [
        [c["id"], c["claim"], plainly(c["claimed"]), plainly(c["simulated"]), c["verdict"], _short(c["how"])]
        for c in lines
    ]
    return [
        Grid(
            title="Claims (--json has all readings and plans)",
            columns=("", "claim", "claimed", "found", "verdict", "how"),
            rows=body,
        )
    ]


def _collective(result: Result) -> list[Grid]:
    figures: Any = result.result
    found = [Grid(title="Collective", columns=("", "value"), rows=rows_of(figures, skip=("network",)))]
    network = figures.get("network")
    if network is None:
        return found
    found.append(Grid(title="On its links", columns=("", "value"), rows=rows_of(network, skip=("levels", "left"))))
    rows = [
        [name, f"{one['links']:,}", f"{one['busy_links']:,}", cell("carried_bytes", one["carried_bytes"]),
         percent(one["peak_utilisation"]), one["busiest_link"], cell("busiest_link_bytes", one["busiest_link_bytes"])]
        for name, one in network["levels"].items()
    ]  # fmt: skip
    columns = ("level", "links", "in use", "bytes over all", "peak use", "busiest link", "its bytes")
    found.append(Grid(title="Levels of links", columns=columns, rows=rows))
    if "left" in network:
        rows = [
            [name, cell("bandwidth_bytes_per_s", one["bandwidth_bytes_per_s"]), percent(one["part"]), one["worst_chip"],
             percent(one["worst_chip_part"])]
            for name, one in network["left"].items()
        ]  # fmt: skip
        columns_left = ("level", "bandwidth of all chips", "left", "worst working chip", "left there")
        found.append(Grid(title="What the faults leave", columns=columns_left, rows=rows))
    return found


def _replay(result: Result) -> list[Grid]:
    figures: Any = result.result
    skip = ("ranks_s", "collectives")
    found = [Grid(title="Replay", columns=("", "value"), rows=rows_of(figures, skip=skip))]
    lines = [{"name": name, **one} for name, one in figures["collectives"].items()]
    if lines:
        columns = {"name": "collective", "calls": "calls", "bytes": "bytes", "time_s": "time", "waited_s": "waited"}
        found.append(records("Collectives", lines, columns))
    return found


_BUILDERS: dict[str, Callable[[Result], list[Grid]]] = {
    "hardware list": _hardware_list, "hardware show": _hardware_show, "hardware diff": _hardware_diff,
    "models list": _models_list, "models show": _models_show, "train": _keyed("Training step"),
    "serve": _keyed("Serving"), "plan train": _plan, "plan serve": _plan,
    "collective": _collective, "collective replay": _replay, "compare": _compare, "claims": _claims,
    "validate": _validate, "kernel": kernel_grids,
}  # fmt: skip


def grids(result: Result) -> list[Grid]:
    """The tables of any result."""
    return _BUILDERS[result.command](result)


def evidence_line(evidence: Evidence) -> str:
    """How far off Trainshed was on measurements like this one, in one sentence."""
    if not evidence.comparable_points:
        return f"Evidence: none published to compare with ({evidence.why})."
    span = ""
    if evidence.range:
        low, high = (cell(evidence.metric, bound) for bound in evidence.range)
        name = _heading(evidence.metric)
        span = f"; 80 % interval of the {name.upper() if len(name) == 4 else name} {low} to {high}"
    carried = f" carried over from {evidence.carried_from}" if evidence.carried_from else ""
    return (
        f"Evidence: {evidence.comparable_points} comparable measurements{carried}, median error "
        f"{percent(evidence.median_abs_error)}, 90th percentile {percent(evidence.p90_abs_error)}{span}. {evidence.why}"
    )
