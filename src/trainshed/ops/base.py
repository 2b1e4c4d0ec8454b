"""What an operator costs on a device: the records and the protocol that every kind of chip fills in.

A rank is one GPU or one logical NeuronCore. ``device(rank)`` gives the operators of its chip; their costs are those of
a good kernel on that chip. What a framework, engine or compiler loses against it is data in ``software``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

from trainshed.core.activity import NOTHING, Activity
from trainshed.core.constant import Constant, Number
from trainshed.core.cost import Cost, scaled, total
from trainshed.core.errors import UserError, unknown_name
from trainshed.hardware.schema import Chip


@dataclass(frozen=True, kw_only=True)
class Rank:
    """The part of a chip that one rank owns."""

    chip: Chip
    cores: int = 1
    """Physical NeuronCores of the rank (its LNC); 1 on chips without cores of their own."""
    tensor_gap: Constant | None = None
    """Seconds that TensorE waits before each matmul in the programs of the rank's compiler (software); None: none."""
    by_hand: tuple[str, ...] = ("attention",)
    """Kinds of operators (``attention``, ``experts``, ``matmul``) whose kernels have no such gaps: written by hand."""
    product_share: Constant | None = None
    """Part of the peak that the library's kernels reach in these products at most; None: tiles and waves decide."""

    def __post_init__(self) -> None:
        most = int(float(self.chip.cores.value))
        if not 1 <= self.cores <= most:
            raise UserError(
                "cores of one rank out of range", where=f"chip {self.chip.name}", value=self.cores,
                expected=f"1 to {most}",
            )  # fmt: skip

    @property
    def share(self) -> float:
        """Fraction of the chip's HBM bandwidth, HBM capacity and peak FLOP/s that belongs to this rank."""
        return self.cores / float(self.chip.cores.value)


@dataclass(frozen=True, kw_only=True, eq=False)
class OpCost:
    """Time of an operator on one rank, what it made the chip do, and how many kernels it launches."""

    time: Cost
    activity: Activity = NOTHING
    launches: Number = 1.0

    def scaled(self, times: Number, what: str | None = None) -> OpCost:
        """The operator run ``times`` times, one after another."""
        return OpCost(
            time=scaled(what or self.time.what, self.time, times), activity=self.activity.scaled(times),
            launches=self.launches * times,
        )  # fmt: skip


def together(what: str, parts: Sequence[OpCost]) -> OpCost:
    """Operators that follow one another, as one."""
    launches: Number = 0.0
    for part in parts:
        launches = launches + part.launches
    return OpCost(
        time=total(what, [p.time for p in parts], unit="s"),
        activity=reduce(lambda a, b: a + b, (p.activity for p in parts), NOTHING),
        launches=launches,
    )


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Blocks of a matmul kernel on a NeuronCore, in rows and columns of the operands of y[m, n] = x[m, k] · w[k, n].

    As in AWS's tutorial kernels x is stored as [k, m]; partial sums over blocks of k are added in SBUF by VectorE.
    """

    m: Number
    n: Number
    k: Number
    x_reads: Number | None = None
    """How often x is read from HBM; None: once per block of n, as in the fully blocked tutorial kernel."""
    w_reads: Number = 1.0
    """How often w is read from HBM."""


class DeviceOps(Protocol):
    """Operators of one rank. Sizes are per rank and may be arrays; dtypes are keys of ``core.dtypes.BYTES``."""

    @property
    def rank(self) -> Rank:
        """The rank that these costs belong to."""

    def matmul(
        self,
        *,
        what: str,
        m: Number,
        k: Number,
        n: Number,
        count: Number = 1.0,
        dtype: str,
        weights: str,
        activations: str = "bf16",
        tiles: Tiles | None = None,
        read_weights: bool = True,
    ) -> OpCost:
        """``count`` equal products y[m, n] = x[m, k] · w[k, n].

        ``dtype`` is what the products run in; ``weights`` and ``activations`` are how the operands are stored.
        ``read_weights=False``: the weights are on chip already.
        """

    def experts(
        self,
        *,
        what: str,
        tokens: Number,
        active: Number,
        k: Number,
        n: Number,
        gated: bool,
        dtype: str,
        weights: str,
        activations: str = "bf16",
    ) -> OpCost:
        """Expert MLPs k → n (gated: two) → k of ``tokens`` routed copies, even over ``active`` experts read here."""

    def attention(
        self,
        *,
        what: str,
        sequences: Number,
        queries: Number,
        keys: Number,
        heads: Number,
        kv_heads: Number,
        qk_dim: Number,
        v_dim: Number,
        causal: bool,
        dtype: str,
        kv: str,
        latent: Number = 0,
        paired: Number | None = None,
        direction: str = "forward",
    ) -> OpCost:
        """softmax(q · kᵀ) · v for ``sequences`` of ``queries`` tokens over ``keys`` attended tokens each.

        ``causal`` halves the square where queries == keys. ``paired``: query-key pairs per sequence and head where
        masks make them fewer. ``latent``: width of an MLA cache that all heads share. ``kv``: dtype of the cache.
        ``direction="backward"``: the backward pass.
        """

    def elementwise(
        self,
        *,
        what: str,
        elements: Number,
        reads: Number,
        writes: Number,
        vector: Number,
        transcendental: Number,
        dtype: str,
        fused: bool = False,
    ) -> OpCost:
        """Norms, activations, residuals: per element ``reads``/``writes`` tensors and engine operations.

        ``fused``: inside another kernel, without HBM traffic or a launch of its own.
        """

    def scan(
        self,
        *,
        what: str,
        tokens: Number,
        heads: Number,
        key_dim: Number,
        value_dim: Number,
        groups: Number,
        conv_width: Number,
        conv_channels: Number,
        chunk: Number,
        sequences: Number,
        dtype: str,
        direction: str = "forward",
    ) -> OpCost:
        """A linear recurrence over ``tokens`` tokens in all, ``sequences`` states of heads × key_dim × value_dim."""

    def lookup(self, *, what: str, tokens: Number, width: Number, dtype: str) -> OpCost:
        """One row of ``width`` elements per token from a table in HBM."""

    def copy(self, *, what: str, size: Number) -> OpCost:
        """``size`` bytes from HBM to HBM."""


_KINDS: dict[str, Callable[[Rank], DeviceOps]] = {}


def implements(*architectures: str) -> Callable[[Callable[[Rank], DeviceOps]], Callable[[Rank], DeviceOps]]:
    """Class decorator: this DeviceOps serves chips of these architectures (``neuroncore``, ``gpu``, ``tpu``)."""

    def register(kind: Callable[[Rank], DeviceOps]) -> Callable[[Rank], DeviceOps]:
        _KINDS.update(dict.fromkeys(architectures, kind))
        return kind

    return register


def device(rank: Rank) -> DeviceOps:
    """The operators of a rank's chip."""
    if rank.chip.architecture not in _KINDS:
        raise unknown_name("architecture", rank.chip.architecture, _KINDS, where=f"chip {rank.chip.name}")
    return _KINDS[rank.chip.architecture](rank)
