"""Pictures, video and sound: what a denoising step or an audio token takes, and whether it keeps up with real time."""

from __future__ import annotations

import math
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
    scaled,
)
from trainshed.hardware.schema import Pool, System
from trainshed.models import Media, Model
from trainshed.parallel.work import add_up
from trainshed.serving import memory, steps
from trainshed.serving.defaults import default_dtypes
from trainshed.serving.deployment import parse_plan
from trainshed.serving.steps import Step
from trainshed.serving.worker import Worker, worker
from trainshed.software import Software

#: Seconds of sound that a music model makes where the user does not say: MusicGen's training length (arXiv:2306.05284).
MUSIC_SECONDS = 30.0


#: What a pass is, where it is a step of something.
_PASSES = {"image": "denoising steps", "video": "denoising steps"}


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
    tokens: int | None = None
    """Tokens of a text that an encoder reads."""
    branches: int | None = None
    """Passes per step: 2 with classifier-free guidance, 1 without or where it is distilled."""
    batch: int = 1
    """Pictures, videos or songs that one replica makes at once."""

    def __post_init__(self) -> None:
        for name in ("frames", "steps", "fps", "seconds", "tokens", "branches", "batch"):
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
    sequences: float
    """Passes that run as one batch: items of the batch times guidance branches."""
    streams: Mapping[str, Number]
    """Tokens per sequence of every stream."""
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
    engine: str | None = None,
) -> Result:
    """What generating takes on ``chips`` chips: the plan given, else the one that makes one batch soonest."""
    about = _media(model)
    dtypes = Dtypes.parse(dtype) if dtype else default_dtypes(model)

    def on(pool: Pool) -> Generation:
        runs = software.engine(engine) if engine else software.default_engine(pool.chip.vendor)
        base = worker(model, system, Plan(), dtypes, runs, pool=pool.name)
        own = min(chips, pool.chips * math.ceil(chips / sum(p.chips for p in system.pools)))
        return generation(_given(base, plan, own) if plan else fastest(base, work, own), work)

    made = min((on(pool) for pool in system.pools), key=lambda g: float(np.max(g.time.value)))
    _must_fit(made)
    return Result(
        command="serve", inputs=_inputs(model, system, work, chips, plan, dtype), cost=made.time,
        result=_figures(made, about, work, price), assumptions=_assumptions(made, about, work, plan=plan, dtype=dtype),
        details={"generation": made},
    )  # fmt: skip


def generation(chosen: Worker, work: MediaWork) -> Generation:
    """A batch on one replica; vectorised over a table of plans."""
    about = _media(chosen.model)
    if work.tokens is not None and about.kind != "text":
        raise UserError("no encoder of text", where="--isl", value=chosen.model.name, expected="--frames, --size, …")
    sequences = float(work.batch * (work.branches or about.branches))
    if about.kind == "music":
        seconds = MUSIC_SECONDS if work.seconds is None else work.seconds
        count = seconds * about.audio_tokens_per_s + about.delay
        streams = about.streams()
        step = steps.decode(chosen, sequences=sequences, context=count / 2, beside={"text": streams["text"]})
        items, name = seconds * work.batch, "audio token steps"
    else:
        streams = about.streams(
            frames=work.frames, size=work.pixels(), seconds=work.seconds, text_tokens=work.tokens
        )  # fmt: skip
        step = steps.encode(chosen, sequences=sequences, streams=streams)
        count = float(work.steps or about.steps)
        items, name = float((work.frames or about.frames) * work.batch), _PASSES.get(about.kind, "passes")
        if about.kind == "speech":
            items = (work.seconds or 1.0) * work.batch
    time = scaled(f"{count:g} {name}", step.time, count)
    return Generation(
        worker=chosen, sequences=sequences, streams=streams, step=step, steps=count, time=time, items=items
    )


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
    best = int(np.argmin(np.where(fits, time, np.inf)))  # where none fits, the answer says so of the first
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
    """Bytes per rank: weights, the widest operator's inputs and outputs, caches of a music model."""
    runner = made.worker
    split = runner.degree("tp") * runner.degree("cp")
    widths = [
        (op.k + op.n) * made.streams[op.stream]
        for b in runner.model.graph.blocks
        for op in b.ops
        if isinstance(op, Matmul) and not op.per_sequence
    ]
    widest = max(float(np.max(w)) for w in widths)
    parts: dict[str, Number] = {
        "weights": memory.weights(runner, made.step.work),
        "activations": made.sequences * widest * BYTES[runner.dtypes.of("activations")] / split,
    }
    if _media(runner.model).kind == "music":
        parts["kv_cache"] = memory.cache(runner, made.steps) * made.sequences
    return add_up(parts.values()), parts


def _must_fit(made: Generation) -> None:
    held, room = float(np.max(_held(made)[0])), float(np.max(memory.capacity(made.worker).value))
    if held > room:
        raise UserError(
            "the model does not fit", where="--plan", value=str(made.worker.plan),
            expected=f"more ranks or narrower weights ({held / 1e9:.1f} GB per rank, {room / 1e9:.1f} GB usable)",
        )  # fmt: skip


