import pytest

from trainshed.core import Evidence
from trainshed.report.tables import cell, evidence_line, percent, plainly


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("step_time_s", 0.0021, "2.1 ms"), ("memory_per_chip_bytes", 96e9, "96 GB"), ("mfu", 0.413, "41.3 %"),
        ("tokens_per_s", 1234.5, "1,234/s"), ("power_w", None, "–"), ("algbw_bytes_per_s", 5e11, "500 GB/s"),
        ("memory_fits", True, "True"), ("plan", "tp8", "tp8"),
    ],
)  # fmt: skip
def test_a_value_is_printed_in_the_unit_of_its_key(key: str, value: object, text: str) -> None:
    assert cell(key, value) == text


def test_fractions_and_nothing() -> None:
    assert percent(0.1234, signed=True) == "+12.3 %"
    assert percent(None) == plainly(None) == plainly({}) == "–"


def test_evidence_is_one_sentence() -> None:
    some = Evidence(
        comparable_points=7, median_abs_error=0.1, p90_abs_error=0.3, range=(1.0, 2.0), carried_from="trn2",
        why="Seven rows.", metric="step_time_s",
    )  # fmt: skip
    line = evidence_line(some)
    assert "7 comparable" in line
    assert "carried over from trn2" in line
    assert "step time 1 s to 2 s" in line
    none = Evidence(
        comparable_points=0, median_abs_error=None, p90_abs_error=None, range=None, carried_from=None, why="no rows"
    )
    assert "none published" in evidence_line(none)
