"""Frameworks and engines: free text finds the nearest entry; each kind of value replaces the one before it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.core.load import read
from trainshed.software import Software
from trainshed.software import catalogue as module
from trainshed.software.schema import ENGINE_MECHANISMS, FRAMEWORK_MECHANISMS

MEASURED = Path(__file__).parents[2] / "validation" / "training.csv"


@pytest.mark.parametrize(
    ("text", "date", "name"),
    [
        ("megatron-bridge (NeMo 25.11)", "", "megatron-bridge-25.11"),
        ("megatron-bridge (NeMo 26.04.01)", "", "megatron-bridge-26.04"),
        ("megatron-bridge (NeMo 26.05)", "", "megatron-bridge-26.04"),
        ("megatron-bridge (NeMo 31.01)", "", "megatron-bridge-26.08"),
        ("megatron-bridge (NeMo 24.01)", "", "megatron-bridge-25.09"),
        ("megatron-bridge", "", "megatron-bridge-26.08"),
        ("nemo 24.12", "", "nemo-24.12"),
        ("nemo/megatron (MLPerf v5.0)", "", "mlperf-nemo-5.0"),
        ("Megatron-LM", "2022-05", "megatron-lm-2"),
        ("megatron-lm (neuron) (SDK 2.13.0)", "", "megatron-lm-neuron-2.6"),
        ("torch-neuronx (SDK 2.22.0)", "", "torch-neuronx-2.18"),
        ("maxtext", "2024-03", "maxtext-1"),
    ],
)
def test_free_text_finds_the_nearest_entry(text: str, date: str, name: str) -> None:
    assert Software().framework(text, date=date).name == name


def test_every_framework_of_the_measurements_is_found() -> None:
    software = Software()
    with MEASURED.open(encoding="utf-8") as handle:
        texts = {(row["framework"], row["date"]) for row in csv.DictReader(handle)}
    assert all(software.framework(text, date=date).name in software.frameworks() for text, date in texts if text)


def test_every_entry_loads_with_every_mechanism_sourced() -> None:
    software = Software()
    for name in software.frameworks():
        framework = software.framework(name)
        assert framework.name == name
        assert set(framework.constants) == set(FRAMEWORK_MECHANISMS)
        for key, constant in framework.constants.items():
            assert constant.name == f"framework/{name}.{key}"
            assert constant.unit == FRAMEWORK_MECHANISMS[key][0]
            assert constant.source
    for name in software.engines():
        assert set(software.engine(name).constants) == set(ENGINE_MECHANISMS)


@pytest.mark.parametrize("vendor", ["Nvidia", "aws", "Google", "amd", "Intel"])
def test_a_user_who_names_no_framework_gets_the_vendor_s_usual_one(vendor: str) -> None:
    assert vendor.lower() in Software().default_framework(vendor).default_for


def test_overlaps_and_shares_are_fractions() -> None:
    software = Software()
    for name in software.frameworks():
        for key, constant in software.framework(name).constants.items():
            if key.startswith("overlap_") or key.endswith("_share"):
                assert 0 <= float(constant.value) <= 1, constant.name


def test_an_override_reaches_the_constant_it_names() -> None:
    software = Software(overrides={"framework/nemo-24.12.launch": np.array([[1e-6], [2e-6]])})
    assert np.shape(software.framework("nemo 24.12").fit("launch").value) == (2, 1)
    assert np.shape(software.framework("llm-foundry").fit("launch").value) == ()


def test_unknown_names_are_one_sentence() -> None:
    software = Software()
    with pytest.raises(UserError, match="unknown framework"):
        software.framework("megatrn")
    with pytest.raises(UserError, match="no such mechanism"):
        software.framework("nemo").fit("warp")
    with pytest.raises(UserError, match="unknown vendor"):
        software.default_framework("nobody")


def test_a_file_with_an_unknown_key_names_it(tmp_path: Path) -> None:
    path = tmp_path / "frameworks" / "x.toml"
    path.parent.mkdir()
    path.write_text('title = "X"\nspeed = 3\n[version.any]\ndate = "2026"\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"speed.*line 2|line 2"):
        module._family(module._KINDS["framework"], path)


def test_the_fitted_file_names_the_rows_of_every_number() -> None:
    root = read(module.HERE / "fitted.toml")
    for owner in root.keys():  # noqa: SIM118 (a Table, not a dict)
        table = root.table(owner)
        assert table is not None
        for key in table.keys():  # noqa: SIM118
            assert table.data[key]["status"] == "fitted", f"{owner}.{key}"
            assert "rows" in table.data[key]["source"] or "group" in table.data[key]["source"], f"{owner}.{key}"
