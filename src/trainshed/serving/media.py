"""Pictures, video and sound: what a denoising step or an audio token takes, and whether it keeps up with real time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainshed import economy
from trainshed.core import (
    BYTES,
    Assumption,
    Attention,
    Constant,
    Cost,
    Dtypes,
    Matmul,
    Number,
    Plan,
    PlanError,
    Result,
    UserError,
    formula,
    total,
)
from trainshed.hardware.schema import System
from trainshed.models import Media, Model
from trainshed.serving import memory, steps
from trainshed.serving.defaults import default_dtypes
from trainshed.serving.deployment import parse_plan
from trainshed.serving.steps import Step
from trainshed.serving.worker import Worker, worker
from trainshed.software import Software

#: Seconds of sound that a music model makes where the user does not say: MusicGen's training length (arXiv:2306.05284).
MUSIC_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class MediaWork:
    """What is generated; None takes the model's default."""

    frames: int | None = None
    size: str | None = None
    """Height x width of a frame, ``320x512``."""
    steps: int | None = None
    """Denoising steps."""
    fps: float | None = None
    """Frames per second of the finished video."""
    seconds: float | None = None
    """Seconds of sound."""
    batch: int = 1
    """Pictures, videos or songs that one replica makes at once."""

    def __post_init__(self) -> None:
        for name in ("frames", "steps", "fps", "seconds", "batch"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} out of range", where=f"--{name}", value=value, expected="above zero")
        self.pixels()

    def pixels(self) -> tuple[int, int] | None:
        """``size`` as height and width."""
        if self.size is None:
            return None
        match = re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", self.size.strip().lower())
        if match is None or not int(match[1]) or not int(match[2]):
            raise UserError("unreadable size", where="--size", value=self.size, expected="HEIGHTxWIDTH, e.g. 320x512")
        return int(match[1]), int(match[2])


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """One replica's work on one batch."""

    worker: Worker
    step: Step
    """One denoising step, or one step of audio tokens (at half the final context)."""
    steps: float
    time: Cost
    """Seconds from the first step to the last."""
    items: float
    """Frames, seconds of sound or pictures that the batch yields."""


def media(
    model: Model,
    system: System,
    work: MediaWork,
    *,
    chips: int,
    software: Software,
    price: Constant | None = None,
    plan: str | None = None,
    dtype: str | None = None,
) -> Result:
    """What generating takes on ``chips`` chips: the plan given, else the one that makes one batch soonest."""
    about = _media(model)
    dtypes = Dtypes.parse(dtype) if dtype else default_dtypes(model)
    engine = software.default_engine(system.chip.vendor)
    base = worker(model, system, Plan(), dtypes, engine)
    chosen = _given(base, plan, chips) if plan else fastest(base, work, chips)
    made = generation(chosen, work)
    _must_fit(made)
    return Result(
        command="serve", inputs=_inputs(model, system, work, chips, plan, dtype), cost=made.time,
        result=_figures(made, about, work, price), assumptions=_assumptions(made, about, work, plan=plan, dtype=dtype),
        details={"generation": made},
    )  # fmt: skip


def generation(chosen: Worker, work: MediaWork) -> Generation:
    """A batch on one replica; vectorised over a table of plans."""
    about = _media(chosen.model)
    sequences = float(work.batch * about.branches)
    if about.kind == "music":
        seconds = MUSIC_SECONDS if work.seconds is None else work.seconds
        count = seconds * about.audio_tokens_per_s + about.delay
        streams = about.streams()
        step = steps.decode(chosen, sequences=sequences, context=count / 2, beside={"text": streams["text"]})
        items, name = seconds * work.batch, "audio token steps"
    else:
        streams = about.streams(frames=work.frames, size=work.pixels(), seconds=work.seconds)
        step = steps.encode(chosen, sequences=sequences, streams=streams)
        count = float(work.steps or about.steps)
        items, name = float((work.frames or about.frames) * work.batch), "denoising steps"
        if about.kind == "speech":
            items = (work.seconds or 1.0) * work.batch
    time = formula(name, "s", "steps * step", steps=count, step=step.time)
    return Generation(worker=chosen, step=step, steps=count, time=time, items=items)


def fastest(base: Worker, work: MediaWork, chips: int) -> Worker:
    """The powers of two of tensor and context parallelism with the shortest time for one batch, and replicas of it."""
    ranks = max(int(chips * base.ranks_per_chip), 1)
    heads = _heads(base.model)
    music = _media(base.model).kind == "music"
    pairs = [
        (tp, cp)
        for tp in _powers(ranks)
        for cp in ([1] if music else _powers(ranks // tp))
        if all(h % tp == 0 for h in heads)
    ]
    table = replace(base, plan=Plan(tp=np.array([p[0] for p in pairs]), cp=np.array([p[1] for p in pairs])))
    made = generation(table, work)
    fits = np.broadcast_to(_held(made)[0] <= np.asarray(memory.capacity(table).value), (len(pairs),))
    time = np.broadcast_to(np.asarray(made.time.value), (len(pairs),))
    best = int(np.argmin(np.where(fits, time, np.inf))) if fits.any() else len(pairs) - 1
    tp, cp = pairs[best]
    return replace(base, plan=Plan(tp=tp, cp=cp, replicas=ranks // (tp * cp)))


def _powers(most: int) -> list[int]:
    return [2**i for i in range(max(most, 1).bit_length())]


def _heads(model: Model) -> list[int]:
    found = {op.heads for b in model.graph.blocks for op in b.ops if isinstance(op, Attention)}
    return sorted(found)


def _media(model: Model) -> Media:
    if model.media is None:
        raise UserError("a model of text", where="model", value=model.name, expected="one of pictures, video or sound")
    return model.media


def _given(base: Worker, plan: str, chips: int) -> Worker:
    plans = parse_plan(plan)
    if "" not in plans:
        raise PlanError("phases in a plan for media", where="--plan", value=plan, expected="one plan, e.g. tp4 cp2")
    chosen = replace(base, plan=plans[""])
    if bad := [h for h in _heads(base.model) if h % int(plans[""].tp)]:
        raise PlanError("tp does not divide the heads", where="--plan", value=plan, expected=f"a divisor of {bad[0]}")
    own = float(chosen.ranks * chosen.share)
    if own * float(chosen.replicas) > chips:
        raise PlanError("a plan of more chips than there are", where="--plan", value=plan, expected=f"{chips} chips")
    if chosen.plan.replicas == 1:
        chosen = replace(chosen, plan=chosen.plan.replace(replicas=max(int(chips // own), 1)))
    return chosen


def _held(made: Generation) -> tuple[Number, dict[str, Number]]:
    """Bytes per rank: weights, the largest operator's inputs and outputs, caches of a music model."""
    runner, layout_work = made.worker, made.step.work
    weights = memory.weights(runner, layout_work)
    about, width = _media(runner.model), BYTES[runner.dtypes.of("activations")]
    widest = max(
        ((op.k + op.n, op.stream) for b in runner.model.graph.blocks for op in b.ops
         if isinstance(op, Matmul) and not op.per_sequence), default=(0, "tokens"),
    )  # fmt: skip
    passed = made.step_tokens(widest[1]) if about.kind != "music" else float(about.branches)
    activations = passed * widest[0] * width / (runner.degree("tp") * runner.degree("cp"))
    parts: dict[str, Number] = {"weights": weights, "activations": activations}
    if about.kind == "music":
        cached = memory.cache(runner, made.steps) * about.branches
        parts["kv_cache"] = cached
    return sum(parts.values(), np.zeros(())), parts
