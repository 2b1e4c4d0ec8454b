"""A simulated launch as the Parquet tables of Neuron Explorer, AWS's profiler, marked as a simulation.

Tables, columns, types and units are those of schema 7.4.0 (``explorer.csv``, from "Profile Parquet Schema Reference",
``tools/neuron-explorer`` of the Neuron documentation). Columns that a simulation cannot know are null. Every file says
in its metadata that it is simulated, by which version, for which target and kernel; so do ``Metadata`` and ``Summary``
(``is_simulation``; in ``Summary`` a field of our own).
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from trainshed.chip.launch import Launch
from trainshed.chip.profile import Checked, check
from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.rates import rates
from trainshed.core.errors import UserError, not_installed
from trainshed.report.explorer_summary import metadata, summary, usage
from trainshed.report.explorer_tables import (
    PACKETS,
    Columns,
    Core,
    Tensors,
    active_time,
    flow,
    instructions,
    joined,
    opcode_summary,
    packet_count,
    packets,
    transfers,
)

SCHEMA = "7.4.0"


class Field(NamedTuple):
    """A column of a table in the vendor's words; ``type``: an integer's or number's format, else its type."""

    name: str
    type: str
    unit: str
    required: bool


@lru_cache
def schema() -> dict[str, list[Field]]:
    """The columns of every table that can be written, in the vendor's order."""
    found: dict[str, list[Field]] = {}
    with Path(__file__).with_suffix(".csv").open(newline="") as file:
        for row in csv.DictReader(file):
            made = Field(row["field"], row["type"], row["unit"], row["required"] == "yes")
            found.setdefault(row["table"], []).append(made)
    found["Summary"].append(Field("is_simulation", "boolean", "", False))
    return found


def check_explorer(directory: Path) -> None:
    """Raise at once what ``write_explorer`` would raise of its directory, and without pyarrow."""
    _Arrow({}).check(directory)


def write_explorer(
    directory: Path, launch: Launch, clocks: Sequence[Clock], *, kernel: str, checked: Checked | None = None
) -> list[Path]:
    """Write a finished launch as ``<directory>/<Table>.parquet``, whole or not at all; returns the files.

    Args:
        directory: new, empty, or a former export, which is replaced.
        clocks: the times of the launch's cores, in order (``chip/timing``).
        kernel: what the profile is called.
        checked: what ``check(launch)`` returned, where that was done.

    Raises:
        UserError: a directory with anything else in it; pyarrow is not installed.
    """
    arrow = _Arrow({"kernel": kernel, "target": launch.cores[0].target.chip})
    arrow.check(directory)
    made = tables(launch, clocks, kernel=kernel, checked=checked)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as work:
        new, old = Path(work) / "new", Path(work) / "old"
        new.mkdir()
        for name, columns in made.items():
            arrow.write(new / f"{name}.parquet", name, columns)
        if directory.exists():
            directory.rename(old)
        try:
            new.rename(directory)
        except OSError:
            if old.exists():
                old.rename(directory)
            raise
    return sorted(directory.iterdir())


