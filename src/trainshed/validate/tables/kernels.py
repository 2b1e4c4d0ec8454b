"""``kernels.csv``: single kernels on one rank of NeuronCores.

Where the kernel behind a row is here (``kernels.measured``), it runs on a virtual NeuronCore and the figure is read
off its clock. Of the others the family says which operators of ``ops`` they are made of, the shape and options their
sizes (options name launches and host calls that the figure contains).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainshed.chip.timing.rates import rates_of
from trainshed.core import BYTES, Activity, Cost, Number, UserError
from trainshed.hardware.schema import Chip
from trainshed.kernels.measured import Launch, launches
from trainshed.kernels.measured.times import seconds, timed
from trainshed.ops import OpCost, Rank, Tiles, together
from trainshed.ops.neuron import NeuronOps
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, each, skip

#: Words of a variant → (blocks in tiles m, n; x read per block of n; w read per block of m).
_LOOPS: dict[str, tuple[int, int, bool, bool]] = {
    "matmul_start": (1, 1, True, True), "basic tiled": (1, 1, True, True), "guide v2": (1, 1, False, True),
    "hoist": (1, 1, False, True), "block free dimensions": (2, 2, False, True), "guide v3": (2, 2, False, True),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A row with its rank and numbers."""

    row: Row
    ops: NeuronOps
    shape: Mapping[str, Any]
    options: Mapping[str, Any]
    dtype: str
    weights: str

    def size(self, *names: str) -> float:
        """Product of sizes of the shape; names that it lacks count 1, but one of them must be there."""
        found = [float(self.shape[n]) for n in names if n in self.shape]
        if not found:
            raise UserError("size not stated", where=self.row.id, value=" or ".join(names), expected="a size in shape")
        return float(np.prod(found))

    def first(self, *names: str, default: float | None = None) -> float:
        """The first of these sizes that the shape has."""
        name = next((n for n in names if n in self.shape), names[0])
        if name not in self.shape and default is not None:
            return default
        return self.size(name)

    @property
    def stored(self) -> str:
        """dtype of activations: 16 bit unless products run in fp32."""
        return self.dtype if BYTES[self.dtype] >= 2 else "bf16"

    def product(self, what: str, m: float, k: float, n: float, tiles: Tiles | None = None) -> OpCost:
        """One matrix product."""
        return self.ops.matmul(
            what=what, m=m, k=k, n=n, dtype=self.dtype, weights=self.weights, activations=self.stored, tiles=tiles
        )

    def passes(
        self,
        what: str,
        elements: float,
        *,
        vector: float,
        special: float,
        fused: bool = False,
        reads: float = 1.0,
        writes: float = 1.0,
        row: float | None = None,
    ) -> OpCost:
        """One elementwise kernel; ``row`` elements to a partition."""
        return self.ops.elementwise(
            what=what, elements=elements, reads=reads, writes=writes, vector=vector, transcendental=special,
            dtype=self.stored, fused=fused, row=row,
        )  # fmt: skip


def predict(rows: Sequence[Row], setup: Setup) -> list[Prediction]:
    """One prediction per row."""
    return each(rows, lambda row: _predict(row, setup))


def _predict(row: Row, setup: Setup) -> Prediction | Number | None:
    if row.text("comparison") == "le":
        return skip("an upper bound, not a measurement")
    made = launches(row) if row.metric in _READ else None
    name = made[0].target if made else row.text("chip")
    if name is None:
        return skip("chip not stated")
    chip = setup.catalogue.chip(name)
    if made:
        return _simulated(row, chip, made)
    family = row.text("kernel") or ""
    if chip.neuron is None:
        return skip("not a NeuronCore")
    if family not in _FAMILIES:
        return skip(f"no formula for a kernel of the family {family}")
    if row.text("dtype") is None:
        return skip("dtype not stated")
    if row.json("options").get("includes_dispatch"):
        return skip("host dispatch dominates")
    case = _case(row, chip)
    return _figure(case, chip, _FAMILIES[family](case))


#: Metrics that the clock of a virtual NeuronCore shows.
_READ = ("time_s", "mfu", "hfu", "engine_active")


def _simulated(row: Row, chip: Chip, made: Sequence[Launch]) -> Prediction | Number:
    """The figure of a row, of its kernel run without values."""
    rates = rates_of(chip)
    if row.metric == "engine_active":
        first = timed(made[0], rates)
        return first.busy.get(row.statistic, 0.0) / first.seconds
    taken = seconds(made, rates)
    if row.metric == "time_s":
        return taken
    flops = row.number("flops")
    return skip("no FLOP count") if flops is None else flops / (taken * _peak(chip, row.integer("cores") or 1))


def _case(row: Row, chip: Chip) -> _Case:
    dtype = row.text("dtype") or "bf16"
    # DeepSeek-style expert kernels keep fp8 weights and multiply in bf16; the quantised MLPs multiply in fp8
    product = "bf16" if dtype == "fp8" and (row.text("kernel") or "").startswith("moe") else dtype
    rank = Rank(chip=chip, cores=row.integer("cores") or 1)
    return _Case(
        row=row,
        ops=NeuronOps(rank, alone=True),
        shape=row.json("shape"),
        options=row.json("options"),
        dtype=product,
        weights=dtype,
    )


