"""Model FLOPs and peak rates: what utilisation is measured in."""

from __future__ import annotations

from trainshed.core import BYTES, Number, Plan, UserError
from trainshed.models import Model
from trainshed.ops.base import Rank
from trainshed.training.job import TrainingJob


def model_flops(model: Model, job: TrainingJob, plan: Plan) -> Number:
    """FLOPs of one step that the model needs: six per parameter and token, causal attention halved, none recomputed."""
    return model.training_flops_per_token(job.sequence) * job.sequence * job.batch(plan)


def peak_flops(rank: Rank, job: TrainingJob) -> Number:
    """Peak dense FLOP/s of one chip in the job's product dtype, or the nearest wider one that the chip has."""
    rates = rank.chip.flops
    if job.dtype in rates:
        return rates[job.dtype].value
    wider = [n for n in rates if n in BYTES and BYTES[n] >= BYTES[job.dtype]]
    if not wider:
        raise UserError(
            "the chip has no matrix rate for this dtype", where=f"chip {rank.chip.name}", value=job.dtype,
            expected=", ".join(rates),
        )  # fmt: skip
    return rates[min(wider, key=lambda n: (BYTES[n], n != "bf16"))].value
