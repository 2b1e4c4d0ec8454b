"""NeuronCores made of the published numbers, as the operators' tests see them."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.core import Constant
from trainshed.hardware.schema import Chip, NeuronCore


def number(name: str, value: float, unit: str = "1") -> Constant:
    return Constant(name=f"chip/test.{name}", value=value, unit=unit, status="given", source="this test")


def table(name: str, unit: str, **values: float) -> dict[str, Constant]:
    return {key: number(f"neuron.{name}.{key}", value, unit) for key, value in values.items()}


def neuroncore(**changes: Any) -> NeuronCore:
    fields: dict[str, Any] = {
        "tensor_clock": number("neuron.tensor_clock", 2.4e9, "Hz"), "tensor_rows": number("neuron.rows", 128, "row"),
        "tensor_columns": number("neuron.tensor_columns", 128, "column"), "mx_rows": None,
        "columns_per_cycle": table("columns_per_cycle", "1", bf16=1.0, fp8=1.0, fp32=0.25),
        "depth": table("depth", "row", bf16=128, fp8=256, fp32=128),
        "matmul_floor": number("neuron.matmul_floor", 64, "cycle"),
        "vector_clock": number("neuron.vector_clock", 0.96e9, "Hz"),
        "vector_lanes": table("vector_lanes", "element/cycle", full=128, wide=256, narrow=512),
        "scalar_clock": number("neuron.scalar_clock", 1.2e9, "Hz"),
        "scalar_lanes": table("scalar_lanes", "element/cycle", wide=128, narrow=128),
        "gpsimd_clock": number("neuron.gpsimd_clock", 1.2e9, "Hz"),
        "gpsimd_lanes": number("neuron.gpsimd_lanes", 128, "element/cycle"),
        "instruction_floor": number("neuron.instruction_floor", 64, "cycle"),
        "instruction_overhead": number("neuron.instruction_overhead", 104e-9, "s"),
        "sbuf": number("neuron.sbuf", 28 * 2**20, "B"), "psum": number("neuron.psum", 2**21, "B"),
        "psum_banks": number("neuron.psum_banks", 8, "count"), "partitions": number("neuron.partitions", 128, "row"),
        "dma_engines": number("neuron.dma_engines", 16, "count"),
        "dma_bandwidth": number("neuron.dma_bandwidth", 435.2e9, "B/s"),
        "semaphore": number("neuron.semaphore", 1.3e-6, "s"),
        "dma_fixed": number("neuron.dma_fixed", 2.4e-6, "s"),
        "dma_per_descriptor": number("neuron.dma_per_descriptor", 89e-9, "s"),
        "dma_queues": number("neuron.dma_queues", 16, "count"), "launch": number("neuron.launch", 7e-6, "s"),
        "table_load": number("neuron.table_load", 1.3e-6, "s"), "dge_instruction": number("neuron.dge", 600e-9, "s"),
        "software_descriptor": number("neuron.software_descriptor", 10.4e-9, "s"), "tensor_ramp": None,
        "tensor_ramp_rate": None,
        "quantize_elements_per_cycle": None, "vector_exp_speedup": None,
    }  # fmt: skip
    return NeuronCore(**{**fields, **changes})


def neuron_chip(**changes: Any) -> Chip:
    fields: dict[str, Any] = {
        "name": "test", "title": "Test", "vendor": "nobody", "architecture": "neuroncore", "date": "2026-01-01",
        "cores": number("cores", 8, "count"), "lnc": number("lnc", 2, "count"), "clock": None,
        "flops": {"bf16": number("flops.bf16", 667e12, "FLOP/s")},
        "vector_flops": number("vector_flops", 8e12, "FLOP/s"), "special_flops": None,
        "hbm_capacity": number("hbm_capacity", 96 * 2**30, "B"),
        "hbm_bandwidth": number("hbm_bandwidth", 2.9e12, "B/s"),
        "tdp": None, "tdp_alternative": None, "idle_power": None, "energy": {}, "neuron": neuroncore(),
    }  # fmt: skip
    return Chip(**{**fields, **changes})


@pytest.fixture(scope="session")
def v3() -> Chip:
    """A chip of eight NeuronCore-v3."""
    return neuron_chip()


@pytest.fixture(scope="session")
def v4() -> Chip:
    """A chip of eight NeuronCore-v4: MX products, QuantizeMX, VectorE's exponential."""
    core = neuroncore(
        columns_per_cycle=table("columns_per_cycle", "1", bf16=1.0, mxfp8=1.0, mxfp4=1.0, fp32=0.25),
        depth=table("depth", "row", bf16=128, mxfp8=512, mxfp4=512, fp32=128),
        quantize_elements_per_cycle=number("neuron.quantize", 512, "element/cycle"),
        vector_exp_speedup=number("neuron.vector_exp_speedup", 4.0),
    )
    return neuron_chip(neuron=core)


@pytest.fixture(scope="session")
def coreless() -> Chip:
    """A chip that says it has NeuronCores, without their data."""
    return neuron_chip(neuron=None)
