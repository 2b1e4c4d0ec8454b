"""``collectives.csv``: collectives alone, and launched Neuron programs that hold some.

Rows of one system, kind and algorithm are priced together, their sizes and ranks as arrays. Which of our algorithms a
row's word means, and what was around a measurement (a program, a Python loop), stand in ``collectives.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from trainshed.core import BYTES, Constant, Cost, Number, UserError, formula, total
from trainshed.core.load import read
from trainshed.fabric import KINDS, Group, collective, program
from trainshed.hardware.schema import System
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, skip

#: What nccl-tests call the bus bandwidth, as a multiple of bytes / time.
_BUS = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}


@dataclass(frozen=True)
class _Key:
    """What the rows of one bucket share."""

    system: str
    kind: str
    algorithm: str
    dtype: str
    scope: str
    from_host: bool
    per_chip: float


def predict(rows: Sequence[Row], setup: Setup) -> list[Prediction]:
    """One prediction per row; rows that share a key are priced in one call."""
    found: list[Prediction] = [skip("not priced")] * len(rows)
    buckets: dict[_Key, list[int]] = {}
    for i, row in enumerate(rows):
        try:
            buckets.setdefault(_key(row, setup), []).append(i)
        except UserError as error:
            found[i] = skip(f"{error.what}: {error.value}")
    for key, members in buckets.items():
        for i, prediction in zip(members, _bucket(key, [rows[i] for i in members], setup), strict=True):
            found[i] = prediction
    return found


@dataclass(frozen=True, kw_only=True)
class _Words:
    """``collectives.toml``."""

    whole_programs: tuple[str, ...]
    from_host: tuple[str, ...]
    host: Constant
    algorithms: Mapping[str, str]


@cache
def _words() -> _Words:
    root = read(Path(__file__).with_suffix(".toml"))
    host, algorithms = root.table("from_host"), root.table("algorithms")
    assert host is not None
    assert algorithms is not None
    words = _Words(
        whole_programs=root.texts("whole_programs"), from_host=host.texts("groups"),
        host=host.number("adds", "s", name="measurement/from_host.adds"),
        algorithms={key: algorithms.text(key) for key in algorithms},
    )  # fmt: skip
    for table in (host, algorithms, root):
        table.done()
    return words


def _key(row: Row, setup: Setup) -> _Key:
    name, kind = row.text("system"), row.text("collective") or ""
    if name is None:
        raise UserError("no system stated", where=row.id, value="", expected="a system")
    if row.number("ranks") is None or (row.number("size_bytes") is None and not row.json("shape")):
        raise UserError("no size or ranks stated", where=row.id, value=kind, expected="both")
    if kind not in KINDS:
        raise UserError("unknown collective", where=row.id, value=kind, expected=", ".join(KINDS))
    system = setup.catalogue.system(name)
    word = row.text("algorithm") or ""
    algorithm = "auto" if kind == "permute" else _words().algorithms.get(word, word or "auto")
    return _Key(
        system=system.name, kind=kind, algorithm=algorithm,
        dtype=row.text("dtype") if row.text("dtype") in BYTES else "bf16",  # type: ignore[arg-type]
        scope="program" if row.group in _words().whole_programs else row.text("scope") or "alone",
        from_host=row.group in _words().from_host, per_chip=_per_chip(row, system),
    )  # fmt: skip


def _per_chip(row: Row, system: System) -> float:
    cores = float(np.asarray(system.chip.cores.value))
    return max(cores / (row.integer("lnc") or 1), 1.0) if system.chip.neuron is not None else 1.0


def _size(row: Row) -> float:
    """Bytes in the convention of ``fabric.collective``: of experts, the routed copies of one rank's tokens."""
    shape = row.json("shape")
    if not shape:
        return row.number("size_bytes") or 0.0
    width = BYTES[row.text("dtype") or "bf16"]
    return float(shape["tokens"] * shape["topk"] * shape["hidden"]) * width


def _bucket(key: _Key, rows: Sequence[Row], setup: Setup) -> list[Prediction]:
    system = setup.catalogue.system(key.system)
    sizes = np.array([_size(row) for row in rows])
    ranks = np.array([row.number("ranks") or 1.0 for row in rows])
    copies = np.array([float(row.json("shape").get("topk", 1)) for row in rows])
    group = Group(ranks=ranks)
    try:
        cost = collective(
            key.kind, size=sizes, group=group, levels=system.levels, ranks_per_chip=key.per_chip, copies=copies,
            algorithm=key.algorithm, dtype=key.dtype,
        ).time  # fmt: skip
        time = cost if key.scope == "alone" else _in_program(key, rows, system, group, cost)
        if key.from_host:
            time = total("call from the host", [formula("host", "s", "host", host=_words().host), time])
    except UserError as error:
        return [skip(f"{error.what}: {error.value}") for _ in rows]
    seconds = np.asarray(time.value, dtype=np.float64)
    seconds = np.broadcast_to(seconds, np.broadcast_shapes(seconds.shape, sizes.shape))
    return [_figure(row, seconds[..., i], sizes[i], ranks[i]) for i, row in enumerate(rows)]


def _in_program(key: _Key, rows: Sequence[Row], system: System, group: Group, cost: Cost) -> Cost:
    """A launched program: its ranks meet only where the row counts whole graphs (``scope`` graph)."""
    count = np.array([1.0 if row.number("count") is None else row.number("count") for row in rows], dtype=np.float64)
    return program(
        system.levels, group=group, collectives=cost, count=count, ranks_per_chip=key.per_chip,
        meets=key.scope == "graph",
    )  # fmt: skip


def _figure(row: Row, seconds: Number, size: float, ranks: float) -> Prediction:
    value = float(seconds) if np.ndim(seconds) == 0 else seconds
    if row.metric == "time_s":
        return Prediction(value=value)
    factor = _BUS.get(row.text("collective") or "", ranks / (ranks - 1.0)) * (ranks - 1.0) / ranks
    factors = {"algbw_bytes_per_s": 1.0, "busbw_bytes_per_s": factor}
    if row.metric not in factors:
        return skip(f"no such figure of a collective: {row.metric}")
    return Prediction(value=factors[row.metric] * size / value)
