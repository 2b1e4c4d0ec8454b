"""The operator formulas against simulated kernels: a few small cases (all of them: ``make agreement``)."""

import pytest

from trainshed.core.errors import UserError
from trainshed.kernels.agreement import Agreement, Case, cases, compare, formula, page
from trainshed.kernels.library import library

FEW = [
    ("gemm.matmul", {"m": 128, "k": 1024, "n": 1024}, "bf16"), ("gemm.matmul", {"m": 1, "k": 4096, "n": 1024}, "bf16"),
    ("norms.rmsnorm", {"rows": 1024, "columns": 2048}, "bf16"),
    ("rowwise.add", {"rows": 1024, "columns": 2048}, "bf16"),
    ("optimiser.adamw", {"rows": 256, "columns": 1024}, "bf16"),
    ("mlp.swiglu", {"rows": 16, "features": 1024, "hidden": 1024}, "bf16"),
]  # fmt: skip


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(("kernel", "shape", "dtype"), FEW)
def test_formulas_are_near_the_kernels_times(kernel, shape, dtype, target):
    found = compare(Case(kernel=kernel, shape=shape, dtype=dtype, target=target))
    assert abs(found.error) < 0.15
    assert found.limit
    assert found.largest.startswith(("TensorE", "VectorE", "ScalarE", "DMA"))


def test_there_are_two_hundred_cases_of_every_kernel_with_a_formula():
    every = cases()
    assert len(every) >= 200
    assert len(set(map(str, every))) == len(every)
    with_formula = {name for name, one in library().items() if one.operator is not None}
    assert {case.kernel for case in every} >= with_formula - {"attention.decode_tokens"}


def test_a_kernel_without_a_formula_is_told():
    name = next(name for name, one in library().items() if one.operator is None)
    with pytest.raises(UserError, match="one with an operator"):
        formula(Case(kernel=name, shape={}, dtype="bf16", target="trn2"))


def test_the_page_tells_the_errors():
    case = Case(kernel="gemm.matmul", shape={"m": 1}, dtype="bf16", target="trn2")
    found = [
        Agreement(case=case, simulated=1e-6, formula=formula, limit="dma", largest="DMA") for formula in (1e-6, 1.2e-6)
    ]
    text = page(found)
    assert "**2 cases: median error 10.0%, worst 20.0%; 1 are further off than 15 %.**" in text
    assert "| gemm.matmul | trn2 | 2 | 10.0% | 20.0% |" in text
    assert "| gemm.matmul m=1 bf16 on trn2 | 1.0 us | 1.2 us | +20.0% | dma |" in text
