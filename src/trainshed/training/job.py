"""What is trained: tokens, batch, number formats, optimizer; everything that is neither the machine nor the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from trainshed.core import BYTES, Dtypes, Number, Plan, UserError
from trainshed.models import Model
from trainshed.software.schema import Framework

Kind = Literal["pretrain", "sft", "lora"]

#: Tensors of optimizer state per parameter besides the master weights, by optimizer.
MOMENTS = {"adam": 2.0, "adamw": 2.0, "lamb": 2.0, "adafactor": 0.0, "sgd": 1.0, "muon": 1.0, "lion": 1.0}
#: Default global batch in sequences where there are fewer data-parallel ranks.
LEAST_BATCH = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob:
    """One optimizer step's work."""

    sequence: Number
    """Tokens per sequence; may be an array beside the plans."""
    global_batch: Number | None = None
    """Sequences per step, an array beside plans; None: the larger of 1,024 and one per data-parallel rank, rounded up
    to whole micro-batches."""
    dtype: str = "bf16"
    """What the matrix products run in; weights are stored in bf16 or fp16 where it is narrower."""
    dtypes: Dtypes | None = None
    """dtype per tensor class where the user says more."""
    optimizer: str = "adamw"
    attention: str = ""
    """``flash`` or ``naive``; "": the framework's."""
    kind: Kind = "pretrain"
    dropout: bool = False
    capacity_factor: float = 1.0
    """Expert slots per routed copy where tokens are dropped or padded; 1: exactly the routed ones."""
    adapter_share: float = 0.005
    """LoRA: trained parameters per frozen one (rank 16 on every projection of a 70B model: about 0.3 %)."""
    streams: Mapping[str, Number] = field(default_factory=dict)
    """Tokens per sequence of streams other than the main one."""

    def __post_init__(self) -> None:
        if np.any(np.asarray(self.sequence) <= 0):
            raise UserError("sequence length must be positive", where="--seq", value=self.sequence, expected="≥ 1")
        if self.global_batch is not None and np.any(np.asarray(self.global_batch) <= 0):
            raise UserError(
                "global batch must be positive", where="--global-batch", value=self.global_batch, expected="≥ 1"
            )  # fmt: skip
        if self.dtype not in BYTES:
            raise UserError("unknown dtype", where="--dtype", value=self.dtype, expected=", ".join(BYTES))
        if self.optimizer not in MOMENTS:
            raise UserError("unknown optimizer", where="optimizer", value=self.optimizer, expected=", ".join(MOMENTS))

    def number_formats(self, framework: Framework) -> Dtypes:
        """dtype of every tensor class: the user's, else what the framework keeps."""
        if self.dtypes is not None:
            return self.dtypes
        wide = self.dtype if BYTES[self.dtype] >= BYTES["bf16"] else "bf16"
        return Dtypes(
            weights=wide, activations=wide, kv=wide, matmul=self.dtype, gradients=framework.gradients,
            optimizer=framework.optimizer,
        )  # fmt: skip

    def lengths(self, model: Model) -> dict[str, Number]:
        """Tokens per sequence by stream: those the job gives, the sequence length for all others."""
        streams = {op.stream for block in model.graph.blocks for op in block.ops}
        return {**dict.fromkeys(sorted(streams), self.sequence), **self.streams}

    def batch(self, plan: Plan) -> Number:
        """Sequences per step under a plan."""
        if self.global_batch is not None:
            return np.asarray(self.global_batch, dtype=np.float64)
        each = np.asarray(plan.micro_batches_needed, dtype=np.float64)
        least = np.maximum(float(LEAST_BATCH), np.asarray(plan.dp, dtype=np.float64))
        whole: Number = np.ceil(least / each) * each
        return whole

    def micro_batches(self, plan: Plan) -> Number:
        """Micro-batches of one pipeline in one step."""
        count: Number = np.maximum(self.batch(plan) / plan.micro_batches_needed, 1.0)
        return count

    @property
    def trainable(self) -> float:
        """Trained parameters per parameter of the model."""
        return 1.0 if self.trains_all else self.adapter_share

    @property
    def trains_all(self) -> bool:
        """False where the weights are frozen and only adapters learn."""
        return self.kind != "lora"
