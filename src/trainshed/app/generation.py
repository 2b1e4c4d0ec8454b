"""``serve`` and ``explain`` of pictures, video and sound: options to figures, with evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainshed.app.machine import Machine
from trainshed.core import Dtypes, Evidence, Number, Result
from trainshed.models import Model, load
from trainshed.serving import default_dtypes
from trainshed.serving.media import MediaWork, media
from trainshed.validate.evidence import evidence_for, together
from trainshed.validate.labels import DTYPE_CLASS

#: Kind of medium → job and phase of the measurements that are most like it (``validate.labels``).
ALIKE = {
    "video": ("forward", "diffusion"), "image": ("forward", "diffusion"), "music": ("serving", "decode"),
    "vision": ("forward", "transformer"), "speech": ("forward", "transformer"),
    "text": ("forward", "transformer"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What is generated, on what."""

    model: Model
    machine: Machine
    work: MediaWork
    plan: str | None = None
    dtype: str | None = None
    engine: str | None = None


def generates(model: str) -> bool:
    """Whether the model makes or reads pictures, video or sound."""
    return load(model).media is not None


def serve(asked: Generation) -> Result:
    """Step time, rate and real-time factor."""
    result = _run(asked)
    return replace(
        result, inputs={**asked.machine.said, **result.inputs}, evidence=_evidence(asked, result),
        assumptions=(*asked.machine.assumptions, *result.assumptions),
    )  # fmt: skip


def _run(asked: Generation) -> Result:
    machine = asked.machine
    return media(
        asked.model, machine.system, asked.work, chips=machine.chips, software=machine.software, price=machine.price,
        plan=asked.plan, dtype=asked.dtype, engine=asked.engine,
    )  # fmt: skip


def _evidence(asked: Generation, result: Result) -> Evidence:
    about = asked.model.media
    assert about is not None
    job, phase = ALIKE[about.kind]
    stored = Dtypes.parse(asked.dtype) if asked.dtype else default_dtypes(asked.model)
    figures: Any = result.result
    found = evidence_for(
        chip=figures["chip"], job=job, phase=phase, moe=False, metric="step_time_s",
        dtype_class=DTYPE_CLASS[stored.of("weights")], value=figures["step_time_s"], catalogue=asked.machine.catalogue,
    )  # fmt: skip
    return together("step_time_s", {"step_time_s": found})


def root(asked: Generation, plan: str, values: Mapping[str, Number]) -> Number:
    """Seconds of one batch with constants replaced: what a sensitivity evaluates."""
    cost = _run(replace(asked, machine=asked.machine.replaced(values), plan=plan)).cost
    assert cost is not None
    return np.asarray(cost.value, dtype=np.float64)
