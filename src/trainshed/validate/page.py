"""``docs/accuracy.md``: every group with its coverage beside its error, the null model, peers and noise."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trainshed.validate.scores import GroupScore, ValidateReport
from trainshed.validate.table import measurements
from trainshed.validate.targets import Target, targets

#: A group is held against its null model from this many counted points on, and if the null is worse than this.
NULL_POINTS, NULL_ERROR = 15, 0.10

_INTRO = """# Accuracy

Written by `make validate`; do not edit. Each line compares predictions with published measurements
(`validation/README.md` says what they are; [validation](validation.md) how they are compared).

- *covered*: counted points with a prediction, of all counted points. A point counts if it was measured (tier A or B),
  is the primary figure of its run (or an energy, a power, HBM reads) and does not rest on speculative decoding.
- *median*, *p90*: of the absolute error |predicted / measured − 1|; *bias*: median of the signed error.
- *null*: the median error of one constant efficiency (of peak FLOP/s, bandwidth, link rate or TDP) fitted on that very
  group. Trainshed's constants are shared by all groups of a chip, a link or a software version; the null has one of its
  own per line.
- Lines in brackets have no counted point: vendors' targets, figures read off plots. They are shown and prove nothing.
"""


def write_accuracy_page(report: ValidateReport, path: Path) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(accuracy_page(report), encoding="utf-8")


def accuracy_page(report: ValidateReport) -> str:
    """The page as Markdown."""
    tables = list(dict.fromkeys(g.table for g in report.groups))
    parts = [_INTRO, _summary(report), _nulls(report.groups)]
    parts += [_table(name, report) for name in tables]
    parts += [_skipped(report.groups), _peers()]
    return "\n".join(parts)


def _summary(report: ValidateReport) -> str:
    lines = [
        (t.table, t.what, str(t.points), _share(t.covered, t.counted), _percent(t.median_abs_error),
         _percent(t.p90_abs_error))
        for t in report.tables if t.counted
    ]  # fmt: skip
    return "## Summary\n\n" + _markdown(("table", "rows", "points", "covered", "median", "p90"), lines)


def losses(groups: Iterable[GroupScore]) -> list[GroupScore]:
    """Groups that lose against their null model although it is not good itself."""
    return [
        g
        for g in groups
        if g.counted_covered >= NULL_POINTS
        and g.median_abs_error is not None
        and g.null_median_abs_error is not None
        and g.null_median_abs_error > NULL_ERROR
        and g.median_abs_error >= g.null_median_abs_error
    ]


def _nulls(groups: Sequence[GroupScore]) -> str:
    judged = [g for g in groups if g.counted_covered >= NULL_POINTS and (g.null_median_abs_error or 0) > NULL_ERROR]
    lost = losses(groups)
    text = f"""## Against the null model

