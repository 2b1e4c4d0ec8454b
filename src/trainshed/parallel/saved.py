"""Activation bytes that the backward pass needs, op by op: the accounting of arXiv:2205.05198, section 4."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatchmethod

import numpy as np

from trainshed.core import (
    BYTES,
    Attention,
    Block,
    Dtypes,
    Elementwise,
    Experts,
    Lookup,
    Matmul,
    Number,
    Op,
    Scan,
    Shard,
)
from trainshed.parallel.layout import Layout

_Kept = tuple[Number, Number]


@dataclass(frozen=True, kw_only=True, eq=False)
class Saved:
    """Bytes kept per op of one block: (nothing recomputed, attention core recomputed).

    A product keeps its input, a norm and an activation theirs, attention its Q, K and V and, when naive, the softmax
    output and what dropout made of it. Products of the same input keep it once.
    """

    layout: Layout
    block: Block
    dtypes: Dtypes
    naive: bool
    dropout: bool
    _inputs: set[tuple[str, int]] = field(default_factory=set, init=False)

    @property
    def _size(self) -> float:
        return self.dtypes.size("activations")

    @property
    def _operand(self) -> float:
        """Bytes per element of a product's kept input: its low-precision copy where products run in one."""
        return min(self._size, BYTES[self.dtypes.of("matmul")])

    def block_input(self) -> Number:
        """Bytes of the block's input: sequence-parallel ranks keep their part."""
        op = next((o for o in self.block.ops if isinstance(o, Elementwise | Matmul)), None)
        if op is None:
            return 0.0
        width = op.width if isinstance(op, Elementwise) else op.k
        return self._shared_tokens(op) * width * self._size

    def _shared_tokens(self, op: Op) -> Number:
        """Tokens of the residual stream on this rank."""
        tokens = self.layout.tokens(op, self.block)
        return np.where(self.layout.degree("sp") > 0, tokens / self.layout.tp_of(op), tokens)

    @singledispatchmethod
    def of(self, op: Op) -> _Kept:
        """Bytes kept for the op's backward pass, without and with selective recomputation."""
        raise NotImplementedError(f"no activation accounting for {type(op).__name__}")

    @of.register
    def _matmul(self, op: Matmul) -> _Kept:
        tokens = self.layout.tokens(op, self.block)
        if op.shard is Shard.ROW:
            self._inputs.clear()
            return _both(tokens * self.layout.rows(op, self.block) * self._operand)
        key = (op.stream, op.k)
        kept: Number = 0.0
        if key not in self._inputs:
            self._inputs.add(key)
            kept = self._shared_tokens(op) * op.k * (self._size if op.shard is Shard.VOCAB else self._operand)
        if op.shard is Shard.VOCAB:  # logits, kept in fp32 for the loss
            kept = kept + tokens * op.n / self.layout.degree("tp") * 4.0
        return _both(kept)

    @of.register
    def _attention(self, op: Attention) -> _Kept:
        heads, kv_heads = self.layout.heads(op)
        queries = self.layout.sequences_of(op) * self.layout.queries(op)
        qkv = queries * (heads * op.qk_dim + kv_heads * (op.qk_dim + op.v_dim)) * self._size
        if not self.naive:
            return _both(qkv + queries * heads * 4.0)  # and the log-sum-exp of each row, fp32
        square = heads * queries * self.layout.keys(op)
        return qkv + square * (2 * self._size + 1 if self.dropout else self._size), qkv

    @of.register
    def _elementwise(self, op: Elementwise) -> _Kept:
        if op.role == "norm":
            return _both(self._elements(op) * self._size)
        if op.role == "activation":
            return _both(self._elements(op) * op.reads * self._size)
        if op.role == "residual" and self.dropout:
            return _both(self._elements(op))  # a mask of one byte
        return 0.0, 0.0

    def _elements(self, op: Elementwise) -> Number:
        split = op.shard in (Shard.COLUMN, Shard.ROW, Shard.HEADS, Shard.EXPERTS)
        return self.layout.local_tokens(op, self.block) * op.width / (self.layout.tp_of(op) if split else 1.0)

    @of.register
    def _experts(self, op: Experts) -> _Kept:
        n = op.n / self.layout.degree("etp")
        each = (op.k + n) * self._operand + n * (2 if op.gated else 1) * self._size
        return _both(self.layout.expert_copies(op, self.block) * each)

    @of.register
    def _scan(self, op: Scan) -> _Kept:
        width = op.heads * op.value_dim * 2 + op.groups * op.key_dim * 2
        return _both(self.layout.tokens(op, self.block) * width / self.layout.tp_of(op) * self._size)

    @of.register
    def _lookup(self, op: Lookup) -> _Kept:
        return _both(self._shared_tokens(op) * op.width if self.dropout else 0.0)


def _both(kept: Number) -> _Kept:
    return kept, kept
