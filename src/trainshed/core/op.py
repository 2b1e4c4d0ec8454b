"""Operators of a model's graph, before any plan: what ``models/`` hands to ``parallel/``.

Shapes are per token of the op's ``stream`` (a count of tokens that the workload gives: ``tokens`` for a language model,
``image``/``text``/``audio`` in diffusion transformers, ``encoder`` in encoder-decoders). Nothing here knows of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Shard(Enum):
    """How tensor parallelism splits an op (Megatron-LM, arXiv:1909.08053)."""

    COLUMN = "column"
    """n / tp; the backward pass needs a reduction of the input gradient (gather with sequence parallel)."""
    ROW = "row"
    """k / tp; the output needs a reduction."""
    HEADS = "heads"
    """Attention heads (and states) / tp; KV heads are replicated once tp exceeds them."""
    EXPERTS = "experts"
    """Experts / ep, and inside them etp."""
    VOCAB = "vocab"
    """Embedding and head: vocabulary / tp."""
    SEQUENCE = "sequence"
    """Tokens / tp with sequence parallel, replicated without."""
    REPLICATED = "replicated"


@dataclass(frozen=True, kw_only=True)
class Op:
    """Fields that every operator has."""

    name: str
    """Unique within its block, in the field's words: ``qkv``, ``attention``, ``attention_out``, ``mlp_up``, …"""
    role: str
    """``attention``, ``mlp``, ``experts``, ``shared_experts``, ``router``, ``norm``, ``residual``, ``position``,
    ``activation``, ``embedding``, ``head``, ``conditioning``, ``state_space``."""
    shard: Shard
    stream: str = "tokens"
    parameters: int = 0
    """Exact number of parameters, biases included; 0 where the weights are tied to those of another op."""


@dataclass(frozen=True, kw_only=True)
class Matmul(Op):
    """y[tokens, n] = x[tokens, k] · w[k, n]."""

    k: int
    n: int
    bias: bool = False
    per_sequence: bool = False
    """Applied once per sequence, not per token (adaLN modulation, pooled heads)."""


@dataclass(frozen=True, kw_only=True)
class Experts(Op):
    """Routed experts: each token passes ``top_k`` of ``experts`` MLPs k → n (up, gated) → k (down)."""

    experts: int
    top_k: int
    k: int
    n: int
    """Expert intermediate size."""
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Attention(Op):
    """softmax(q · kᵀ) · v over ``heads`` query and ``kv_heads`` key/value heads."""

    heads: int
    kv_heads: int
    qk_dim: int
    v_dim: int
    causal: bool = True
    window: int | None = None
    """Sliding window (or chunk) in tokens; None: full."""
    sinks: bool = False
    latent: int = 0
    """MLA: KV-cache width per token shared by all heads (kv_lora_rank + rope); 0: ordinary K and V per head."""
    selected: int = 0
    """Sparse attention: keys that an indexer keeps per query; 0: all."""
    index_dim: int = 0
    """Width of the indexer's own cached key per token (sparse attention)."""
    index_heads: int = 0
    """Heads of the indexer that scores every cached token for this layer; 0: another layer's choice is used."""
    stride: int = 1
    """Tokens per key of a compressed cache (one key and value stand for ``stride`` tokens)."""
    memory: str = ""
    """Stream that keys and values come from when not the op's own (cross-attention); "" is self-attention."""
    cached: bool = True
    """Keeps a KV cache of its own (False: shares another layer's, or never decodes)."""
    also: tuple[str, ...] = ()
    """Further streams whose tokens join queries and keys (joint attention of image and text tokens)."""


@dataclass(frozen=True, kw_only=True)
class Elementwise(Op):
    """Norms, activations, residuals, rotary positions: ``width`` elements per token."""

    width: int
    reads: float
    """Tensors of that width read per token (from HBM if nothing is fused)."""
    writes: float
    vector: float = 1.0
    """Elementary vector operations per element."""
    transcendental: float = 0.0
    """exp, gelu, rsqrt … per element."""


@dataclass(frozen=True, kw_only=True)
class Scan(Op):
    """Linear recurrences (Mamba-2, gated delta net, RG-LRU): ``heads`` states of key_dim × value_dim."""

    heads: int
    key_dim: int
    value_dim: int
    groups: int = 1
    conv_width: int = 0
    conv_channels: int = 0
    chunk: int = 128


@dataclass(frozen=True, kw_only=True)
class Lookup(Op):
    """An embedding table rows × width: reads one row per token."""

    rows: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """Equal blocks: ``kind`` is ``embedding``, ``layer``, ``head`` or ``extra`` (once per sequence or step)."""

    name: str
    kind: str
    ops: tuple[Op, ...]
    count: int = 1
    side_by_side: bool = False
    """Attention and MLP read the same input and are reduced together (GPT-J, PaLM, Falcon)."""
    train_only: bool = False
    """Multi-token-prediction heads: present in training, not in plain serving."""

    @property
    def parameters(self) -> int:
        """Parameters of all ``count`` blocks."""
        return self.count * sum(op.parameters for op in self.ops)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model as blocks in the order data flows; ``order`` is the sequence of layer blocks by name, one per layer."""

    blocks: tuple[Block, ...]
    order: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Exact parameter count (blocks that only training has are left out)."""
        return sum(b.parameters for b in self.blocks if not b.train_only)

    def block(self, name: str) -> Block:
        """The block of that name."""
        return next(b for b in self.blocks if b.name == name)
