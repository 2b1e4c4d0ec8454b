"""Systems, frameworks and priced steps that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from trainshed.core import Number, Plan
from trainshed.hardware.catalogue import Catalogue
from trainshed.models import load
from trainshed.software.catalogue import Software
from trainshed.training import TrainingJob, TrainingStep, step


@pytest.fixture(scope="session")
def price() -> Callable[..., TrainingStep]:
    """A step by names: model, plan, system, framework; other fields go to the job."""

    def make(
        model: str, plan: str | Plan, *, system: str = "p5", framework: str = "nemo 24.12",
        overrides: Mapping[str, Number] | None = None, **job: Any,
    ) -> TrainingStep:  # fmt: skip
        hardware = {k: v for k, v in (overrides or {}).items() if not k.startswith("framework/")}
        software = {k: v for k, v in (overrides or {}).items() if k.startswith("framework/")}
        fields = {"sequence": 4096.0, "global_batch": 64.0, **job}
        return step(
            load(model), Catalogue(overrides=hardware).system(system), Plan.parse(plan) if isinstance(plan, str) else
            plan, TrainingJob(**fields), Software(overrides=software).framework(framework),
        )  # fmt: skip

    return make
