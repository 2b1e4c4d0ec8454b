"""Every built-in model against the parameter count that its makers print, and against reference implementations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainshed.models import builtin, from_config, load

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "validation" / "models"
REFERENCE = {k: v for k, v in json.loads((HERE / "reference_counts.json").read_text()).items() if k != "_source"}


@pytest.mark.parametrize("name", builtin())
def test_count_is_the_published_one(name: str) -> None:
    model = load(name)
    assert model.published is not None
    assert model.published.source
    assert model.parameters == pytest.approx(model.published.parameters, rel=1e-3)


def test_most_counts_are_exact() -> None:
    models = [load(name) for name in builtin()]
    assert len(models) >= 30
    exact = [m.name for m in models if m.published and m.parameters == m.published.parameters]
    assert len(exact) >= 45


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_count_is_that_of_the_reference_implementation(name: str) -> None:
    # what remains: balancing biases of routers, which the reference keeps as buffers; RoBERTa's two extra positions
    assert load(CONFIGS / f"{name}.json").parameters == pytest.approx(REFERENCE[name], rel=2e-4)


def test_nearly_all_of_the_reference_counts_are_met_exactly() -> None:
    same = sum(load(CONFIGS / f"{name}.json").parameters == count for name, count in REFERENCE.items())
    assert same >= 155


@pytest.mark.parametrize(
    ("name", "active", "embedding"),
    [
        ("gpt-oss-20b", 3.61e9, False), ("gpt-oss-120b", 5.13e9, False), ("mixtral-8x7b", 12.9e9, True),
        ("mixtral-8x22b", 39.1e9, True), ("qwen3-30b-a3b", 3.35e9, True), ("qwen3-235b-a22b", 22.2e9, True),
        ("deepseek-v3", 37.6e9, True),
    ],
)  # fmt: skip
def test_active_parameters_as_the_cards_count_them(name: str, active: float, embedding: bool) -> None:
    model = load(name)
    table = 0 if embedding else model.vocab * model.hidden
    assert model.active_parameters - table == pytest.approx(active, rel=5e-3)


DEFAULTS = json.loads((HERE / "default_configs.json").read_text())


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_families_outside_the_measurements(name: str) -> None:
    """Default configs of transformers 5.23.0 and the parameters of its classes built from them."""
    model = from_config(DEFAULTS[name]["config"], name=name, where=name)
    assert model.parameters == pytest.approx(DEFAULTS[name]["parameters"], rel=1e-3)
