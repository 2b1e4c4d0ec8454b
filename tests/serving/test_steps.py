"""A pass of a dense model against its roofline worked by hand, and how engines change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from trainshed.core import Plan
from trainshed.serving import Worker, memory, steps

PARAMETERS = 8_030_261_248
"""Llama-3.1-8B."""
EMBEDDING = 128_256 * 4_096
KV_PER_TOKEN = 2 * 32 * 8 * 128 * 2
BANDWIDTH, PEAK, GEMM = 3e12, 1e15, 0.8


def value(step: steps.Step) -> float:
    return float(np.asarray(step.time.value))


def test_a_decode_step_reads_the_weights_once(worker: Callable[..., Worker]) -> None:
    read = 2 * (PARAMETERS - EMBEDDING)
    assert value(steps.decode(worker(), sequences=1.0, context=1.0)) == pytest.approx(read / BANDWIDTH, rel=0.06)


def test_a_longer_context_adds_the_bytes_of_its_cache(worker: Callable[..., Worker]) -> None:
    short, long = (value(steps.decode(worker(), sequences=64.0, context=c)) for c in (1000.0, 5000.0))
    assert long - short == pytest.approx(64 * 4000 * KV_PER_TOKEN / BANDWIDTH, rel=0.02)


def test_prefill_runs_at_the_products_rate(worker: Callable[..., Worker]) -> None:
    products = 2 * (PARAMETERS - 2 * EMBEDDING) * 8192 / PEAK / GEMM
    attention = 32 * 32 * 2 * (128 + 128) * 8192 * 8192 / 2 / PEAK / 0.6
    assert value(steps.prefill(worker(), sequences=1.0, tokens=8192.0)) == pytest.approx(products + attention, rel=0.08)


def test_narrow_weights_are_read_faster(worker: Callable[..., Worker]) -> None:
    wide, narrow = (
        value(steps.decode(worker(dtypes=d), sequences=1.0, context=1.0)) for d in ("bf16", "weights=int4,kv=bf16")
    )
    assert narrow < 0.45 * wide  # the head stays at 16 bit


def test_host_time_counts_steps_and_sequences(worker: Callable[..., Worker]) -> None:
    plain = value(steps.decode(worker(), sequences=10.0, context=100.0))
    slow = value(steps.decode(worker(step_host=2e-3, sequence_host=1e-4), sequences=10.0, context=100.0))
    assert slow - plain == pytest.approx(2e-3 + 10e-4)


def test_attention_parallel_ranks_have_a_host_each(worker: Callable[..., Worker]) -> None:
    def host(plan: str) -> float:
        with_host = steps.decode(worker(plan=plan, sequence_host=1e-4), sequences=80.0, context=100.0)
        return value(with_host) - value(steps.decode(worker(plan=plan), sequences=80.0, context=100.0))

    assert host("tp4 dpa4") == pytest.approx(20e-4)
    assert host("tp4") == pytest.approx(80e-4)


def test_an_engine_that_launches_eagerly_waits_for_its_launches(worker: Callable[..., Worker]) -> None:
    graph = steps.decode(worker(), sequences=1.0, context=1.0)
    eager = steps.decode(worker(launch=1e-3), sequences=1.0, context=1.0)
    assert value(eager) > 32 * 5 * 1e-3 > value(graph)


def test_tensor_parallel_ranks_share_the_work_and_talk(worker: Callable[..., Worker]) -> None:
    alone, four = (value(steps.decode(worker(plan=p), sequences=1.0, context=1.0)) for p in ("tp1", "tp4"))
    assert alone / 4 < four < alone
    chatty = value(steps.decode(worker(plan="tp4", collective=1e-4), sequences=1.0, context=1.0))
    assert chatty - four == pytest.approx((2 * 32 + 2) * 1e-4, rel=0.05)


def test_pipeline_stages_pass_parts_of_the_batch(worker: Callable[..., Worker]) -> None:
    whole = value(steps.decode(worker(), sequences=32.0, context=100.0))
    part = value(steps.decode(worker(plan="pp2"), sequences=64.0, context=100.0))
    assert part == pytest.approx(whole, rel=1e-9)


def test_identical_prompts_read_the_experts_of_one_token(worker: Callable[..., Worker]) -> None:
    moe = worker("gpt-oss-120b")
    step, same = (
        steps.decode(replace(moe, identical=i), sequences=64.0, context=100.0).activity.memory["hbm"] for i in (0, 1)
    )
    one = steps.decode(moe, sequences=1.0, context=100.0).activity.memory["hbm"]
    assert float(same) < 1.6 * float(one) < float(step)


def test_a_table_of_plans_gives_what_each_plan_gives(worker: Callable[..., Worker]) -> None:
    plans = [Plan.parse(p) for p in ("tp1", "tp2", "tp8", "tp4 pp2", "tp8 dpa4")]
    table = steps.decode(replace(worker(), plan=Plan.stack(plans)), sequences=32.0, context=1000.0).time.value
    each = [value(steps.decode(replace(worker(), plan=p), sequences=32.0, context=1000.0)) for p in plans]
    assert np.asarray(table) == pytest.approx(each, rel=1e-12)


def test_memory_of_weights_and_caches(worker: Callable[..., Worker]) -> None:
    step = steps.decode(worker(), sequences=1.0, context=1.0)
    assert float(memory.weights(worker(), step.work)) == pytest.approx(2 * PARAMETERS, rel=1e-9)
    assert float(memory.cache(worker(), 1000.0)) == 1000 * KV_PER_TOKEN
    room = (80e9 * 0.9 - 2 * PARAMETERS) // (1500 * KV_PER_TOKEN)
    assert float(memory.room(worker(reserves="whole"), step.work, isl=1000.0, osl=500.0)) == room


def test_kv_heads_are_copied_once_ranks_outnumber_them(worker: Callable[..., Worker]) -> None:
    sizes = [float(memory.cache(worker(plan=p), 1000.0)) for p in ("tp1", "tp8", "tp16", "tp16 dpa16")]
    assert sizes[1] == sizes[0] / 8
    assert sizes[2] == sizes[1]
    assert sizes[3] == sizes[0] / 16


def test_engines_fill_all_of_hbm_or_what_the_weights_leave(worker: Callable[..., Worker]) -> None:
    held = 60e9
    assert float(memory.capacity(worker(), held).value) == pytest.approx(0.9 * 80e9)
    free = memory.capacity(worker(fraction_of="free"), held)
    assert float(free.value) == pytest.approx(60e9 + 0.9 * 20e9)


def test_a_cached_prefix_is_attended_but_not_computed(worker: Callable[..., Worker]) -> None:
    w = worker()
    whole, rest = (
        steps.prefill(w, sequences=1.0, tokens=t, before=b).activity for t, b in ((4000.0, None), (1000.0, 3000.0))
    )
    assert float(rest.macs["bf16"]) < 0.35 * float(whole.macs["bf16"])
    fresh = steps.prefill(w, sequences=1.0, tokens=1000.0).activity
    assert float(rest.macs["bf16"]) > float(fresh.macs["bf16"])
