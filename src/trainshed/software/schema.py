"""The shape of software data: training frameworks and serving engines. Data live in ``*.toml`` beside this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainshed.core import Constant, UserError

AttentionKernel = Literal["flash", "naive"]
Dispatch = Literal["direct", "hierarchical"]

#: Mechanism → (unit, what it means). ``estimates.toml`` holds the value where nothing better is known.
FRAMEWORK_MECHANISMS: dict[str, tuple[str, str]] = {
    "gemm_share": ("1", "part of a good GEMM kernel's rate that the framework or its compiler keeps"),
    "tensor_gap": ("s", "what TensorE waits before each matmul of a compiled program (NeuronCores)"),
    "attention_share": ("1", "the same for the attention kernel it calls"),
    "expert_share": ("1", "the same for the grouped products of routed experts"),
    "elementwise_share": ("1", "the same for bandwidth-bound passes"),
    "launch": ("s", "host time per kernel launch; a kernel shorter than this costs this"),
    "step": ("s", "host time per step: data loading, logging, gradient scaling, barriers"),
    "micro_batch": ("s", "host time per micro-batch and pipeline stage"),
    "call": ("s", "host time per call of a compiled model in inference: arguments in, launch, results out"),
    "overlap_tp": ("1", "part of a TP collective that may hide behind compute which runs at the same time"),
    "overlap_dp": ("1", "the same for the gradient reduction"),
    "overlap_fsdp": ("1", "the same for FSDP's weight gathers"),
    "overlap_ep": ("1", "the same for expert dispatch and combine"),
    "overlap_pp": ("1", "the same for sends between pipeline stages"),
    "overlap_cp": ("1", "the same for the exchange of keys and values"),
    "quantise_passes": ("1", "passes over each GEMM operand to make its low-precision copies"),
}
ENGINE_MECHANISMS: dict[str, tuple[str, str]] = {
    "gemm_share": ("1", "part of a good kernel's rate that the engine keeps on whole prompts"),
    "tensor_gap": ("s", "what TensorE waits before each matmul of a compiled program (NeuronCores)"),
    "decode_share": ("1", "the same for the products of a decode step, which read weights"),
    "attention_share": ("1", "the same for its decode attention over the (paged) KV cache"),
    "expert_share": ("1", "the same for its MoE kernels"),
    "launch": ("s", "host time per kernel launched eagerly; a step is never shorter than its launches"),
    "eager_launch": ("s", "host time per kernel of a prefill pass, which is launched without a captured graph"),
    "step_host": ("s", "host time per step that no kernel hides: scheduling, sampling, graph launch"),
    "sequence_host": ("s", "the same per running sequence: token bookkeeping, detokenising, streaming"),
    "request_host": ("s", "host time of a request before its first step: HTTP, tokenising, admission"),
    "handover": ("s", "host time of handing a request from a prefill to a decode worker"),
    "collective": ("s", "time added to each collective on small messages: synchronisation of ranks"),
    "regroup": ("1", "prompts ahead of a new one because requests of equal length that ended together return together"),
    "prefill_stall": ("1", "part of a prompt's prefill that the sequences already decoding wait for"),
    "memory_fraction": ("1", "part of HBM that the engine may use"),
    "max_batch": ("count", "sequences that run at once, unless the user says otherwise"),
    "tokens_per_step": ("count", "prompt tokens that one step takes, unless the user says otherwise"),
}
Schedule = Literal["chunked", "prefill-first", "static"]
Reserve = Literal["present", "whole"]
FractionOf = Literal["all", "free"]
Bucket = Literal["none", "power-of-two", "whole"]


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

    Its ``constants`` are the mechanisms of ``FRAMEWORK_MECHANISMS``.
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
    dtype: str = "bf16"
    """What matrix products run in where nobody says."""
    zero: int = 1
    """Its usual ZeRO stage (distributed optimizer 1, FSDP 3)."""
    dispatch: Dispatch = "direct"
    """How routed tokens reach their experts: an all_to_all of all copies, or (``hierarchical``) one copy per domain of
    the fabric, forwarded inside it (DeepEP, HybridEP)."""
    dropout: bool = False
    """Its recipes train with dropout (attention and hidden)."""
    interleaves: bool = False
    """Its recipes give pipeline ranks several virtual stages."""


@dataclass(frozen=True, kw_only=True)
class Engine(Package):
    """A serving engine: how it schedules, what it keeps and pads, and what it costs besides good kernels.

    Its ``constants`` are the mechanisms of ``ENGINE_MECHANISMS``.
    """

    default_for: tuple[str, ...] = ()
    """Chip vendors for which this is what a user gets who names none."""
    schedule: Schedule = "chunked"
    """``chunked``: prompt chunks ride in decode steps; ``prefill-first``: whole prompts go before decode steps;
    ``static``: one batch is filled, prefilled and decoded to its end."""
    reserves: Reserve = "present"
    """KV memory of a sequence: ``present`` grows with its tokens, ``whole`` is kept for isl + osl from the start."""
    fraction_of: FractionOf = "all"
    """What ``memory_fraction`` is a part of: ``all`` HBM, or what the weights leave ``free`` for the cache."""
    bucket: Bucket = "none"
    """What a decode step attends: ``none`` the tokens there are; ``power-of-two`` the next compiled length;
    ``whole`` isl + osl in every step."""
    first_bucket: int = 128
    """The smallest compiled length, tokens."""
    pads_prompts: bool = False
    """Prompts are padded to a compiled length too."""
    narrows_cache: bool = False
    """The KV cache is fp8 where weights are narrower than 16 bit and nothing else is said."""
    routes_all: bool = False
    """Prefill computes every expert for every token (no token permutation in the compiled graph)."""
    reads_per_expert: int = 1
    """How often a decode step reads the experts it hits."""
    by_hand: tuple[str, ...] = ("attention",)
    """Kinds of operators (``attention``, ``experts``, ``matmul``) that run kernels written by hand on NeuronCores: free
    of the compiler's ``tensor_gap``."""
    fused: tuple[str, ...] = ("activation", "residual", "position")
    """Roles of elementwise ops that ride inside a neighbouring kernel (no HBM traffic of their own)."""
