"""Storage types as configs state them."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.core import Dtypes
from trainshed.models.families import family
from trainshed.models.fields import Fields
from trainshed.models.storage import dtypes

HALF = {"torch_dtype": "bfloat16"}


def read(config: dict[str, Any], model_type: str = "llama") -> Dtypes | None:
    facts = family(model_type)
    assert facts is not None
    return dtypes(Fields(config, where="x"), facts)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None), (HALF, Dtypes()),
        ({"torch_dtype": "float16"}, Dtypes(weights="fp16", activations="fp16", kv="fp16")),
        ({"dtype": "float32"}, Dtypes(weights="fp32", activations="fp32", kv="fp32")),
        ({**HALF, "quantization_config": {"quant_method": "fp8"}}, Dtypes(weights="fp8")),
        ({**HALF, "quantization_config": {"quant_method": "mxfp4"}}, Dtypes(experts="mxfp4")),
        ({**HALF, "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, Dtypes(weights="nvfp4")),
        ({**HALF, "quantization_config": {"quant_method": "awq", "bits": 4}}, Dtypes(weights="int4")),
        (
            {**HALF, "quantization_config": {"config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}}}},
            Dtypes(weights="fp8"),
        ),
        (
            {**HALF, "quantization_config": {"config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}}}},
            Dtypes(weights="int8"),
        ),
    ],
)  # fmt: skip
def test_what_a_config_states(fields: dict[str, Any], expected: Dtypes | None) -> None:
    assert read(fields) == expected


def test_what_a_family_is_published_in() -> None:
    assert read({}, "gpt_oss") == Dtypes(experts="mxfp4")
    assert read({}, "deepseek_v3") == Dtypes(weights="fp8")
    assert read(HALF, "deepseek_v3") == Dtypes()  # a copy that somebody widened
