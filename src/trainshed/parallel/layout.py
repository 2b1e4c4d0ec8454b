"""How a plan splits tokens, heads, widths and experts over ranks: pure arithmetic on (arrays of) degrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainshed.core import Attention, Block, Experts, Matmul, Number, Op, Plan, Scan, Shard, UserError
from trainshed.parallel.work import Phase

#: Roles that attention data parallelism (dpa) runs on tp / dpa ranks instead of tp.
#: Shared experts go with it: with attention data parallelism engines keep copies of them (SGLang, TensorRT-LLM).
_ATTENTION_ROLES = frozenset({"attention", "position", "state_space", "shared_experts"})
#: Column-parallel products of keys and values alone, by the model readers' names.
_KV_NAMES = frozenset({"k", "v", "kv"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The share of one rank: ``sequences`` of each stream's tokens per model replica and micro-batch."""

    plan: Plan
    phase: Phase
    streams: Mapping[str, Number]
    """Tokens per sequence that are computed, by stream."""
    sequences: Number
    context: Number | None = None
    """KV tokens that a query attends (its own among them); None: the stream's own tokens."""

    def length(self, stream: str) -> Number:
        """Tokens per sequence of a stream."""
        if stream not in self.streams:
            raise UserError(
                "the model has a stream of tokens that the workload does not give", where="workload", value=stream,
                expected=f"tokens of {', '.join(self.streams)} only",
            )  # fmt: skip
        return self.streams[stream]

    def degree(self, name: str) -> Number:
        """A degree of the plan as floats."""
        return np.asarray(getattr(self.plan, name), dtype=np.float64)

    def tp_of(self, op: Op) -> Number:
        """Ranks that share the op."""
        if op.role in _ATTENTION_ROLES:
            return np.maximum(self.degree("tp") / self.degree("dpa"), 1.0)
        return self.degree("tp")

    def sequences_of(self, op: Op) -> Number:
        """Sequences that pass the op on this rank (attention data parallelism splits the batch)."""
        return self.sequences / self.degree("dpa") if op.role in _ATTENTION_ROLES else self.sequences

    def tokens(self, op: Op, block: Block) -> Number:
        """Tokens that pass the op on its tensor-parallel group, sequence parallelism not yet applied."""
        if isinstance(op, Matmul) and op.per_sequence:
            return self.sequences
        if self.phase == "prefill" and block.kind == "head":
            return self.sequences * 1.0
        return self.sequences_of(op) * self.length(op.stream) / self.degree("cp")

    def local_tokens(self, op: Op, block: Block) -> Number:
        """The same on this rank: where sp is on, ops whose weights are whole on every rank see 1/tp of them."""
        tokens = self.tokens(op, block)
        if op.shard in (Shard.SEQUENCE, Shard.REPLICATED):
            return np.where(self.degree("sp") > 0, tokens / self.tp_of(op), tokens)
        return tokens

    def per_tp(self, width: Number, degree: Number) -> Number:
        """A width split over ranks, padded up to a whole number of columns."""
        return np.ceil(width / degree)

    def heads(self, op: Attention) -> tuple[Number, Number]:
        """Query and KV heads per rank: padded up, KV heads replicated once tp exceeds them."""
        tp = self.tp_of(op)
        return np.ceil(op.heads / tp), np.maximum(np.ceil(op.kv_heads / tp), 1.0)

    def scan_heads(self, op: Scan) -> tuple[Number, Number]:
        """State heads and groups per rank."""
        tp = self.tp_of(op)
        return np.ceil(op.heads / tp), np.maximum(np.ceil(op.groups / tp), 1.0)

    def columns(self, op: Matmul, block: Block) -> Number:
        """Output columns per rank of a column-parallel product: heads stay whole, KV heads are replicated."""
        tp = self.tp_of(op)
        attention = next((o for o in block.ops if isinstance(o, Attention)), None)
        if op.role != "attention" or attention is None:
            return self.per_tp(op.n, tp)
        heads, kv_heads = self.heads(attention)
        if op.name in _KV_NAMES:
            return op.n / attention.kv_heads * kv_heads
        shared = attention.kv_heads * (attention.qk_dim + attention.v_dim) if op.name == "qkv" else 0
        return (op.n - shared) / attention.heads * heads + shared / attention.kv_heads * kv_heads

    def rows(self, op: Matmul, block: Block) -> Number:
        """Contraction rows per rank of a row-parallel product."""
        tp = self.tp_of(op)
        attention = next((o for o in block.ops if isinstance(o, Attention)), None)
        if op.role != "attention" or attention is None:
            return self.per_tp(op.k, tp)
        return op.k / attention.heads * self.heads(attention)[0]

    def expert_copies(self, op: Experts, block: Block) -> Number:
        """Routed token copies that this rank computes (balanced routing), each over 1/etp of an expert's width."""
        return self.tokens(op, block) / self.degree("tp") * op.top_k * self.degree("etp")

    def active_experts(self, op: Experts, block: Block, distinct: Number | None = None) -> Number:
        """Distinct experts of this rank that the tokens of its expert group hit, in expectation.

        With T tokens each choosing k of E experts at random, an expert is hit with probability 1 − (1 − k/E)^T. Only
        ``distinct`` tokens choose, where a batch repeats them.
        """
        local = np.maximum(op.experts / self.degree("ep"), 1.0)
        group = self.tokens(op, block) / self.degree("tp") * self.degree("ep") * self.degree("etp")
        group = group if distinct is None else np.minimum(group, distinct)
        return local * (1.0 - (1.0 - min(op.top_k / op.experts, 1.0)) ** group)

    def pairs(self, op: Attention) -> Number:
        """Query-key pairs per sequence, head and rank: masks, windows and context parallelism applied."""
        queries = self._queries(op)
        keys = self.keys(op)
        if not op.causal or op.memory:
            return queries * keys / self.degree("cp")
        before = keys - queries
        window = float((op.window or op.selected or 0) * op.stride)
        full = queries * before + queries * (queries + 1) / 2
        if not window:
            return full / op.stride / self.degree("cp")
        # queries whose window is still growing, and those that see all of it
        growing = np.clip(window - before, 0.0, queries)
        inside = growing * before + growing * (growing + 1) / 2 + (queries - growing) * window
        seen: Number = np.minimum(inside, full) / op.stride / self.degree("cp")
        return seen

    def keys(self, op: Attention) -> Number:
        """Tokens that keys and values come from, per sequence (windows not applied)."""
        if op.memory:
            return self.length(op.memory)
        own = self._queries(op)
        return own if self.context is None else np.maximum(own, self.context)

    def attended(self, op: Attention) -> Number:
        """Tokens of the cache that the op reads: a window or a selection caps them."""
        keys = self.keys(op)
        cap = float((op.window or op.selected or 0) * op.stride)
        kept: Number = np.minimum(keys, cap + self._queries(op) - 1) if cap else keys
        return kept / op.stride

    def _queries(self, op: Attention) -> Number:
        length = self.length(op.stream)
        for stream in op.also:
            length = length + self.length(stream)
        return length

    def queries(self, op: Attention) -> Number:
        """Query tokens per sequence on this rank (context parallelism splits them)."""
        return self._queries(op) / self.degree("cp")
