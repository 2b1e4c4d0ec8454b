"""``trainshed validate``: predictions of whole tables beside what was published."""

from __future__ import annotations

from collections.abc import Sequence

from trainshed.core import unknown_name
from trainshed.validate import null
from trainshed.validate.predictor import Predictor, Progress
from trainshed.validate.scores import ValidateReport, report, score
from trainshed.validate.setup import Setup
from trainshed.validate.table import Row, find, names, read


def rows_of(tables: Sequence[str] = (), group: str = "") -> list[Row]:
    """Rows of tables (names or paths; default: all of ``validation/``), of one group where one is named."""
    found = [find(name) for name in tables or names()]
    rows = [row for table, path in found for row in read(path, table)]
    chosen = [row for row in rows if not group or row.group == group]
    if not chosen:
        raise unknown_name("group", group, {row.group for row in rows}, where="--group")
    return chosen


def run(
    tables: Sequence[str] = (), group: str = "", setup: Setup | None = None, progress: Progress | None = None,
    *, workers: int = 2,
) -> ValidateReport:  # fmt: skip
    """Predict every row of the tables and count errors."""
    setup = Setup.default() if setup is None else setup
    rows = rows_of(tables, group)
    with Predictor(rows, setup, workers=workers) as predictor:
        predictions = predictor.predict(progress=progress)
    return report([score(row, p, null.ideal(row, setup)) for row, p in zip(rows, predictions, strict=True)])