def _figure(case: _Case, chip: Chip, cost: OpCost) -> Prediction | Number:
    metric = case.row.metric
    seconds = cost.time.value + float(case.options.get("includes_launch_s", 0.0))
    if metric == "time_s":
        return seconds
    if metric in ("mfu", "hfu"):
        flops = case.row.number("flops")
        return skip("no FLOP count") if flops is None else flops / (seconds * _peak(chip, case.ops.rank.cores))
    if metric == "hbm_bytes":
        return cost.activity.memory.get("hbm", 0.0)
    if metric == "mbu":
        bandwidth = chip.hbm_bandwidth.value * case.ops.rank.share
        return cost.activity.memory.get("hbm", 0.0) / (seconds * bandwidth)
    if metric == "engine_active":
        return _active(cost.time, case.row.statistic) / seconds
    return skip(f"no formula for {case.row.full_metric}")


def _peak(chip: Chip, cores: int) -> Number:
    """bf16 FLOP/s of the array at its clock, which the profiler divides by."""
    core = chip.neuron
    assert core is not None
    return 2 * core.tensor_rows.value * core.tensor_columns.value * core.tensor_clock.value * cores


_ENGINES = {"tensor": "TensorE", "vector": "VectorE", "scalar": "ScalarE", "dma": "DMA"}


def _active(cost: Cost, engine: str) -> Number:
    """Seconds that an engine is busy in the operators of a tree."""
    name = _ENGINES.get(engine, engine)
    if cost.what.split(" ")[0] == name:
        return cost.value
    below: Number = 0.0
    times = dict(cost.inputs).get("times", 1.0)
    for _, child in cost.children:
        below = below + _active(child, engine)
    return below * times


def _fitted(cap: int, tiles: int) -> int:
    """The kernels take block sizes as caps: the largest divisor of the shape's tiles below."""
    return max(d for d in range(1, max(min(cap, tiles), 1) + 1) if tiles % d == 0)


