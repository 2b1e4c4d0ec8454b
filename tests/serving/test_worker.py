"""What a chip multiplies of the dtypes that a checkpoint stores."""

from __future__ import annotations

import pytest

from trainshed.core import Dtypes
from trainshed.hardware import Catalogue
from trainshed.serving.worker import multiplied

STORED = Dtypes(experts="mxfp4", matmul="bf16", experts_matmul="bf16")


@pytest.mark.parametrize(
    ("chip", "product"), [("trn2", "bf16"), ("trn3", "mxfp8"), ("trn4", "mxfp8"), ("h100-sxm", "bf16")]
)
def test_block_scaled_experts_multiply_as_such_where_neuroncores_can(chip: str, product: str) -> None:
    found = multiplied(Catalogue().chip(chip), STORED)
    assert found.of("experts_matmul") == product
    assert found.of("matmul") == "bf16"


def test_a_product_that_the_chip_lacks_runs_in_a_wider_one() -> None:
    assert multiplied(Catalogue().chip("a100-80"), Dtypes(weights="fp8", matmul="fp8")).of("matmul") == "bf16"
