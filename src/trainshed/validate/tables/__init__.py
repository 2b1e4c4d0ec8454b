"""What predicts the rows of each table: one module per CSV, loaded when asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import cast

from trainshed.validate.table import Table, columns


@cache
def model_of(table: str) -> Table:
    """The module ``validate/tables/<table>.py``: its ``predict`` is the model of that table."""
    columns(table)
    return cast(Table, import_module(f"{__name__}.{table}"))
