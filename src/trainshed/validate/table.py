"""Published measurements as typed rows, and the protocol of what predicts them.

One CSV is one table; one row is one published figure (``validation/README.md`` tells what each column means). Reading
is strict: a column that the table does not have, a number that is not one, an unknown table are errors that name the
file, the line and the column.
"""

from __future__ import annotations

import csv
import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from trainshed.core import Number, UserError, unknown_name

_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published figure. An empty cell is "not stated": None, never zero and never a default."""

    table: str
    file: str
    line: int
    cells: Mapping[str, Any] = field(repr=False)
    """Column → value of the column's kind; columns that the file lacks or leaves empty are absent."""

    @property
    def id(self) -> str:
        """Stable name of the row."""
        return str(self.cells["id"])

    @property
    def group(self) -> str:
        """The source family."""
        return str(self.cells["group"])

    @property
    def tier(self) -> str:
        """A: measured and complete; B: something inferred; C: a target, a claim, doubtful."""
        return str(self.cells["tier"])

    @property
    def metric(self) -> str:
        """Name of the figure with its unit, without the statistic: ``ttft_s`` of ``ttft_s.p50``."""
        return str(self.cells["metric"]).partition(".")[0]

    @property
    def statistic(self) -> str:
        """``mean`` unless the metric says ``.p50``, ``.p90``, ``.p99`` or ``.peak`` (kernels: the engine)."""
        return str(self.cells["metric"]).partition(".")[2] or "mean"

    @property
    def full_metric(self) -> str:
        """The metric as the table prints it."""
        return str(self.cells["metric"])

    @property
    def value(self) -> float:
        """The published figure, SI."""
        return float(self.cells["value"])

    @property
    def primary(self) -> bool:
        """True for the one figure of a point that counts in error statistics."""
        return bool(self.cells.get("primary", False))

    @property
    def counted(self) -> bool:
        """Tier A or B, primary (or an energy, a power, HBM reads), and no speculative decoding."""
        always = self.metric.startswith(("energy_", "power_")) or self.metric == "hbm_read_bytes"
        return self.tier in {"A", "B"} and (self.primary or always) and self.text("speculation") in {None, "none"}

    def text(self, column: str) -> str | None:
        """A cell of words, None where empty."""
        value = self._cell(column)
        return None if value is None else str(value)

    def number(self, column: str) -> float | None:
        """A cell with a number, None where empty."""
        value = self._cell(column)
        return None if value is None else float(value)

    def integer(self, column: str) -> int | None:
        """A cell with a whole number, None where empty."""
        value = self._cell(column)
        return None if value is None else int(value)

    def flag(self, column: str) -> bool | None:
        """A cell with 0 or 1, None where empty."""
        value = self._cell(column)
        return None if value is None else bool(value)

    def json(self, column: str) -> Mapping[str, Any]:
        """A cell with a JSON object, empty where the cell is."""
        value = self._cell(column)
        return {} if value is None else dict(value)

    def _cell(self, column: str) -> Any:
        if column not in _kinds():
            raise KeyError(f"{column} is no column of any table")
        return self.cells.get(column)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a table's model says to one row: a value, or why there is none."""

    value: Number | None = None
    """SI, in the row's metric; an array of K values where the setup's constants are arrays of shape (K, 1)."""
    skipped: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.skipped):
            raise ValueError("a prediction has either a value or the reason why there is none")


def skip(reason: str) -> Prediction:
    """A row that the models cannot express, with the reason that the report prints."""
    return Prediction(skipped=reason)


class Setup(Protocol):
    """The hardware and software that predictions rest on (``validate.setup.Setup``)."""

    @property
    def catalogue(self) -> Any:
        """``hardware.Catalogue``."""

    @property
    def software(self) -> Any:
        """``software.Software``."""

    def replaced(self, values: Mapping[str, Number]) -> Setup:
        """The same with the constants of these full names set to these values."""


class Table(Protocol):
    """What one module of ``validate/tables`` offers: predictions of rows, in their order, one for each."""

    def predict(self, rows: Sequence[Row], setup: Any) -> list[Prediction]:
        """One prediction per row. A user's error on a row (unknown chip, plan that does not divide) skips the row."""


def each(rows: Sequence[Row], predict: Callable[[Row], Prediction | Number | None]) -> list[Prediction]:
    """``predict`` applied row by row; a UserError becomes the reason why the row is skipped."""
    return [_one(row, predict) for row in rows]


def _one(row: Row, predict: Callable[[Row], Prediction | Number | None]) -> Prediction:
    try:
        answer = predict(row)
    except UserError as error:
        return skip(f"{error.what}: {error.value}")
    if isinstance(answer, Prediction):
        return answer
    return skip("no value") if answer is None else Prediction(value=answer)


