"""Which number formats a checkpoint is stored in: ``quantization_config``, ``torch_dtype``, or the family's habit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.core import Dtypes
from trainshed.models.families import Family
from trainshed.models.fields import Fields

_PLAIN = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
#: Methods of ``quantization_config`` whose name says the format.
_METHODS = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "nvfp4": "nvfp4", "mxfp8": "mxfp8", "fp8_kv": "fp8"}
#: Methods that store whole numbers of so many bits.
_INTEGERS = {4: "int4", 8: "int8"}
_FLOATS = {4: "nvfp4", 8: "fp8"}
#: Formats that only the experts have; everything else stays wide.
_EXPERTS_ONLY = {"mxfp4"}


def dtypes(fields: Fields, family: Family) -> Dtypes | None:
    """Types of the published checkpoint; None where neither config nor family says them."""
    stated = _PLAIN.get(str(fields.get("torch_dtype", fields.get("dtype"))), "")
    wide = stated or ("bf16" if family.weights_dtype in ("", "fp8") else family.weights_dtype)
    quantised = _quantised(fields.get("quantization_config"))
    if quantised in _EXPERTS_ONLY:
        return Dtypes(weights=wide, experts=quantised, activations=wide, kv=wide)
    if quantised or stated:
        return Dtypes(weights=quantised or stated, activations=wide, kv=wide)
    if not family.weights_dtype:
        return None
    return Dtypes(weights=family.weights_dtype, experts=family.experts_dtype, activations=wide, kv=wide)


def _quantised(config: Any) -> str:
    """The format that a ``quantization_config`` names, "" for none that we know."""
    if not isinstance(config, Mapping):
        return ""
    names = [str(config.get(key, "")).lower() for key in ("quant_algo", "quant_method")]
    for name in names:
        if name in _METHODS:
            return _METHODS[name]
    groups = config.get("config_groups")
    if isinstance(groups, Mapping):
        weights = next((g.get("weights") for g in groups.values() if isinstance(g, Mapping)), None)
        if isinstance(weights, Mapping):
            floating = weights.get("type") == "float"
            return (_FLOATS if floating else _INTEGERS).get(weights.get("num_bits", 0), "")
    return _INTEGERS.get(config.get("bits", config.get("w_bit", 0)), "")
