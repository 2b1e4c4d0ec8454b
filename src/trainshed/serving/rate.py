"""All requests at once (offline), and requests that arrive at a fixed rate (open)."""

from __future__ import annotations

import numpy as np

from trainshed.core import Cost, Number, formula, total
from trainshed.serving import lengths, steps
from trainshed.serving.closed import Prefill, alone, loads, members, prefill, several
from trainshed.serving.deployment import Deployment
from trainshed.serving.outcome import Outcome
from trainshed.serving.static import allowance, request
from trainshed.serving.steps import Step
from trainshed.serving.workload import Workload

_ROUNDS = 40
_GRID = 6
"""Batch sizes at which a decode step is priced before the steady one is found between them."""


def offline(deployment: Deployment, work: Workload) -> Outcome:
    """All of ``work.requests`` (or endlessly many) queued at once: every slot is refilled as soon as it is free."""
    decoder = deployment.decode
    osl = work.output()
    context = lengths.attended(decoder.engine, work.prompt(), osl)
    asked = np.inf if work.requests is None else work.requests / decoder.replicas
    one = alone(deployment.prefill, work, np.minimum(asked, allowance(decoder, work)))
    kept, room = members(deployment, work, np.minimum(asked, allowance(decoder, work)), one)
    first = prefill(deployment.prefill, work, one, waiting=kept, beside=deployment.shared)
    decode = steps.decode(decoder, sequences=kept, context=context)
    tpot = _loaded_step(deployment, first, decode, kept / np.maximum(osl - 1.0, 1.0))
    turn = formula("turn of one slot", "s", "prompt + steps * step", prompt=first.each, steps=osl - 1.0, step=tpot)
    rate = kept / turn.value * decoder.replicas
    if not deployment.shared:
        rate = np.minimum(rate, deployment.prefill.replicas / first.each.value)
    ttft = _queued(deployment, first, work, kept, rate)
    e2e = total("request", [ttft, formula("tokens after the first", "s", "n * step", n=osl - 1.0, step=tpot)])
    return Outcome(
        ttft=ttft, tpot=tpot, e2e=e2e, tokens_per_s=rate * osl, requests_per_s=rate, running=kept * decoder.replicas,
        room=room * decoder.replicas, context=context, prefill=first.full, decode=decode,
        loads=loads(deployment, first, decode, rate, osl, kept),
        unknown={"percentiles": "a closed form knows means only"},
    )  # fmt: skip


def _loaded_step(deployment: Deployment, first: Prefill, decode: Step, joining: Number) -> Cost:
    """A decode step with the prompts that join per step."""
    if not deployment.shared:
        return decode.time.named("time per output token")
    others = formula(
        "prefills of others", "s", "joining * part * prompt", joining=joining,
        part=deployment.decode.engine.fit("prefill_stall"), prompt=first.each,
    )  # fmt: skip
    return total("time per output token", [decode.time, others])


def _queued(deployment: Deployment, first: Prefill, work: Workload, kept: Number, rate: Number) -> Cost:
    """Mean wait of a run's requests: half the first fill, then half of what is left at the steady rate."""
    parts = [request(deployment.prefill), first.alone.named("prefill of the prompt")]
    asked = kept if work.requests is None else work.requests / deployment.decode.replicas
    filled = np.minimum(kept, asked)
    parts.append(
        formula("prompts ahead in the first fill", "s", "half * prompt", half=(filled - 1.0) / 2.0, prompt=first.each)
    )
    left = np.maximum(asked - kept, 0.0)
    each = deployment.decode.replicas / rate
    later = (left / asked) * (left / 2.0) * each / first.each.value
    parts.append(formula("wait for a free slot", "s", "turns * prompt", turns=later, prompt=first.each))
    return total("time to first token", parts)


