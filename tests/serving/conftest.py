"""A chip, links and an engine with round numbers, so that tests can work by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trainshed.core import Constant, Dtypes, Plan
from trainshed.hardware.schema import Chip, GpuCore, Level, Overhead, Pool, System
from trainshed.models import load
from trainshed.serving.worker import Worker
from trainshed.software.schema import ENGINE_MECHANISMS, Engine

SHARES = {"gemm_share", "decode_share", "attention_share", "expert_share", "prefill_stall", "memory_fraction"}


def number(name: str, value: float, unit: str = "1") -> Constant:
    return Constant(name=name, value=value, unit=unit, status="given", source="this test")


def make_chip() -> Chip:
    def of(name: str, value: float, unit: str = "1") -> Constant:
        return number(f"chip/test.{name}", value, unit)

    core = GpuCore(
        processors=of("gpu.processors", 100, "count"), tile_m=of("gpu.tile_m", 128, "row"),
        tile_n=of("gpu.tile_n", 128, "column"), tile_k=of("gpu.tile_k", 64, "element"), l2=None, l2_bandwidth=None,
        launch=of("gpu.launch", 1e-6, "s"),
    )  # fmt: skip
    each = {"mac.bf16": 1e-12, "vector": 1e-12, "scalar": 1e-12, "hbm": 3e-11, "l2": 3e-12, "link": 3e-11}
    energy = {k: of(f"energy.{k}", v, "J/MAC" if "mac" in k else "J/B") for k, v in each.items()}
    return Chip(
        name="test", title="Test", vendor="nobody", architecture="gpu", date="2026-01-01",
        cores=of("cores", 1, "count"), lnc=None, clock=None,
        flops={"bf16": of("flops.bf16", 1e15, "FLOP/s"), "fp8": of("flops.fp8", 2e15, "FLOP/s")},
        vector_flops=of("vector_flops", 6e13, "FLOP/s"), special_flops=None,
        hbm_capacity=of("hbm_capacity", 80e9, "B"),
        hbm_bandwidth=of("hbm_bandwidth", 3e12, "B/s"), tdp=of("tdp", 700, "W"), tdp_alternative=None,
        idle_power=of("idle_power", 100, "W"), energy=energy, gpu=core,
        fitted={
            "gemm_efficiency.bf16": of("fitted.gemm_efficiency.bf16", 0.8),
            "gemm_efficiency.fp8": of("fitted.gemm_efficiency.fp8", 0.8),
            "hbm_efficiency": of("fitted.hbm_efficiency", 1.0),
            "attention_efficiency": of("fitted.attention_efficiency", 0.6),
            "vector_efficiency": of("fitted.vector_efficiency", 1.0), "energy_scale": of("fitted.energy_scale", 1.0),
        },
    )  # fmt: skip


def make_level() -> Level:
    return Level(
        name="server", chips=64, topology="switch", bandwidth=number("interconnect/test.bandwidth", 4e11, "B/s"),
        latency=number("interconnect/test.latency", 1e-6, "s"), interconnect="test",
        fitted={
            "hop": number("interconnect/test.hop", 1e-6, "s"),
            "efficiency": number("interconnect/test.efficiency", 0.8),
            "launch": number("interconnect/test.l", 1e-6, "s"),
        },
    )  # fmt: skip


def make_system() -> System:
    return System(
        name="test", title="Test", pools=(Pool(name="test", chip=make_chip(), chips=64),), levels=(make_level(),),
        instance_chips=8, ultraserver_chips=8, max_chips=64, source="this test",
        overhead=Overhead(
            host=number("system/test.host", 100, "W"), switch=number("system/test.switch", 20, "W"),
            pue=number("system/test.pue", 1.2),
        ),
    )  # fmt: skip


def make_engine(**changes: Any) -> Engine:
    values = {"max_batch": 256.0, "tokens_per_step": 8192.0} | dict.fromkeys(SHARES, 1.0) | {"memory_fraction": 0.9}
    own = {k: v for k, v in changes.items() if k in ENGINE_MECHANISMS}
    constants = {
        k: number(f"engine/test.{k}", own.get(k, values.get(k, 0.0)), unit)
        for k, (unit, _) in ENGINE_MECHANISMS.items()
    }
    policies = {k: v for k, v in changes.items() if k not in ENGINE_MECHANISMS}
    return Engine(name="test", family="test", version="any", title="Test", constants=constants, **policies)


@pytest.fixture
def engine() -> Callable[..., Engine]:
    return make_engine


@pytest.fixture
def worker() -> Callable[..., Worker]:
    """A worker of a built-in model on the test chip; engine mechanisms and policies by keyword."""

    def make(model: str = "llama-3.1-8b", plan: str = "tp1", dtypes: str = "bf16", **changes: Any) -> Worker:
        return Worker(
            model=load(model), system=make_system(), chip=make_chip(), plan=Plan.parse(plan),
            dtypes=Dtypes.parse(dtypes), engine=make_engine(**changes),
        )  # fmt: skip

    return make
