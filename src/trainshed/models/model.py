"""A loaded model: its operator graph and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, overload

from trainshed.core.constant import Number
from trainshed.core.dtypes import Dtypes
from trainshed.core.op import Graph
from trainshed.core.result import Assumption
from trainshed.models import figures
from trainshed.models.media import Media


@dataclass(frozen=True, kw_only=True)
class PublishedCount:
    """The parameter count that the makers print."""

    parameters: float
    source: str
    active: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Model:
    """An architecture with its figures; sizes in elements, bytes and FLOPs of one sequence."""

    name: str
    family: str
    source: str
    graph: Graph
    hidden: int
    layers: int
    vocab: int
    max_context: int | None = None
    dtypes: Dtypes | None = None
    """dtypes of the published checkpoint, where they are stated."""
    media: Media | None = None
    published: PublishedCount | None = None
    assumptions: tuple[Assumption, ...] = field(default=())

    @cached_property
    def parameters(self) -> int:
        """Exact parameter count, without multi-token-prediction modules."""
        return self.graph.parameters

    @cached_property
    def active_parameters(self) -> int:
        """Parameters that one token passes."""
        return figures.active_parameters(self.graph)

    def weight_bytes(self, dtypes: Dtypes, *, include_embedding: bool = True) -> float:
        """Bytes of the weights."""
        return figures.weight_bytes(self.graph, dtypes, include_embedding=include_embedding)

    @overload
    def kv_bytes(self, context: Number, kv_dtype: str = "bf16", *, per_layer: Literal[False] = False) -> Number: ...

    @overload
    def kv_bytes(self, context: Number, kv_dtype: str = "bf16", *, per_layer: Literal[True]) -> list[Number]: ...

    def kv_bytes(self, context: Number, kv_dtype: str = "bf16", *, per_layer: bool = False) -> Number | list[Number]:
        """Cache and states of one sequence of ``context`` tokens; ``per_layer``: one entry per layer of ``order``."""
        each = {b.name: figures.layer_kv_bytes(b, context, kv_dtype) for b in self.graph.blocks if b.kind == "layer"}
        layers = [each[name] for name in self.graph.order]
        return layers if per_layer else sum(layers)

    def forward_flops(
        self, tokens: Number, context: Number | None = None, causal: bool = True,
        streams: Mapping[str, Number] | None = None,
    ) -> Number:  # fmt: skip
        """FLOPs of ``tokens`` new tokens whose last sees ``context`` positions (default: all of them new)."""
        context = tokens if context is None else context
        every = {op.stream: context for b in self.graph.blocks for op in b.ops}
        return figures.forward_flops(self.graph, {**every, "tokens": tokens, **(streams or {})}, context, causal=causal)

    def training_flops_per_token(self, seq: Number) -> Number:
        """Forward and backward (twice forward), multi-token prediction included, no recomputation."""
        every = {op.stream: seq for b in self.graph.blocks for op in b.ops}
        return 3.0 * figures.forward_flops(self.graph, every, seq, training=True) / seq
