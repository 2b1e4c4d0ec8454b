"""Predictions of many rows, spread over processes; a row that crashes a table's model is skipped, never lost."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from trainshed.core import Number, UserError
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, skip
from trainshed.validate.tables import model_of

#: Rows of one task: small enough for two workers to end together.
CHUNK = 200

#: Done rows, all rows.
Progress = Callable[[int, int], None]

_rows: Sequence[Row] = ()
_setup = Setup()


def predict_rows(rows: Sequence[Row], setup: Setup) -> list[Prediction]:
    """Predictions of rows of one table; a chip that the catalogue lacks skips its rows."""
    found = [_unknown_chip(row, setup) for row in rows]
    known = [row for row, unknown in zip(rows, found, strict=True) if unknown is None]
    answers = iter(_together(known, setup) if known else [])
    return [next(answers) if unknown is None else unknown for unknown in found]


def _unknown_chip(row: Row, setup: Setup) -> Prediction | None:
    chip = row.text("chip")
    try:
        if chip is not None:
            setup.catalogue.chip(chip)
    except UserError:
        return skip(f"unknown chip: {chip}")
    return None


def _together(rows: Sequence[Row], setup: Setup) -> list[Prediction]:
    """Predictions by the table's model at once; if it fails on them together, row by row."""
    table = model_of(rows[0].table)
    try:
        predictions = table.predict(rows, setup)
        if len(predictions) == len(rows):
            return predictions
        failure = f"{len(predictions)} predictions of {len(rows)} rows"
    except Exception as error:  # a bug of one table must not hide the others: reported as crashed rows
        failure = f"{type(error).__name__}: {error}"
    if len(rows) == 1:
        return [skip(f"crashed: {failure}")]
    return [p for row in rows for p in _together([row], setup)]


class Predictor:
    """Rows with the processes that predict them under any number of changed setups.

    Used as a context manager; one worker means this very process.
    """

    def __init__(self, rows: Sequence[Row], setup: Setup, *, workers: int = 1) -> None:
        self.rows, self.setup = rows, setup
        self._pool = (
            multiprocessing.Pool(workers, initializer=_start, initargs=(rows, replace(setup))) if workers > 1 else None
        )

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    def predict(
        self, values: Mapping[str, Number] | None = None, at: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[Prediction]:  # fmt: skip
        """Predictions of the rows at these indices (default: all) with these constants changed."""
        wanted = range(len(self.rows)) if at is None else at
        return self.predict_each([(values or {}, wanted)], progress)[0]

    def predict_each(
        self, jobs: Sequence[tuple[Mapping[str, Number], Sequence[int]]], progress: Progress | None = None
    ) -> list[list[Prediction]]:
        """Several sets of changed constants, each with the indices of its rows."""
        tasks = [(n, chunk) for n, (_, at) in enumerate(jobs) for chunk in _chunks(self.rows, _alike(self.rows, at))]
        work = [(dict(jobs[n][0]), tuple(chunk)) for n, chunk in tasks]
        found: list[dict[int, Prediction]] = [{} for _ in jobs]
        done, every = 0, sum(len(at) for _, at in jobs)
        for (n, chunk), predictions in zip(tasks, self._map(work), strict=True):
            found[n] |= dict(zip(chunk, predictions, strict=True))
            done += len(chunk)
            if progress is not None:
                progress(done, every)
        return [[each[i] for i in at] for each, (_, at) in zip(found, jobs, strict=True)]

    def _map(self, work: Sequence[tuple[dict[str, Number], tuple[int, ...]]]) -> Iterable[list[Prediction]]:
        if self._pool is None:
            return (_predict(self.rows, self.setup, task) for task in work)
        return self._pool.imap(_task, work)


def _alike(rows: Sequence[Row], at: Sequence[int]) -> list[int]:
    """The indices with like rows side by side: tables price rows of one model and system in one call."""

    def key(i: int) -> tuple[str, ...]:
        return (rows[i].table, *(rows[i].text(c) or "" for c in ("model", "system", "framework", "mode")))

    return sorted(at, key=key)


def _chunks(rows: Sequence[Row], at: Sequence[int]) -> list[list[int]]:
    """Runs of indices of one table, at most CHUNK long."""
    chunks: list[list[int]] = []
    for i in at:
        if chunks and len(chunks[-1]) < CHUNK and rows[chunks[-1][0]].table == rows[i].table:
            chunks[-1].append(i)
        else:
            chunks.append([i])
    return chunks


def _start(rows: Sequence[Row], setup: Setup) -> None:
    """A worker's own copy of what every task refers to."""
    global _rows, _setup
    _rows, _setup = rows, setup


def _task(task: tuple[dict[str, Number], tuple[int, ...]]) -> list[Prediction]:
    return _predict(_rows, _setup, task)


def _predict(rows: Sequence[Row], setup: Setup, task: tuple[dict[str, Number], tuple[int, ...]]) -> list[Prediction]:
    values, at = task
    return predict_rows([rows[i] for i in at], setup.replaced(values) if values else setup)