def tables(
    launch: Launch, clocks: Sequence[Clock], *, kernel: str, checked: Checked | None = None
) -> dict[str, Columns]:
    """The tables with at least one row, by name."""
    checked = checked or check(launch)
    cores, first = [], 0
    for columns, clock, allocation in zip(checked.columns, clocks, checked.allocations, strict=True):
        cores.append(Core(columns, clock, allocation, first))
        first += len(columns.core.instructions)
    chip, known = launch.cores[0].target.chip, Tensors(cores)
    of = rates(chip)
    made: dict[str, Columns] = {
        "Instruction": joined(instructions(core) for core in cores),
        "ActiveTime": joined(active_time(core) for core in cores),
        "DmaPacketAggregated": joined(transfers(core, known) for core in cores),
        "Flow": joined(flow(core) for core in cores),
        **usage(cores),
        "TensorInfo": known.rows(),
    }
    warnings = [
        ("Simulation", f"Simulated by trainshed {version('trainshed')} for {chip}: no device has run this kernel, and "
         "columns that a simulation cannot know are null.")
    ]  # fmt: skip
    counts = [int(packet_count(core).sum()) for core in cores]
    if sum(counts) <= PACKETS:
        starts = [sum(counts[:k]) for k in range(len(counts))]
        made["DmaPacket"] = joined(
            packets(core, known, start, of.dma_engines) for core, start in zip(cores, starts, strict=True)
        )
    else:
        warnings.append(("Missing Data", f"DmaPacket is left out: {sum(counts)} packets are more than {PACKETS}."))
    made["Summary"] = summary(cores, made, known, of)
    made["Metadata"] = metadata(cores, of, schema=SCHEMA, kernel=kernel)
    made["OpcodeSummary"] = opcode_summary(made["Instruction"], max(clock.seconds for clock in clocks))
    made["Warning"] = {"category": [kind for kind, _ in warnings], "message": [text for _, text in warnings]}
    made = {name: columns for name, columns in made.items() if _rows(columns)}
    return {**made, "SchemaFields": _schema_fields([*made, "SchemaFields"])}


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _schema_fields(names: Sequence[str]) -> Columns:
    """``SchemaFields``: the columns of the tables that are written; descriptions are the vendor's and left to them."""
    listed = [(name, field) for name in sorted(names) for field in schema()[name]]
    kinds = {"int64": "integer", "int32": "integer", "float": "number"}
    return {
        "table_name": [name for name, _ in listed], "field_name": [field.name for _, field in listed],
        "field_type": [kinds.get(field.type, field.type) for _, field in listed],
        "field_format": [field.type if field.type in kinds else None for _, field in listed],
        "field_required": [field.required for _, field in listed],
        "field_unit": [field.unit or None for _, field in listed],
    }  # fmt: skip


class _Arrow:
    """pyarrow, and what every file says of itself."""

    def __init__(self, about: Mapping[str, str]) -> None:
        try:
            import pyarrow  # type: ignore[import-untyped]
            import pyarrow.parquet as parquet  # type: ignore[import-untyped]
        except ImportError as error:
            raise not_installed("pyarrow", extra="parquet", where="Neuron Explorer tables") from error
        self._arrow: Any = pyarrow
        self._parquet: Any = parquet
        self._about = {"simulated": "true", "trainshed": version("trainshed"), "schema": SCHEMA, **about}

    def write(self, path: Path, table: str, columns: Columns) -> None:
        """One table; columns that are not given are null."""
        pa, fields = self._arrow, schema()[table]
        types = {
            "int64": pa.int64(), "int32": pa.int32(), "float": pa.float32(), "string": pa.string(),
            "boolean": pa.bool_(),
        }  # fmt: skip
        unknown = columns.keys() - {field.name for field in fields}
        assert not unknown, unknown
        count = _rows(columns)
        arrays = [
            pa.array(columns[field.name], types[field.type], from_pandas=False)
            if field.name in columns
            else pa.nulls(count, types[field.type])
            for field in fields
        ]
        named = pa.schema([pa.field(field.name, types[field.type]) for field in fields], metadata=self._about)
        self._parquet.write_table(pa.table(arrays, schema=named), path)

    def check(self, directory: Path) -> None:
        """Only a new directory, an empty one or a former export may be written."""
        if not directory.exists():
            return
        if not directory.is_dir():
            raise UserError("not a directory", where="--explorer", value=str(directory), expected="a directory")
        foreign = next((path for path in sorted(directory.iterdir()) if not self._ours(path)), None)
        if foreign is not None:
            raise UserError(
                "the directory holds something else", where="--explorer", value=str(foreign),
                expected="a new or empty directory, or one that trainshed wrote",
            )  # fmt: skip

    def _ours(self, path: Path) -> bool:
        """Whether a file is a table that ``write`` has written."""
        if path.suffix != ".parquet" or path.stem not in schema():
            return False
        try:
            about = self._parquet.read_schema(path).metadata or {}
        except (OSError, self._arrow.ArrowException):
            return False
        return b"trainshed" in about and about.get(b"simulated") == b"true"
