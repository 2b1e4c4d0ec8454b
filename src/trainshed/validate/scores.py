"""Error statistics of predictions: per group, chip, metric and regime, per sweep, and row by row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainshed.core import plain
from trainshed.validate.labels import regime
from trainshed.validate.table import Prediction, Row

Floats = NDArray[np.float64]
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

#: A rank correlation of fewer plans says nothing.
LEAST_PLANS = 4


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A row beside its prediction and beside the ideal time or rate that the null model scales."""

    row: Row
    prediction: Prediction
    ideal: float | None = None
    """The row's metric at the peak rate of its chip (``validate.null``); None where there is no such thing."""
    regime: str = ""

    @property
    def predicted(self) -> float | None:
        """The predicted value."""
        return None if self.prediction.value is None else float(np.asarray(self.prediction.value).flat[0])

    @property
    def error(self) -> float | None:
        """predicted / measured − 1; None where there is no prediction or nothing to divide by."""
        if self.predicted is None or self.row.value <= 0:
            return None
        return self.predicted / self.row.value - 1.0

    def to_json(self) -> dict[str, Any]:
        """The row as the command prints it."""
        row = self.row
        return {
            "id": row.id, "table": row.table, "group": row.group, "chip": row.text("chip"), "metric": row.full_metric,
            "regime": self.regime, "tier": row.tier, "counted": row.counted, "measured": row.value,
            "predicted": self.predicted, "error": self.error, "skipped": self.prediction.skipped or None,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """Errors of like points of one source.

    They are those of the counted points; of a group that has none, those of all its points (``counted`` is then 0).
    """

    table: str
    group: str
    chip: str
    metric: str
    regime: str
    points: int
    covered: int
    """Points with a prediction."""
    counted: int
    """Points of tier A or B that count."""
    counted_covered: int
    median_abs_error: float | None
    p90_abs_error: float | None
    bias: float | None
    """Median of the signed error: above 0, predictions are too high."""
    null_median_abs_error: float | None
    """The same statistic of one constant efficiency fitted on these very points."""
    skipped_why: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """How well plans are ranked: counted points of one group, model and number of chips that differ in the plan."""

    table: str
    group: str
    chip: str
    metric: str
    model: str
    chips: int | None
    n: int
    rank_correlation: float
    """Spearman's."""


@dataclass(frozen=True, kw_only=True)
class TableScore:
    """All counted points of a table (and the part of it that a rule names) in one line."""

    table: str
    what: str
    points: int
    counted: int
    covered: int
    """Counted points with a prediction."""
    median_abs_error: float | None
    p90_abs_error: float | None


@dataclass(frozen=True, kw_only=True)
class ValidateReport:
    """Everything that a run of ``validate`` found."""

    groups: tuple[GroupScore, ...]
    sweeps: tuple[Sweep, ...]
    tables: tuple[TableScore, ...]
    rows: tuple[Scored, ...]

    def to_json(self, *, rows: bool = True) -> dict[str, Any]:
        """The ``result`` of the command."""
        return {
            "groups": [plain(g) for g in self.groups], "sweeps": [plain(s) for s in self.sweeps],
            "tables": [plain(t) for t in self.tables], "rows": [s.to_json() for s in self.rows] if rows else [],
        }  # fmt: skip


def report(scored: Sequence[Scored]) -> ValidateReport:
    """Statistics of rows with their predictions."""
    return ValidateReport(
        groups=tuple(group_scores(scored)), sweeps=tuple(sweeps(scored)), tables=tuple(table_scores(scored)),
        rows=tuple(scored),
    )  # fmt: skip


def score(row: Row, prediction: Prediction, ideal: float | None = None) -> Scored:
    """A row with its prediction and its class."""
    return Scored(row=row, prediction=prediction, ideal=ideal, regime=regime(row))


def group_scores(scored: Iterable[Scored]) -> list[GroupScore]:
    """One line per table, group, chip, metric and regime, in order of appearance."""
    classes = _grouped(
        scored, lambda s: (s.row.table, s.row.group, s.row.text("chip") or "", s.row.full_metric, s.regime)
    )
    return [_group_score(key, members) for key, members in classes.items()]


def _group_score(key: tuple[str, str, str, str, str], members: Sequence[Scored]) -> GroupScore:
    counted = [s for s in members if s.row.counted]
    shown = [s for s in counted or members if s.error is not None]
    median, p90, bias = statistics([s.error for s in shown if s.error is not None])
    reasons = Counter(s.prediction.skipped for s in members if s.prediction.skipped)
    return GroupScore(
        table=key[0], group=key[1], chip=key[2], metric=key[3], regime=key[4], points=len(members),
        covered=sum(s.predicted is not None for s in members), counted=len(counted),
        counted_covered=sum(s.predicted is not None for s in counted), median_abs_error=median, p90_abs_error=p90,
        bias=bias, null_median_abs_error=null_error(shown), skipped_why=dict(reasons.most_common()),
    )  # fmt: skip


def statistics(errors: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Median and 90th percentile of the absolute error, median of the signed one."""
    if not errors:
        return None, None, None
    values = np.asarray(errors, dtype=np.float64)
    size = np.abs(values)
    return float(np.median(size)), float(np.quantile(size, 0.9)), float(np.median(values))


def null_error(scored: Sequence[Scored]) -> float | None:
    """Median absolute error of ``constant × ideal``, the constant being the median ratio of these very points."""
    pairs = [(s.row.value, s.ideal) for s in scored if s.ideal is not None and s.ideal > 0 and s.row.value > 0]
    if not pairs:
        return None
    ratio = np.array([measured / ideal for measured, ideal in pairs])
    constant = np.exp(np.median(np.log(ratio)))
    return float(np.median(np.abs(constant / ratio - 1.0)))


def sweeps(scored: Iterable[Scored]) -> list[Sweep]:
    """Rank correlations wherever at least LEAST_PLANS different plans of the same work were measured."""
    counted = [s for s in scored if s.row.counted and s.error is not None]
    found = []
    for key, members in _grouped(counted, _sweep_key).items():
        if len({_plan(s.row) for s in members}) < LEAST_PLANS:
            continue
        rho = spearman([s.row.value for s in members], [s.predicted or 0.0 for s in members])
        if rho is not None:
            names = dict(zip(("table", "group", "chip", "metric", "model", "chips"), key[:6], strict=True))
            found.append(Sweep(**names, n=len(members), rank_correlation=rho))
    return found


#: What is the same within a sweep besides group, model and chips; what differs are the plan's columns.
_WORKLOAD = ("mode", "isl", "osl", "batch", "concurrency", "rate_per_s", "dtype_weights", "framework", "context")
_PLAN = (
    "tp", "sp", "pp", "vpp", "dp", "cp", "ep", "etp", "zero", "micro_batch", "recompute", "dp_attention", "replicas",
    "prefill_plan", "decode_plan", "options",
)  # fmt: skip


def _sweep_key(scored: Scored) -> tuple[Any, ...]:
    row = scored.row
    model = row.text("model") or str(row.cells.get("shape", ""))
    work = () if row.table == "training" else tuple(row.cells.get(c) for c in _WORKLOAD)
    return row.table, row.group, row.text("chip") or "", row.full_metric, model, row.integer("chips"), *work


def _plan(row: Row) -> tuple[str, ...]:
    return tuple(str(row.cells.get(c, "")) for c in _PLAN)


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation (ties share their mean rank); None where one side is constant."""
    ra, rb = ranks(a), ranks(b)
    if np.ptp(ra) == 0 or np.ptp(rb) == 0:
        return None
    return float(np.corrcoef(ra, rb)[0, 1])


def ranks(values: Sequence[float]) -> Floats:
    """Ranks from 1; equal values share their mean rank."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Floats = last - (counts - 1) / 2.0
    return mean[inverse]


def table_scores(scored: Sequence[Scored]) -> list[TableScore]:
    """One line per table, and per part of it that is judged apart."""
    lines = []
    for (table, what), members in _grouped(_parts(scored), lambda pair: pair[0]).items():
        rows = [s for _, s in members]
        counted = [s for s in rows if s.row.counted]
        errors = [s.error for s in counted if s.error is not None]
        median, p90, _ = statistics(errors)
        line = TableScore(
            table=table, what=what, points=len(rows), counted=len(counted), covered=len(errors),
            median_abs_error=median, p90_abs_error=p90,
        )  # fmt: skip
        lines.append(line)
    return lines


def _parts(scored: Sequence[Scored]) -> list[tuple[tuple[str, str], Scored]]:
    parts = [((s.row.table, "all"), s) for s in scored]
    parts += [((s.row.table, part), s) for s in scored for part in _part(s.row, s.regime)]
    return sorted(parts, key=lambda pair: pair[0][1] != "all")


def _part(row: Row, regime: str) -> list[str]:
    chip = row.text("chip") or ""
    match row.table:
        case "training":
            return ["Trainium" if chip.startswith(("trn", "inf")) else "GPUs and TPUs"]
        case "neuron_profiles" if row.metric in {"hbm_read_bytes", "time_s"}:
            return [f"{row.metric}, {regime}"]
        case "encoders":
            return [regime]
        case "kernels":
            return [row.text("kernel") or ""]
        case "collectives":
            return [f"scope {row.text('scope')}"]
        case "serving" | "serving_neuron":
            return [f"{row.full_metric}, {row.text('mode')}"]
        case _:
            return []


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)
