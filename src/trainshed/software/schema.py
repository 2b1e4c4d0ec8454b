"""The shape of software data: training frameworks and serving engines. Data live in ``*.toml`` beside this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainshed.core import Constant, UserError

AttentionKernel = Literal["flash", "naive"]


@dataclass(frozen=True, kw_only=True)
class Package:
    """One version of one piece of software, with what it costs as sourced constants by mechanism."""

    name: str
    """Family and version, e.g. ``nemo-24.12``: the key of its constants (``framework/nemo-24.12.gemm_share``)."""
    family: str
    version: str
    title: str
    date: str = ""
    source: str = ""
    aliases: tuple[str, ...] = ()
    """How tables and users write the family; a text is matched to the longest alias that it starts with."""
    constants: Mapping[str, Constant] = field(default_factory=dict)
    """Constants by mechanism: own, else carried from the nearest version, else the stated estimate."""

    def fit(self, mechanism: str) -> Constant:
        """The constant of a mechanism."""
        if mechanism not in self.constants:
            known = ", ".join(sorted(self.constants))
            raise UserError("no such mechanism", where=self.name, value=mechanism, expected=f"one of {known}")
        return self.constants[mechanism]


@dataclass(frozen=True, kw_only=True)
class Framework(Package):
    """A training framework: what it fuses, overlaps and stores, and what it loses against good kernels.

    Mechanisms in ``constants`` (unit in brackets; ``estimates.toml`` says how each default was chosen):

    - ``gemm_share`` [1]: part of a good GEMM kernel's rate that the framework or its compiler keeps
    - ``attention_share`` [1]: the same for the attention kernel it calls
    - ``elementwise_share`` [1]: the same for bandwidth-bound passes
    - ``launch`` [s]: host time per kernel launch; a kernel shorter than this costs this
    - ``step`` [s]: host time per step (data loading, logging, gradient scaling, barriers)
    - ``micro_batch`` [s]: host time per micro-batch and pipeline stage
    - ``overlap_tp overlap_dp overlap_fsdp overlap_ep overlap_pp overlap_cp`` [1]: part of that collective's time that
      may hide behind compute which runs at the same time (0: never, 1: all that fits)
    - ``quantise_passes`` [1]: passes over each GEMM operand to make its low-precision copies (fp8-class dtypes only)
    """

    default_for: tuple[str, ...] = ()
    """Chip vendors for which this is what a user gets who names none."""
    attention: AttentionKernel = "flash"
    attention_made_for: str = ""
    """Chip whose matrix instructions the attention kernel uses; on a later chip it runs at that chip's
    ``legacy_share`` (a fraction of peak for the previous generation's instructions); "": the chip it runs on."""
    fused: tuple[str, ...] = ()
    """Roles of elementwise ops that ride inside a neighbouring kernel (no HBM traffic of their own)."""
    gradients: str = "fp32"
    optimizer: str = "fp32"
    """dtype of both Adam moments; the master weights are fp32 wherever weights are narrower."""
    master_weights: bool = True
    vocabulary_multiple: int = 1
    """The embedding table is padded to a multiple of this (times TP)."""
    fuses_fsdp_gather: bool = True
    """FSDP gathers one layer ahead (prefetch) rather than when the layer starts."""


@dataclass(frozen=True, kw_only=True)
class Engine(Package):
    """A serving engine: scheduling policy and host costs."""

    default_for: tuple[str, ...] = ()