@cache
def _schema() -> Mapping[str, Any]:
    return MappingProxyType(tomllib.loads((_HERE / "columns.toml").read_text(encoding="utf-8")))


@cache
def _kinds() -> Mapping[str, str]:
    return MappingProxyType(dict(_schema()["columns"]))


@cache
def names() -> tuple[str, ...]:
    """The tables there are, in the order of a report."""
    return tuple(name for name in _schema()["tables"] if name != "common")


@cache
def columns(table: str) -> Mapping[str, str]:
    """Column → kind of one table."""
    tables = _schema()["tables"]
    if table not in tables:
        raise unknown_name("table", table, names(), where="validate")
    return MappingProxyType({name: _kinds()[name] for name in (*tables["common"], *tables[table])})


def measurements() -> Path:
    """The folder of published measurements: of the repository that this runs from, else of the working directory."""
    for folder in (_HERE.parents[2] / "validation", Path.cwd() / "validation"):
        if (folder / "README.md").is_file():
            return folder
    raise UserError(
        "the measurements are in the repository, not in the wheel", where="validate", value="validation/",
        expected="a run inside the repository, or paths of tables",
    )  # fmt: skip


def find(name_or_path: str) -> tuple[str, Path]:
    """Table and file of ``training``, ``training.csv`` (those of ``validation/``) or any path."""
    path = Path(name_or_path)
    bare = path.parent == Path(".") and not path.is_file()
    if bare:
        stem = name_or_path.removesuffix(".csv")
        columns(stem)
        path = measurements() / f"{stem}.csv"
    if not path.is_file():
        raise UserError("no such table", where="validate", value=str(name_or_path), expected=", ".join(names()))
    return _table_of(path), path


def _table_of(path: Path) -> str:
    """The table by the file's name, the longest one that it contains (``serving_neuron`` before ``serving``); of a
    file of another name by its header: the smallest table that has all its columns."""
    found = [name for name in names() if name in path.stem]
    if found:
        return max(found, key=len)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        header = set(next(csv.reader(handle), []))
    fitting = [name for name in names() if header and header <= columns(name).keys()]
    if not fitting:
        raise unknown_name("table", path.stem, names(), where=str(path))
    return min(fitting, key=lambda name: len(columns(name)))


def read(path: Path, table: str = "") -> list[Row]:
    """All rows of a CSV file as rows of ``table`` (found from the file's name where not given)."""
    table = table or _table_of(path)
    kinds = columns(table)
    if not path.is_file():
        raise UserError("no such file", where="validate", value=str(path), expected="a CSV file of measurements")
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        header = next(reader, [])
        _check_header(header, kinds, table, path)
        return [
            Row(table=table, file=str(path), line=line, cells=cells)
            for line, cells in _lines(reader, header, kinds, path)
        ]


def _check_header(header: Sequence[str], kinds: Mapping[str, str], table: str, path: Path) -> None:
    for column in header:
        if column not in kinds:
            raise unknown_name(f"column of table {table}", column, kinds, where=str(path))
        if header.count(column) > 1:
            raise UserError("column given twice", where=str(path), value=column, expected=f"one {column}")
    for column in ("id", "group", "tier", "metric", "value"):
        if column not in header:
            raise UserError("column missing", where=str(path), value=",".join(header), expected=f"a column {column}")


def _lines(
    reader: Any, header: Sequence[str], kinds: Mapping[str, str], path: Path
) -> Iterator[tuple[int, dict[str, Any]]]:
    start = reader.line_num
    for words in reader:
        line, start = start + 1, reader.line_num
        if not words:
            continue
        if len(words) != len(header):
            raise UserError(
                "row of another length", where=f"{path}, line {line}", value=len(words), expected=f"{len(header)} cells"
            )
        pairs = [(c, w.strip()) for c, w in zip(header, words, strict=True)]
        cells = {c: _cell(w, c, kinds[c], f"{path}, line {line}") for c, w in pairs if w}
        for column in ("id", "group", "tier", "metric", "value"):
            if column not in cells:
                raise UserError("empty cell", where=f"{path}, line {line}", value=column, expected="a value")
        yield line, cells


def _cell(word: str, column: str, kind: str, where: str) -> Any:
    try:
        match kind:
            case "text":
                return word
            case "number" if math.isfinite(number := float(word)):
                return number
            case "integer" if (number := float(word)).is_integer():
                return int(number)
            case "flag" if word in {"0", "1"}:
                return word == "1"
            case "json" if isinstance(parsed := json.loads(word), dict):
                return parsed
            case _:
                raise ValueError(word)
    except ValueError:
        expected = {"number": "a number", "integer": "a whole number", "flag": "0 or 1", "json": "a JSON object"}[kind]
        raise UserError(f"bad value in column {column}", where=where, value=word, expected=expected) from None
