"""``encoders.csv``: one forward pass of an encoder, or one step of a denoiser, in a compiled graph.

A pass is the model's graph under a tensor-parallel plan on one rank (``dp`` copies run on other cores and only add
throughput) and one call from the host. Where matmuls are cast to bf16, weights are stored in bf16 by the compiler. An
image is as many passes as its steps and guidance branches; what surrounds the loop (text encoder, VAE) is left out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trainshed.core import Constant, Cost, Dtypes, Number, Plan, Shard, UserError, formula, total
from trainshed.fabric import Group, collective
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.ops.base import Rank
from trainshed.parallel import BlockWork, per_rank
from trainshed.software.schema import Package
from trainshed.validate import configs
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, each, skip


@dataclass(frozen=True, kw_only=True)
class _Case:
    row: Row
    model: Model
    system: System
    software: Package
    host: Constant
    """Seconds of the host per call."""
    fused: frozenset[str]
    tp: int
    copies: int
    """Copies of the model that share the cores."""
    lnc: int
    dtypes: Dtypes
    batch: float


def predict(rows: Sequence[Row], setup: Setup) -> list[Prediction]:
    """One prediction per row."""
    return each(rows, lambda row: _predict(row, setup))


def _predict(row: Row, setup: Setup) -> Prediction | Number | None:
    case = _case(row, setup)
    call = _call(case)
    loops = _passes(case)
    match row.metric:
        case "step_time_s":
            return call.value * (loops / float(row.integer("steps") or 1))
        case "latency_s":
            return call.value * loops
        case "inferences_per_s" | "images_per_s":
            return case.copies * case.batch / (call.value * loops)
    return skip(f"no formula for {row.full_metric}")


def _case(row: Row, setup: Setup) -> _Case:
    model = configs.load(row)
    plan = dict(re.findall(r"(tp|dp)(\d+)", row.text("parallelism") or ""))
    software, host = _software(row, setup)
    stored = row.text("dtype_activations") or row.text("dtype_weights") or "bf16"
    weights = row.text("dtype_weights") or stored
    low = min(weights, stored, key=("fp32", "tf32", "bf16", "fp16").index) if weights == stored else stored
    return _Case(
        row=row, model=model, system=setup.catalogue.system(row.text("system") or row.text("chip") or ""),
        software=software, host=host, fused=frozenset(getattr(software, "fused", ())), tp=int(plan.get("tp", 1)),
        copies=int(plan.get("dp", 1)), lnc=row.integer("lnc") or 1, batch=row.number("batch") or 1.0,
        dtypes=Dtypes(weights=low, activations=low),
    )  # fmt: skip


def _software(row: Row, setup: Setup) -> tuple[Package, Constant]:
    """What compiled and calls the graph: a serving engine where the text names one, else a framework."""
    # the words in brackets name PyTorch's version or the script: the date tells the Neuron release
    text, date = (row.text("framework") or "").partition(" (")[0], row.text("date") or ""
    try:
        engine = setup.software.engine(text, date=date)
    except UserError:
        framework = setup.software.framework(text, date=date)
        return framework, framework.fit("call")
    return engine, engine.fit("step_host")


def _call(case: _Case) -> Cost:
    """One call: every block of the graph with its collectives, and the host."""
    parts = [_blocks(case, blocks) for blocks in _works(case)]
    parts.append(formula("host", "s", "call", call=case.host))
    return total("call", parts)


def _works(case: _Case) -> list[list[BlockWork]]:
    """The graph's blocks; those of the text tower apart where a call encodes a fixed set of prompts."""
    prompts = _facts()["prompts"].get(case.model.family)
    streams = _streams(case)
    blocks = _work(case, case.batch, streams)
    if prompts is None:
        return [blocks]
    texts = _work(case, float(prompts["sequences"]), {**streams, "text": float(prompts["tokens"])})
    texts = [b for b in texts if _is_text(b)]
    return [[b for b in blocks if not _is_text(b)], texts]


def _is_text(work: BlockWork) -> bool:
    return all(op.stream == "text" for op in work.block.ops)


def _work(case: _Case, sequences: float, streams: Mapping[str, Number]) -> list[BlockWork]:
    rank = Rank(
        chip=case.system.chip, cores=case.lnc, tensor_gap=case.software.fit("tensor_gap"),
        by_hand=() if getattr(case.software, "attention", "flash") == "naive" else ("attention",),
    )  # fmt: skip
    work = per_rank(
        case.model, Plan(tp=case.tp, lnc=case.lnc), phase="encode", dtypes=case.dtypes, rank=rank,
        streams=streams, sequences=sequences, fused=case.fused,
    )  # fmt: skip
    return [b for b in work.blocks if not b.block.train_only]


def _streams(case: _Case) -> Mapping[str, Number]:
    """Tokens per sequence: the row's, else those of its picture or video."""
    seq, media = case.row.number("seq"), case.model.media
    if seq is not None:
        return {"tokens": seq}
    size = re.findall(r"\d+", case.row.text("image_size") or "")
    if media is None or len(size) != 2:
        raise UserError("size of the input not stated", where=case.row.id, value="", expected="seq or HEIGHTxWIDTH")
    return media.streams(frames=case.row.integer("frames"), size=(int(size[0]), int(size[1])))


def _passes(case: _Case) -> float:
    """Calls per figure: steps × guidance branches that follow one another."""
    steps, media = case.row.integer("steps"), case.model.media
    if steps is None or media is None:
        return 1.0
    if case.row.metric == "step_time_s":
        return float(steps)
    side_by_side = case.model.family in _facts()["parallel_branches"]["families"]
    return float(steps) * (1.0 if side_by_side else float(media.branches))


def _blocks(case: _Case, blocks: Sequence[BlockWork]) -> Cost:
    costs = []
    for b in blocks:
        # the base model: a language model's logits over its vocabulary are no part of an encoding
        ops = [w for w in b.ops if w.op.shard is not Shard.VOCAB or w.op.role != "head"]
        each_ = [w.forward.time for w in ops] + [_collective(case, c) for c in b.collectives]
        one = total(b.block.name, each_, unit="s")
        costs.append(formula(f"{b.block.count} x {one.what}", "s", "blocks * each", blocks=b.block.count, each=one))
    return total("graph", costs, unit="s")


def _collective(case: _Case, c: Any) -> Cost:
    found = collective(
        c.kind, size=c.size, group=Group(ranks=c.ranks, stride=c.stride), levels=case.system.levels,
        ranks_per_chip=float(case.system.chip.cores.value) / case.lnc, dtype=c.dtype,
    )  # fmt: skip
    return found.time


@cache
def _facts() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
