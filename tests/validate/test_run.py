"""The whole way, from a file to the report, its page and its plot."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.core import UserError
from trainshed.validate.leave_out import sample_of
from trainshed.validate.page import accuracy_page, losses, write_accuracy_page
from trainshed.validate.plot import plot
from trainshed.validate.predictor import Predictor
from trainshed.validate.run import rows_of, run
from trainshed.validate.scores import GroupScore, ValidateReport, report
from trainshed.validate.setup import Setup


@pytest.fixture(scope="module")
def kernels() -> ValidateReport:
    return run(["kernels"], "chipboost_sweep", workers=1)


def test_a_group_of_a_table(kernels: ValidateReport) -> None:
    (group,) = kernels.groups
    assert (group.group, group.chip, group.metric, group.covered) == ("chipboost_sweep", "trn2", "time_s", group.points)
    assert group.median_abs_error is not None
    assert group.null_median_abs_error is not None
    (sweep,) = kernels.sweeps
    assert sweep.rank_correlation > 0.9


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    run(["power"], progress=lambda done, every: told.append((done, every)), workers=1)
    assert told[-1][0] == told[-1][1] == 86


def test_a_path_and_a_name_give_the_same(tmp_path: Path) -> None:
    source = Path(rows_of(["power"])[0].file)
    copy = tmp_path / "power.csv"
    copy.write_bytes(source.read_bytes())
    a, b = run(["power"], workers=1), run([str(copy)], workers=1)
    assert a.groups == b.groups


def test_an_unknown_chip_or_engine_skips_its_rows_alone(tmp_path: Path) -> None:
    header = "id,group,tier,metric,value,chip,system,chips,model,mode,batch,isl,osl,tp,framework,dtype_weights\n"
    line = "{},g,A,batch_latency_s,1,{},p5,1,llama-3-8b,static,1,128,128,1,{},fp16\n"
    path = tmp_path / "serving.csv"
    path.write_text(
        header + line.format("a", "h100-sxm", "vllm") + line.format("b", "wafer-9", "vllm")
        + line.format("c", "h100-sxm", "no-engine")
    )  # fmt: skip
    by_id = {s.row.id: s for s in run([str(path)], workers=1).rows}
    assert by_id["a"].predicted is not None
    assert "wafer-9" in by_id["b"].prediction.skipped
    assert "no-engine" in by_id["c"].prediction.skipped


def test_an_unknown_group_names_the_nearest() -> None:
    with pytest.raises(UserError, match="chipboost"):
        rows_of(["kernels"], "chipbost")


def test_no_row_crashes_its_table() -> None:
    rows = rows_of()
    spread = [rows[i] for i in sample_of(rows, 120)]
    with Predictor(spread, Setup.default()) as predictor:
        crashed = [p.skipped for p in predictor.predict() if p.skipped.startswith("crashed")]
    assert crashed == []


def test_the_page(kernels: ValidateReport, tmp_path: Path) -> None:
    path = tmp_path / "docs" / "accuracy.md"
    write_accuracy_page(kernels, path)
    text = path.read_text()
    for words in ("# Accuracy", "chipboost_sweep", "## Peers", "AIConfigurator", "## Noise of repeats", "null"):
        assert words in text
    assert "## Skipped\n\nNothing." in text


def test_the_page_lists_what_loses_to_the_null() -> None:
    fixed = {"table": "t", "chip": "c", "metric": "m", "regime": "r", "points": 20, "covered": 20, "skipped_why": {}}
    errors = {"p90_abs_error": 0.5, "bias": 0.0, "counted": 20, "counted_covered": 20}
    won = GroupScore(**fixed, **errors, group="won", median_abs_error=0.1, null_median_abs_error=0.3)  # type: ignore[arg-type]
    lost = GroupScore(**fixed, **errors, group="lost", median_abs_error=0.4, null_median_abs_error=0.3)  # type: ignore[arg-type]
    easy = GroupScore(**fixed, **errors, group="easy", median_abs_error=0.2, null_median_abs_error=0.05)  # type: ignore[arg-type]
    assert losses([won, lost, easy]) == [lost]
    page = accuracy_page(ValidateReport(groups=(won, lost, easy), sweeps=(), tables=(), rows=()))
    assert "Of 2 lines" in page
    assert "beats the\nnull in 1. It does not in:" in page


def test_the_plot(kernels: ValidateReport, tmp_path: Path) -> None:
    plot(kernels, tmp_path / "plots" / "v.svg")
    text = (tmp_path / "plots" / "v.svg").read_text()
    assert "<svg" in text
    assert "chipboost_sweep (38)" in text
    with pytest.raises(UserError, match="nothing was predicted"):
        plot(report([]), tmp_path / "none.svg")
