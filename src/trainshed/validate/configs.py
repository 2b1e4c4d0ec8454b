"""The model of a row: its ``config.json`` beside the table, else among the project's measurements."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from trainshed import models
from trainshed.core import UserError
from trainshed.validate.table import Row, measurements


def config_path(row: Row) -> Path:
    """Where the row's model is described; a model without a published config is an error that skips the row."""
    name = row.text("model")
    if name is None:
        raise UserError("no model stated", where=row.id, value="", expected="a model name")
    for folder in (Path(row.file).parent, measurements()):
        path = folder / "models" / f"{name}.json"
        if path.is_file():
            return path
    raise UserError("model without a published config", where=row.id, value=name, expected=f"models/{name}.json")


def load(row: Row) -> models.Model:
    """The row's model, else the built-in one of that name; each config is read once."""
    try:
        return _load(config_path(row))
    except UserError:
        if row.text("model") in models.builtin():
            return models.load(row.text("model") or "")
        raise


@lru_cache(maxsize=512)
def _load(path: Path) -> models.Model:
    return models.load(str(path))
