"""``import neuronxcc.nki`` finds Beta 1 where the vendor's package is not installed."""

from __future__ import annotations

import importlib

import trainshed.nki
from trainshed.nki import beta1


def test_the_vendors_paths() -> None:
    assert trainshed.nki.jit is not beta1.jit
    for path, module in (
        ("neuronxcc.nki", beta1),
        ("neuronxcc.nki.language", beta1.language),
        ("neuronxcc.nki.isa", beta1.isa),
        ("neuronxcc.nki.typing", beta1.typing),
        ("neuronxcc.nki.compiler", beta1.compiler),
    ):
        found = importlib.import_module(path)
        assert found.__file__ == module.__file__
    assert importlib.import_module("neuronxcc").nki is beta1


def test_names_of_beta_1_that_were_removed_exist() -> None:
    for name in ("simulate_kernel", "baremetal", "benchmark", "profile", "trace", "jit", "tensor"):
        assert hasattr(beta1, name)
    for name in ("arange", "mgrid", "par_dim", "load", "store", "matmul", "affine_range", "loop_reduce", "spmd_dim"):
        assert hasattr(beta1.language, name)
