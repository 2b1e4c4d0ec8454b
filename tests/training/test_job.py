"""Jobs check themselves; batches and number formats are filled in as documented."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainshed.core import Plan, UserError
from trainshed.models import load
from trainshed.software.catalogue import Software
from trainshed.training import TrainingJob


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"sequence": 0.0}, "sequence length"), ({"global_batch": -1.0}, "global batch"), ({"dtype": "bf17"}, "dtype"),
     ({"optimizer": "magic"}, "optimizer")],
)  # fmt: skip
def test_bad_jobs_are_told(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        TrainingJob(**{"sequence": 8192.0, "global_batch": 8.0, **fields})


@pytest.mark.parametrize(("plan", "batch"), [("dp8", 1024), ("dp8 mb3", 1032), ("dp2048", 2048), ("dp1536 mb2", 3072)])
def test_the_default_batch(plan: str, batch: int) -> None:
    assert float(TrainingJob(sequence=8192.0).batch(Plan.parse(plan))) == batch


def test_micro_batches_of_a_table() -> None:
    job = TrainingJob(sequence=8192.0, global_batch=np.array([64.0, 256.0]))
    table = Plan.stack([Plan.parse("dp8 mb2"), Plan.parse("dp4")])
    assert np.array_equal(job.micro_batches(table), [4, 64])


def test_low_precision_products_keep_wide_weights() -> None:
    framework = Software().framework("megatron-lm")
    dtypes = TrainingJob(sequence=8192.0, dtype="mxfp8").number_formats(framework)
    assert (dtypes.of("weights"), dtypes.of("matmul"), dtypes.of("gradients")) == ("bf16", "mxfp8", "fp32")


def test_streams_default_to_the_sequence() -> None:
    job = TrainingJob(sequence=512.0, streams={"extra": 7.0})
    assert job.lengths(load("llama-3.1-8b")) == {"tokens": 512.0, "extra": 7.0}