def opened(deployment: Deployment, work: Workload) -> Outcome:
    """Requests arrive at ``work.rate_per_s``; a queue that grows without end is counted over ``work.requests``."""
    assert work.rate_per_s is not None
    decoder = deployment.decode
    osl, context = work.output(), lengths.attended(decoder.engine, work.prompt(), work.output())
    one = alone(deployment.prefill, work, np.ones(()))
    kept, room = members(deployment, work, allowance(decoder, work) * 1.0, one)
    arriving = work.rate_per_s / decoder.replicas
    # prompts that wait share a pass, so that a busy engine spends less on each
    first = prefill(deployment.prefill, work, one, waiting=kept, beside=deployment.shared)
    running, busy = _little(deployment, first, arriving, osl, context, kept)
    decode = steps.decode(decoder, sequences=np.maximum(running, 1.0), context=context)
    tpot = _loaded_step(deployment, first, decode, running / np.maximum(osl - 1.0, 1.0))
    served = np.minimum(arriving, kept / (first.each.value + (osl - 1.0) * tpot.value)) * decoder.replicas
    ttft = total("time to first token", [
        request(deployment.prefill), first.alone.named("prefill of the prompt"),
        formula("wait for the running step", "s", "step / 2", step=decode.time),
        formula("queue for prefill", "s", "busy / (2 * (1 - busy)) * prompt", busy=np.minimum(busy, 0.95),
                prompt=first.each),
        formula("queue that grows", "s", "missing * step", step=decode.time,
                missing=_backlog(work, served) / decode.time.value),
    ])  # fmt: skip
    e2e = total("request", [ttft, formula("tokens after the first", "s", "n * step", n=osl - 1.0, step=tpot)])
    unknown = {"percentiles": "they depend on how arrivals cluster"}
    return Outcome(
        ttft=ttft, tpot=tpot, e2e=e2e, tokens_per_s=served * osl, requests_per_s=served,
        running=running * decoder.replicas, room=room * decoder.replicas, context=context, prefill=first.full,
        decode=decode, loads=loads(deployment, first, decode, served, osl, running), unknown=unknown,
    )  # fmt: skip


def _little(
    deployment: Deployment, first: Prefill, arriving: Number, osl: Number, context: Number, kept: Number
) -> tuple[Number, Number]:
    """Sequences in decode by Little's law, n = rate x (osl - 1) x step(n), and how busy prefill is."""
    servers = deployment.prefill.replicas / deployment.decode.replicas
    busy = arriving * first.each.value / servers
    stall = deployment.decode.engine.fit("prefill_stall").value * busy if deployment.shared else np.zeros(())
    sizes = [np.maximum(kept ** (i / (_GRID - 1)), 1.0) for i in range(_GRID)]
    times = several(deployment.decode, context, sizes)
    low, high = np.ones_like(kept * arriving * times[0]), kept * np.ones_like(kept * arriving * times[0])
    for _ in range(_ROUNDS):
        middle = (low + high) / 2.0
        offered = arriving * (osl - 1.0) * _between(sizes, times, middle) / np.maximum(1.0 - stall, 0.02)
        grows = offered > middle
        low, high = np.where(grows, middle, low), np.where(grows, high, middle)
    return (low + high) / 2.0, busy


def _between(sizes: list[Number], times: list[Number], n: Number) -> Number:
    """A step's time for n sequences, straight between the priced batch sizes."""
    value: Number = times[0] * np.ones_like(n)
    for (a, ta), (b, tb) in zip(zip(sizes, times, strict=True), list(zip(sizes, times, strict=True))[1:], strict=False):
        part = np.clip((n - a) / np.maximum(b - a, 1e-9), 0.0, 1.0)
        value = value + part * (tb - ta)
    return value


def _backlog(work: Workload, served: Number) -> Number:
    """Mean seconds in a queue that grows because more requests arrive than are served."""
    if work.requests is None:
        return np.zeros_like(served)
    assert work.rate_per_s is not None
    return np.maximum(work.requests / 2.0 * (1.0 / served - 1.0 / work.rate_per_s), 0.0)