Of {len(judged)} lines with at least {NULL_POINTS} covered points and a null above {NULL_ERROR:.0%}, the model beats the
null in {len(judged) - len(lost)}."""
    if not lost:
        return text + "\n"
    rows = [
        (g.table, g.group, g.chip, g.metric, g.regime, _percent(g.median_abs_error), _percent(g.null_median_abs_error))
        for g in lost
    ]
    return f"{text} It does not in:\n\n" + _markdown(
        ("table", "group", "chip", "metric", "regime", "median", "null"), rows
    )


def _table(name: str, report: ValidateReport) -> str:
    lines = [_group_line(g) for g in report.groups if g.table == name]
    head = ("group", "chip", "metric", "regime", "points", "covered", "median", "p90", "bias", "null")
    text = f"## {name}.csv\n\n" + _markdown(head, lines)
    if name == "collectives":
        text += _targets(targets(report.rows))
    sweeps = [s for s in report.sweeps if s.table == name]
    if sweeps:
        rows = [
            (s.group, s.chip, s.metric, s.model, str(s.chips or ""), str(s.n), f"{s.rank_correlation:.2f}")
            for s in sweeps
        ]
        title = ("group", "chip", "metric", "model", "chips", "points", "rank correlation")
        text += "\nOrder of plans (same group, model and number of chips):\n\n" + _markdown(title, rows)
    what = _facts("groups.csv", "group")
    notes = [
        f"- **{g}**: {_caution(what[g])}" for g in dict.fromkeys(line[0].strip("()") for line in lines) if g in what
    ]
    return text + "\n" + "\n".join(notes) + "\n"


def _targets(lines: Sequence[Target]) -> str:
    """What is asked of collectives, and whether it is met."""
    judged = [t for t in lines if t.met is not None]
    if not judged:
        return ""
    rows = [
        (t.what, t.part, str(t.counted), _share(t.covered, t.counted), _percent(t.median_abs_error),
         _percent(t.p90_abs_error), _asked(t), {True: "yes", False: "**no**", None: ""}[t.met])
        for t in lines
    ]  # fmt: skip
    met = sum(t.met is True for t in judged)
    head = ("what", "part", "counted", "covered", "median", "p90", "asked", "met")
    return f"\nOf {len(judged)} targets {met} are met (all sizes together):\n\n" + _markdown(head, rows)


def _asked(t: Target) -> str:
    return " / ".join(f"{most:.0%}" for most in (t.most_median, t.most_p90) if most is not None)


def _group_line(g: GroupScore) -> tuple[str, ...]:
    group = g.group if g.counted else f"({g.group})"
    covered = _share(g.counted_covered, g.counted) if g.counted else f"({_share(g.covered, g.points)})"
    return (
        group, g.chip, g.metric, g.regime, str(g.points), covered, _percent(g.median_abs_error),
        _percent(g.p90_abs_error), _percent(g.bias, sign=True), _percent(g.null_median_abs_error),
    )  # fmt: skip


def _caution(facts: Mapping[str, str]) -> str:
    caution = facts.get("cautions", "")
    return facts.get("what", "") + (f" *{caution}*" if caution else "")


def _skipped(groups: Sequence[GroupScore]) -> str:
    why: dict[str, Counter[str]] = defaultdict(Counter)
    for g in groups:
        why[g.table].update(g.skipped_why)
    rows = [(table, reason, str(n)) for table, reasons in why.items() for reason, n in reasons.most_common()]
    if not rows:
        return "## Skipped\n\nNothing.\n"
    return "## Skipped, and why\n\n" + _markdown(("table", "reason", "points"), rows)


def _peers() -> str:
    rows = list(_facts("peers.csv").values())
    tools = [r for r in rows if r["tool"] != "noise floor"]
    noise = [(r["version"], r["rows"], r["metric"], *_errors(r)[:2]) for r in rows if r["tool"] == "noise floor"]
    lines = [
        (*(r[c] for c in ("tool", "version", "table", "rows", "metric", "points")), *_errors(r), r["how"])
        for r in tools
    ]
    head = ("tool", "version", "table", "rows", "metric", "points", "median", "p90", "mean", "how")
    return (
        "## Peers\n\nWhat other tools score on such rows (`validation/peers.csv`).\n\n"
        + _markdown(head, lines)
        + "\n## Noise of repeats\n\nHow far repeats of one measurement lie apart (largest over smallest, minus 1):"
        " no model can be better.\n\n" + _markdown(("engine version", "rows", "metric", "median", "p90"), noise)
    )


def _errors(facts: Mapping[str, str]) -> tuple[str, str, str]:
    median, p90, mean = (facts[c] for c in ("median_abs_error", "p90_abs_error", "mean_abs_error"))
    return _percent(_number(median)), _percent(_number(p90)), _percent(_number(mean))


def _facts(name: str, key: str = "") -> dict[str, dict[str, str]]:
    """A side table by one of its columns, else by line."""
    with (measurements() / name).open(encoding="utf-8", newline="") as handle:
        return {row[key] if key else str(n): row for n, row in enumerate(csv.DictReader(handle))}


def _number(text: str) -> float | None:
    return float(text) if text else None


def _percent(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return ""
    digits = 1 if abs(value) < 0.1 else 0
    return f"{100 * value:+.{digits}f} %" if sign else f"{100 * value:.{digits}f} %"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.0f} %)" if whole else "0"


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"
