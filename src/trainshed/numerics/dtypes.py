"""The number formats that chips multiply and store."""

from __future__ import annotations

#: Bytes per element, block scales included (OCP MX: one byte per 32; nvfp4: one per 16; int4: fp16 scale per 128).
BYTES: dict[str, float] = {
    "fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0,
    "mxfp8": 1.0 + 1 / 32, "mxfp4": 0.5 + 1 / 32, "nvfp4": 0.5 + 1 / 16, "int4": 0.5 + 2 / 128,
}  # fmt: skip
