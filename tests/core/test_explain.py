"""Operators that say which kernel they are the cost of."""

from __future__ import annotations

import numpy as np

from trainshed.core import Cost, longest, total
from trainshed.core.explain import tree


def test_an_operator_names_its_kernel_and_the_engine_that_bounds_it() -> None:
    parts = [Cost("TensorE", "s", "sum", np.array([1.0, 3.0])), Cost("DMA", "s", "sum", np.array([2.0, 2.0]))]
    engines = longest("engines", parts).by("gemm.matmul", {"rows": np.array([128.0, 1024.0]), "columns": 512.0})
    cost = total("operator", [engines])
    assert [tree(cost.at(i, (2,)))["children"][0]["kernel"] for i in range(2)] == [
        {"family": "gemm.matmul", "tiles": {"rows": 128.0, "columns": 512.0}, "bound": "DMA"},
        {"family": "gemm.matmul", "tiles": {"rows": 1024.0, "columns": 512.0}, "bound": "TensorE"},
    ]
    assert "kernel" not in tree(cost.at(0, (2,)))
