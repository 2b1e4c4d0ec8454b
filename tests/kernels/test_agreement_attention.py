"""Formulas of attention against the simulated time of its kernels, at small sizes of every kind."""

from __future__ import annotations

import pytest

from trainshed.kernels.agreement import Case, compare

AXES = ("heads", "kv_heads", "queries", "keys", "d")
CACHE = ("sequences", "heads", "kv_heads", "keys", "d")

CASES = (
    ("attention.prefill", (1, 1, 1024, 1024, 128), "bf16", "trn1"),
    ("attention.prefill", (1, 1, 128, 8192, 64), "bf16", "trn3"),
    ("attention.prefill_causal", (2, 1, 1024, 1024, 64), "bf16", "trn2"),
    ("attention.prefill_causal", (1, 1, 512, 2048, 128), "bf16", "trn3"),
    ("attention.backward_causal", (1, 1, 1024, 1024, 128), "bf16", "trn2"),
    ("attention.decode", (8, 8, 1, 1024, 128), "bf16", "trn1"),
    ("attention.decode", (1, 64, 4, 4096, 128), "fp8", "trn2"),
    ("attention.decode_tokens", (2, 16, 4, 2048, 64), "bf16", "trn3"),
)


@pytest.mark.parametrize(("kernel", "sizes", "dtype", "target"), CASES)
def test_the_formula_is_near_the_kernel(kernel: str, sizes: tuple[int, ...], dtype: str, target: str) -> None:
    axes = CACHE if "decode" in kernel else AXES
    found = compare(Case(kernel=kernel, shape=dict(zip(axes, sizes, strict=True)), dtype=dtype, target=target))
    assert abs(found.error) < 0.15