def _figures(made: Generation, about: Media, work: MediaWork, price: Constant | None) -> dict[str, Any]:
    """The ``result`` object: rates of all replicas, the real-time factor of one item."""
    runner = made.worker
    replicas, chips = float(runner.replicas), float(runner.chips)
    seconds = float(np.max(made.time.value))
    per_s = made.items / seconds * replicas
    figures: dict[str, Any] = {
        "step_time_s": float(np.max(made.step.time.value)), "steps": made.steps, "generation_time_s": seconds,
        **_rates(made, about, work, per_s), "chips": round(chips), "chip": runner.chip.name,
        "plan": str(runner.plan),
    }  # fmt: skip
    held, parts = _held(made)
    per_chip = runner.ranks_per_chip
    figures["memory_per_chip_bytes"] = float(np.max(held)) * per_chip
    figures["memory_breakdown_bytes"] = {name: float(np.max(size)) * per_chip for name, size in parts.items()}
    watts = _power(made)
    figures["power_w"] = watts
    each = _unit(about)
    figures[f"energy_per_{each}_j"] = None if watts is None else watts / per_s
    dollars = None if price is None else float(np.max(price.value)) * chips / 3600.0
    figures[f"usd_per_thousand_{each}s"] = None if dollars is None else dollars / per_s * 1000.0
    return figures


def _unit(about: Media) -> str:
    units = {"video": "frame", "music": "audio_second", "speech": "audio_second", "text": "inference"}
    return units.get(about.kind, "image")


def _rates(made: Generation, about: Media, work: MediaWork, per_s: float) -> dict[str, float | None]:
    """Rates in the unit of the medium; the real-time factor is that of one item: 1 keeps up with its playing."""
    seconds = float(np.max(made.time.value))
    if about.kind in ("music", "speech"):
        return {"audio_s_per_s": per_s, "real_time_factor": made.items / work.batch / seconds}
    chips = float(made.worker.chips)
    if about.kind != "video":
        unit = _unit(about)
        return {f"{unit}s_per_s": per_s, f"{unit}s_per_s_per_chip": per_s / chips}
    fps = work.fps or about.fps
    frames = float(work.frames or about.frames)
    return {
        "frames_per_s": per_s, "frames_per_s_per_chip": per_s / chips,
        "real_time_factor": None if fps is None else frames / fps / seconds,
    }  # fmt: skip


def _power(made: Generation) -> float | None:
    """Watts of chips, hosts and switches."""
    runner = made.worker
    activity, seconds = made.step.activity, made.step.time.value
    chips = economy.power(
        runner.chip, activity, seconds, ranks=runner.ranks * runner.replicas, chips=runner.chips
    )  # fmt: skip
    beside = economy.overhead(runner.system, runner.chips, 1.0)
    if chips is None or beside is None:
        return None
    return float(np.max(chips.value)) + float(np.max(beside.value))


def _inputs(
    model: Model, system: System, work: MediaWork, chips: int, plan: str | None, dtype: str | None
) -> dict[str, Any]:
    said = {
        "model": model.name, "on": system.name, "chips": chips, "frames": work.frames, "size": work.size,
        "steps": work.steps, "fps": work.fps, "seconds": work.seconds, "isl": work.tokens,
        "branches": work.branches, "batch": work.batch, "plan": plan, "dtype": dtype,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def _assumptions(
    made: Generation, about: Media, work: MediaWork, *, plan: str | None, dtype: str | None
) -> tuple[Assumption, ...]:
    """What the answer rests on that the user did not say."""
    model, engine = made.worker.model, made.worker.engine
    said = [
        Assumption(what="engine", value=engine.name, status="given", source=engine.source),
        Assumption(what="tokens per sequence", value=dict(made.streams), status="derived", source=about.source),
        Assumption(what="guidance branches", value=work.branches or about.branches, unit="count",
                   status="given" if work.branches else "published", source=about.source),
        Assumption(what="left out", value=_left_out(about), source="the transformer's steps alone are priced"),
    ]  # fmt: skip
    if dtype is None:
        source = f"checkpoint of {model.name}" if model.dtypes else "nobody states another"
        said.append(Assumption(what="dtypes", value=str(made.worker.dtypes), source=source))
    if plan is None:
        said.append(Assumption(what="plan", value=str(made.worker.plan), source="soonest single batch on these chips"))
    defaults = {"steps": about.steps, "frames": about.frames, "size": "x".join(map(str, about.size)), "fps": about.fps}
    asked = {"steps", "frames", "size", "fps"} if about.kind == "video" else {"steps", "size"}
    if about.kind in ("image", "video"):
        said += [
            Assumption(what=name, value=value, status="published", source=about.source)
            for name, value in defaults.items()
            if name in asked and getattr(work, name) is None
        ]
    if about.kind == "text" and work.tokens is None:
        said.append(Assumption(what="isl", value=about.text_tokens, unit="count", source="AWS's encoder benchmarks"))
    if about.kind == "music" and work.seconds is None:
        said.append(Assumption(what="seconds", value=MUSIC_SECONDS, unit="s", status="published",
                               source="MusicGen is trained on 30 s (arXiv:2306.05284)"))  # fmt: skip
    if len(made.worker.system.pools) > 1:
        source = "the pool of the rack that makes one batch sooner"
        said.append(Assumption(what="pool", value=made.worker.chip.name, source=source))
    for name, how in made.worker.chip.inherited.items():
        said.append(Assumption(what=f"{made.worker.chip.name}: {name}", value=how, source="taken from its predecessor"))
    return (*said, *model.assumptions)


def _left_out(about: Media) -> str:
    return {
        "music": "text encoder, audio codec (EnCodec), reading the prompt",
        "video": "text encoder, video autoencoder", "image": "text encoder, image autoencoder",
    }.get(about.kind, "reading and decoding the input")  # fmt: skip
