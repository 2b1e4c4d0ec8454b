"""A fixed number of users, each of whom sends the next request when the last one is answered.

One step of an engine decodes every running sequence; prompts of others are prefilled in between (``prefill-first``) or
in chunks beside the decoding sequences (``chunked``). ``queue.balance`` finds how many requests are in which phase; the
costs are formed from that. With pools, prefill and decode do not disturb each other and the KV cache moves over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import NOTHING, Array, Cost, Number, formula, total
from trainshed.serving import lengths, memory, queue, steps
from trainshed.serving.deployment import Deployment, transfer
from trainshed.serving.outcome import Load, Outcome
from trainshed.serving.static import request, slots
from trainshed.serving.steps import Step
from trainshed.serving.worker import Worker
from trainshed.serving.workload import Workload


@dataclass(frozen=True, kw_only=True, eq=False)
class Prefill:
    """The prefill of one worker as its queue sees it."""

    full: Step
    """A pass of as many prompts as a step takes."""
    prompts: Number
    """Prompts of that pass."""
    each: Cost
    """Seconds that one prompt costs the worker when passes are full."""
    alone: Cost
    """Seconds of a pass for one prompt (one per attention group)."""
    chunks: Number
    """Steps that a prompt is spread over beside decoding sequences."""
    chunked: bool

    def service(self, step: Number) -> Number:
        """Seconds that a prompt holds the worker, the decode steps it rides in included."""
        return self.each.value + (self.chunks / self.prompts_or_one * step if self.chunked else 0.0)

    @property
    def prompts_or_one(self) -> Number:
        """Prompts that share the decode steps they ride in."""
        return np.maximum(self.prompts, 1.0)


def alone(worker: Worker, work: Workload, waiting: Number) -> Step:
    """The pass of one prompt, or of one for each attention group that ``waiting`` prompts occupy."""
    tokens = lengths.prompt(worker.engine, work.fresh(), work.prompt() + work.output())
    groups = np.minimum(worker.degree("dpa"), np.maximum(waiting, 1.0))
    return steps.prefill(worker, sequences=groups, tokens=tokens, before=work.cached)


def prefill(worker: Worker, work: Workload, one: Step, *, waiting: Number, beside: bool) -> Prefill:
    """Prefill of prompts of which up to ``waiting`` may go in one pass; ``beside`` decoding sequences or not."""
    limit = work.tokens_per_step if work.tokens_per_step is not None else worker.engine.fit("tokens_per_step").value
    tokens = lengths.prompt(worker.engine, work.fresh(), work.prompt() + work.output())
    groups = np.minimum(worker.degree("dpa"), np.maximum(waiting, 1.0))
    prompts = np.maximum(np.minimum(np.floor(limit / tokens), np.maximum(waiting, 1.0)), groups)
    full = steps.prefill(worker, sequences=prompts, tokens=tokens, before=work.cached)
    each = formula(
        "prefill per prompt", "s", "full / (prompts * stages)", full=full.time, prompts=prompts,
        stages=worker.degree("pp"),
    )  # fmt: skip
    return Prefill(
        full=full, prompts=prompts, each=each, alone=one.time, chunks=np.ceil(tokens / limit),
        chunked=beside and worker.engine.schedule == "chunked",
    )  # fmt: skip


def members(deployment: Deployment, work: Workload, asked: Number, one: Step) -> tuple[Number, Number]:
    """Requests that one decode worker has in its care out of ``asked``, and those that its memory holds."""
    worker = deployment.decode
    held = one.work if deployment.shared else steps.decode(worker, sequences=1.0, context=1.0).work
    room = memory.room(worker, held, isl=work.prompt(), osl=work.output())
    return np.maximum(np.minimum(asked, slots(worker, work, room)), 1.0), room


def stepper(worker: Worker, context: Number, most: Number) -> Callable[[Number], Number]:
    """Seconds of a decode step for n sequences: straight between those for a third of ``most`` and ``most``."""
    low = np.maximum(most / 3.0, 1.0)
    a, b = several(worker, context, [low, most])
    slope = (b - a) / np.maximum(most - low, 1e-9)
    return lambda n: np.maximum(a + slope * (n - low), 1e-9)


def several(worker: Worker, context: Number, sizes: Sequence[Number]) -> list[Number]:
    """Decode steps of several batch sizes in one call: the sizes lie on an axis before all others."""
    like = np.broadcast_arrays(*sizes)
    shape = like[0].shape
    stacked = np.stack(like).reshape(len(like), *(1,) * (2 - len(shape)), *shape)
    found = steps.decode(worker, sequences=stacked, context=context).time.value
    times = np.broadcast_to(found, np.broadcast_shapes(np.shape(found), stacked.shape))
    return [_squeezed(row, len(shape)) for row in times]


def _squeezed(row: Array, ndim: int) -> Array:
    """Without leading axes of one entry, down to ``ndim`` axes."""
    while row.ndim > ndim and row.shape[0] == 1:
        row = row[0]
    return row


def closed(deployment: Deployment, work: Workload) -> Outcome:
    """The steady state of ``work.concurrency`` users over all replicas."""
    assert work.concurrency is not None
    return loop(deployment, work, work.concurrency)


def loop(deployment: Deployment, work: Workload, users: Number) -> Outcome:
    """The closed loop of ``users`` requests at a time."""
    decoder, shared = deployment.decode, deployment.shared
    osl = work.output()
    context = lengths.attended(decoder.engine, work.prompt(), osl)
    one = alone(deployment.prefill, work, users / deployment.prefill.replicas)
    kept, room = members(deployment, work, users / decoder.replicas, one)
    first = prefill(deployment.prefill, work, one, waiting=kept, beside=shared)
    moved = None if shared else transfer(deployment, work.prompt())
    busy = np.minimum(users, decoder.replicas)
    steady = _balance(deployment, first, stepper(decoder, context, kept), kept, osl, moved, busy)
    decode = steps.decode(decoder, sequences=np.maximum(steady.decoding, 1.0), context=context)
    tpot = _tpot(deployment, first, decode, steady, osl)
    together = kept if shared else np.maximum(kept * busy / deployment.prefill.replicas, 1.0)
    ahead = _ahead(work, users, together, _regrouped(deployment.prefill, work, together, steady.ahead))
    parts = [request(deployment.prefill), *_first_token(deployment, first, decode, ahead)]
    if moved is not None:
        parts.append(moved)
    parts.append(
        formula("wait for KV memory", "s", "excess / kept * steps * step", excess=np.maximum(users / busy - kept, 0.0),
                kept=kept, steps=osl, step=tpot)
    )  # fmt: skip
    ttft = total("time to first token", parts)
    e2e = total("request", [ttft, formula("tokens after the first", "s", "steps * step", steps=osl - 1.0, step=tpot)])
    rate = users / e2e.value
    return Outcome(
        ttft=ttft, tpot=tpot, e2e=e2e, tokens_per_s=rate * osl, requests_per_s=rate,
        running=steady.decoding * busy, room=room * decoder.replicas, context=context, prefill=first.full,
        decode=decode, loads=loads(deployment, first, decode, rate, osl, steady.decoding),
        unknown={"percentiles": "a closed form knows means only"},
    )  # fmt: skip


def _balance(
    deployment: Deployment, first: Prefill, step: Callable[[Number], Number], kept: Number, osl: Number,
    moved: Cost | None, busy: Number,
) -> queue.Balance:  # fmt: skip
    """The steady state of one decode worker out of ``busy`` ones; prefill workers of a pool share all their prompts."""
    if deployment.shared:
        stall = deployment.decode.engine.fit("prefill_stall").value * first.each.value
        return queue.balance(
            members=kept, steps=osl - 1.0, step=step, stall=stall, latency=first.alone.value, service=first.service
        )
    servers = deployment.prefill.replicas
    found = queue.balance(
        members=kept * busy, steps=osl - 1.0, step=lambda n: step(np.maximum(n / busy, 1.0)),
        stall=np.zeros(()), latency=first.alone.value + (0.0 if moved is None else moved.value),
        service=first.service, servers=servers,
    )  # fmt: skip
    return queue.Balance(
        decoding=found.decoding / busy, ahead=found.ahead / servers, stay=found.stay, residence=found.residence
    )


def _tpot(deployment: Deployment, first: Prefill, decode: Step, steady: queue.Balance, osl: Number) -> Cost:
    if not deployment.shared:
        return decode.time.named("time per output token")
    others = formula(
        "prefills of others", "s", "joining / steps * part * prompt", joining=steady.decoding,
        steps=np.maximum(osl - 1.0, 1.0), part=deployment.decode.engine.fit("prefill_stall"), prompt=first.each,
    )  # fmt: skip
    return total("time per output token", [decode.time, others])


def _regrouped(worker: Worker, work: Workload, together: Number, steady: Number) -> Number:
    """Prompts ahead in the steady state; requests of one length keep returning in the groups they ran in.

    An engine that prefills before it decodes keeps everyone in step: each wave is a burst like the first one. Chunks
    beside decoding sequences spread a wave out, but for the group of the step before.
    """
    if not work.equal:
        return steady
    burst = (together - 1.0) / 2.0
    if worker.engine.schedule == "prefill-first":
        return np.asarray(np.maximum(steady, burst))
    return np.asarray(np.maximum(steady, np.minimum(worker.engine.fit("regroup").value, burst)))


def _ahead(work: Workload, users: Number, kept: Number, steady: Number) -> Number:
    """Prompts before a new one, on average over the run: all users start at once, later ones come in steadily."""
    if work.requests is None:
        return steady
    start = np.minimum(users / work.requests, 1.0)
    return start * (kept - 1.0) / 2.0 + (1.0 - start) * steady


def _first_token(deployment: Deployment, first: Prefill, decode: Step, ahead: Number) -> list[Cost]:
    waits = formula("prompts ahead", "s", "ahead * prompt", ahead=ahead, prompt=first.each)
    parts = [first.alone.named("prefill of the prompt"), waits]
    if deployment.shared:
        parts.append(formula("wait for the running step", "s", "step / 2", step=decode.time))
    if first.chunked:
        rides = first.chunks * (1.0 + ahead / first.prompts_or_one)
        parts.append(formula("decode steps beside the chunks", "s", "rides * step", rides=rides, step=decode.time))
    return parts


def loads(
    deployment: Deployment, first: Prefill, decode: Step, rate: Number, osl: Number, decoding: Number
) -> tuple[Load, ...]:
    """What each rank does per second at ``rate`` requests per second, ``decoding`` sequences to a step."""
    a, b = deployment.prefill, deployment.decode
    prompts = first.full.activity.scaled(rate / a.replicas / first.prompts)
    tokens = decode.activity.scaled(rate / b.replicas * (osl - 1.0) / np.maximum(decoding, 1.0))
    if deployment.shared:
        return (Load(worker=b, activity=prompts + tokens, seconds=1.0),)
    return Load(worker=a, activity=prompts, seconds=1.0), Load(worker=b, activity=NOTHING + tokens, seconds=1.0)
