"""One batch, prefilled together and decoded together; and single phases of one batch."""

from __future__ import annotations

import numpy as np

from trainshed.core import Cost, Number, formula, total
from trainshed.serving import lengths, memory, steps
from trainshed.serving.outcome import Load, Outcome
from trainshed.serving.worker import Worker
from trainshed.serving.workload import Workload


def slots(worker: Worker, work: Workload, fitting: Number) -> Number:
    """Sequences that one replica runs at once: what fits, and what the engine or the user allows.

    The engine's default holds for each attention-data-parallel rank: each has a scheduler of its own.
    Where not even one fits, the figures are those of a memory that is large enough: ``answer`` refuses such plans,
    and a measured run shows that its memory was.
    """
    allowed = allowance(worker, work)
    return np.asarray(np.where(fitting < 1.0, allowed, np.minimum(fitting, allowed)), dtype=np.float64)


def allowance(worker: Worker, work: Workload) -> Number:
    """Sequences at once that the user allows, else the engine on its attention-data-parallel ranks together."""
    if work.max_batch is not None:
        return work.max_batch
    return worker.engine.fit("max_batch").value * worker.degree("dpa")


def static(worker: Worker, work: Workload) -> Outcome:
    """A batch of ``work.batch`` requests over all replicas; what does not fit at once runs in equal waves."""
    assert work.batch is not None
    isl, osl = work.prompt(), work.output()
    each = work.batch / worker.replicas
    tokens, context = lengths.prompt(worker.engine, isl, isl + osl), lengths.attended(worker.engine, isl, osl)
    probe = steps.decode(worker, sequences=np.maximum(each, 1.0), context=context)
    room = memory.room(worker, probe.work, isl=isl, osl=osl)
    waves = np.ceil(each / np.minimum(slots(worker, work, room), each))
    size = each / waves
    prefill = steps.prefill(worker, sequences=size, tokens=tokens)
    decode = steps.decode(worker, sequences=size, context=context)
    wave = total(
        "one wave", [prefill.time, formula("decode steps", "s", "steps * step", steps=osl - 1.0, step=decode.time)]
    )
    latency = formula("batch latency", "s", "waves * wave", waves=waves, wave=wave)
    ended = prefill.activity + decode.activity.scaled(osl - 1.0)
    rate = work.batch / latency.value
    return Outcome(
        ttft=prefill.time.named("time to first token"), tpot=decode.time.named("time per output token"), e2e=latency,
        tokens_per_s=rate * osl, requests_per_s=rate, running=size * worker.replicas, room=room * worker.replicas,
        context=context, prefill=prefill, decode=decode,
        loads=(Load(worker=worker, activity=ended.scaled(waves), seconds=latency.value),),
    )  # fmt: skip


def prefill_only(worker: Worker, work: Workload) -> Outcome:
    """The prefill of one batch of prompts."""
    assert work.batch is not None
    isl, each = work.prompt(), work.batch / worker.replicas
    step = steps.prefill(worker, sequences=each, tokens=lengths.prompt(worker.engine, isl, np.inf))
    room = memory.room(worker, step.work, isl=isl, osl=1.0)
    return Outcome(
        ttft=step.time.named("time to first token"), e2e=step.time, requests_per_s=work.batch / step.time.value,
        tokens_per_s=work.batch / step.time.value, running=work.batch, room=room * worker.replicas, context=isl,
        prefill=step, loads=(Load(worker=worker, activity=step.activity, seconds=step.time.value),),
    )  # fmt: skip


def decode_only(worker: Worker, work: Workload) -> Outcome:
    """One decode step of a batch over ``work.context`` (or the mean over isl and osl) attended tokens."""
    assert work.batch is not None
    each = work.batch / worker.replicas
    context = decode_context(worker, work)
    step = steps.decode(worker, sequences=each, context=context)
    room = memory.room(worker, step.work, isl=context, osl=0.0)
    return Outcome(
        tpot=step.time.named("time per output token"), tokens_per_s=work.batch / step.time.value, running=work.batch,
        room=room * worker.replicas, context=context, decode=step,
        loads=(Load(worker=worker, activity=step.activity, seconds=step.time.value),),
    )  # fmt: skip


def decode_context(worker: Worker, work: Workload) -> Number:
    """Tokens that a lone decode step attends."""
    if work.context is not None:
        return lengths.bucket(worker.engine, work.context, np.inf)
    return lengths.attended(worker.engine, 1.0 if work.isl is None else work.isl, 2.0 if work.osl is None else work.osl)


def request(worker: Worker) -> Cost:
    """Host time of a request before its first step."""
    return formula("request handling", "s", "host", host=worker.engine.fit("request_host"))