def _tiles(case: _Case, m: float, k: float, n: float) -> Tiles | None:
    """The blocks that options or the variant state; None: those of a good kernel."""
    o = case.options
    if "tiles_in_block_m" in o:
        caps = (o["tiles_in_block_m"], o["tiles_in_block_n"], o["tiles_in_block_k"])
        fitted = [_fitted(int(c), int(size // t)) for c, size, t in zip(caps, (m, n, k), (128, 512, 128), strict=True)]
        return Tiles(m=128 * fitted[0], n=512 * fitted[1], k=128 * fitted[2])
    variant = case.row.text("variant") or ""
    for words, (tiles_m, tiles_n, x_again, w_again) in _LOOPS.items():
        if words in variant:
            block_m, block_n = 128 * tiles_m, 512 * tiles_n
            return Tiles(
                m=block_m, n=block_n, k=k, x_reads=np.ceil(n / block_n) if x_again else 1.0,
                w_reads=np.ceil(m / block_m) if w_again else 1.0,
            )  # fmt: skip
    return None


def _matmul(case: _Case) -> OpCost:
    m, k, widths = case.size("m"), case.size("k"), [case.size("n")]
    if "second_n" in case.shape:
        widths.append(case.size("second_n"))
    return together("matmul", [case.product("matmul", m, k, n, _tiles(case, m, k, n)) for n in widths])


def _batched(case: _Case) -> OpCost:
    return case.ops.matmul(
        what="bmm", m=case.size("m"), k=case.size("k"), n=case.size("n"), count=case.size("batch"), dtype=case.dtype,
        weights=case.weights, activations=case.stored,
    )  # fmt: skip


def _bmm_softmax(case: _Case) -> OpCost:
    scores = case.size("batch", "m", "n")
    return together(
        "bmm and softmax", [_batched(case), case.passes("softmax", scores, vector=3, special=1, fused=True)]
    )


def _rows(case: _Case) -> list[tuple[float, float]]:
    """(elements, elements of a row) of each launch: rows × columns, tokens × hidden."""
    if "rows" in case.shape:
        prefixes = ["", "second_"] if "second_rows" in case.shape else [""]
        return [(case.size(f"{p}rows") * case.size(f"{p}cols"), case.size(f"{p}cols")) for p in prefixes]
    row = case.size("hidden", "heads", "d", "channels")
    return [(case.size("batch", "seq") * row, row)]


def _elementwise(what: str, *, vector: float, special: float, reads: float = 1.0, writes: float = 1.0) -> Any:
    def cost(case: _Case) -> OpCost:
        parts = [
            case.passes(what, size, vector=vector, special=special, reads=reads, writes=writes, row=row)
            for size, row in _rows(case)
        ]
        return together(what, parts)

    return cost


def _norm_quant(case: _Case) -> OpCost:
    elements, row = _rows(case)[0]
    normed = 0.0 if case.options.get("quant_only") else 1.0
    return case.passes("quantise", elements, vector=2 + 2 * normed, special=normed, writes=0.5, row=row)


def _with_norm(case: _Case, tokens: float, hidden: float, parts: list[OpCost]) -> OpCost:
    """Operators after a fused norm of their input."""
    if case.options.get("norm", "no_norm") != "no_norm":
        parts = [case.passes("norm", tokens * hidden, vector=3, special=1, fused=True), *parts]
    return together(case.row.text("kernel") or "", parts)


def _mlp(case: _Case) -> OpCost:
    tokens, hidden, wide = case.size("batch", "seq"), case.size("hidden"), case.size("intermediate")
    gates = 2 if case.options.get("gated", 1) else 1
    up = case.product("up", tokens, hidden, gates * wide)
    act = case.passes("activation", tokens * wide, vector=gates - 1, special=1, fused=True)
    return _with_norm(case, tokens, hidden, [up, act, case.product("down", tokens, wide, hidden)])


def _qkv(case: _Case) -> OpCost:
    tokens, hidden = case.size("batch", "seq"), case.size("hidden")
    return _with_norm(case, tokens, hidden, [case.product("qkv", tokens, hidden, case.size("qkv"))])


def _lora(case: _Case) -> OpCost:
    m, k, n, r = (case.size(name) for name in ("m", "k", "n", "r"))
    return together("lora", [case.product("base", m, k, n), case.product("a", m, k, r), case.product("b", m, r, n)])


def _matmul_norm(case: _Case) -> OpCost:
    m, k, n = (case.size(name) for name in ("m", "k", "n"))
    before = (case.row.text("kernel") or "").startswith("add_")
    norm = case.passes("add and norm", m * (k if before else n), vector=4, special=1, fused=True)
    return together("matmul and norm", [case.product("matmul", m, k, n), norm])


def _experts(case: _Case) -> OpCost:
    tokens, hidden = case.size("tokens"), case.size("hidden")
    copies = tokens * case.size("topk")
    expected, blob = case.row.number("hbm_bytes_expected"), case.options.get("expert_blob_bytes")
    active = expected / float(blob) if expected and blob else min(case.size("experts"), copies)
    return case.ops.experts(
        what="experts", tokens=copies, active=active, k=hidden, n=case.size("down_rows"), gated=True,
        dtype=case.dtype, weights=case.weights,
    )  # fmt: skip


def _attention(direction: str) -> Any:
    def cost(case: _Case) -> OpCost:
        heads = case.first("heads", "q_heads", default=1.0)
        queries, dim = case.first("q", "seq", default=1.0), case.first("d", "head_dim")
        keys, batch = case.first("kv", "context", "seq"), case.first("batch", default=1.0)
        stated = case.row.number("flops")
        return case.ops.attention(
            what="attention", sequences=batch, queries=queries, keys=keys, heads=heads,
            kv_heads=case.first("heads_kv", "kv_heads", default=heads), qk_dim=dim, v_dim=dim,
            causal=bool(case.options.get("causal", 0)), dtype=case.dtype, kv=case.weights, direction=direction,
            # FLOPs count the pairs that a mask leaves
            paired=None if stated is None or direction == "backward" else stated / (4 * batch * heads * dim),
        )  # fmt: skip

    return cost


def _mamba(case: _Case) -> OpCost:
    """The tutorial's selective scan: per channel and state element a handful of VectorE passes over the sequence."""
    elements = case.size("batch", "seq", "channels", "state")
    moved = case.size("batch", "seq", "channels") * 3 / elements
    return case.passes("selective scan", elements, vector=4, special=1, reads=moved, writes=moved / 3)


def _dma(case: _Case) -> OpCost:
    size = case.size("descriptors", "partitions", "bytes_per_partition")
    rows = case.size("descriptors", "partitions")
    # a gather: rows of bytes_per_partition from HBM into SBUF
    moved = case.ops.lookup(what="gather", tokens=rows / 2, width=size / rows, dtype="fp8")
    return OpCost(time=moved.time, activity=Activity(memory={"hbm": size}), launches=moved.launches)


_FAMILIES: dict[str, Callable[[_Case], OpCost]] = {
    "matmul": _matmul, "bmm": _batched, "bmm_softmax": _bmm_softmax, "lora": _lora, "qkv": _qkv,
    "matmul_add_rmsnorm": _matmul_norm, "add_rmsnorm_matmul": _matmul_norm,
    "mlp_prefill": _mlp, "mlp_decode": _mlp, "moe_prefill": _experts, "moe_decode": _experts,
    "attention_prefill": _attention("forward"), "attention_decode": _attention("forward"),
    "attention_backward": _attention("backward"),
    "copy": _elementwise("copy", vector=0, special=0), "transpose": _elementwise("transpose", vector=1, special=0),
    "rmsnorm": _elementwise("rmsnorm", vector=3, special=1),
    "layernorm": _elementwise("layernorm", vector=4, special=1),
    "softmax": _elementwise("softmax", vector=3, special=1), "silu": _elementwise("silu", vector=1, special=1),
    "rope": _elementwise("rope", vector=3, special=0), "rmsnorm_quant": _norm_quant,
    "adamw": _elementwise("adamw", vector=10, special=1, reads=4, writes=3), "mamba": _mamba, "dma": _dma,
}  # fmt: skip
