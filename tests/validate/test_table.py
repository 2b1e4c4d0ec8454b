"""Reading measurements: typed cells, strict errors, what counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainshed.core import UserError
from trainshed.validate.table import Prediction, Row, each, find, measurements, names, read, skip

HEADER = "id,point,primary,group,tier,metric,value,chip,model,seq,tp"


def write(folder: Path, *lines: str, name: str = "training.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_published_table_reads() -> None:
    rows = [row for table in names() for row in read(measurements() / f"{table}.csv")]
    assert len(rows) > 15_000
    assert len({row.id for row in rows}) == len(rows)
    assert all(row.value == row.value and row.metric for row in rows)


def test_cells_are_typed_and_empty_ones_are_none(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, HEADER, "t1,p/1,1,g,A,step_time_s,1.5e0,h100-sxm,,4096,"))
    assert (row.value, row.integer("seq"), row.integer("tp"), row.text("model")) == (1.5, 4096, None, None)
    assert row.number("micro_batch") is None
    assert (row.table, row.line, row.primary) == ("training", 2, True)
    with pytest.raises(KeyError):
        row.text("no_such_column")


def test_metric_and_statistic(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, "s1,p,1,g,A,ttft_s.p99,1,,,,", "s2,p,1,g,A,ttft_s,1,,,,", name="serving_neuron.csv")
    a, b = read(path, "training")
    assert (a.metric, a.statistic, b.statistic) == ("ttft_s", "p99", "mean")


@pytest.mark.parametrize(
    ("tier", "primary", "metric", "speculation", "counted"),
    [
        ("A", "1", "tpot_s", "", True),
        ("B", "1", "tpot_s", "none", True),
        ("C", "1", "tpot_s", "", False),
        ("A", "0", "tpot_s", "", False),
        ("A", "0", "energy_per_output_token_j", "", True),
        ("A", "0", "power_per_chip_w", "", True),
        ("A", "0", "hbm_read_bytes", "", True),
        ("A", "1", "tpot_s", "eagle3", False),
    ],
)
def test_what_counts(tmp_path: Path, tier: str, primary: str, metric: str, speculation: str, counted: bool) -> None:
    line = f"s1,p,{primary},g,{tier},{metric},1,{speculation}"
    (row,) = read(write(tmp_path, "id,point,primary,group,tier,metric,value,speculation", line, name="serving.csv"))
    assert row.counted is counted


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((HEADER + ",colour", "t1,p,1,g,A,m,1,,,,,red"), ["training.csv", "colour", "unknown column"]),
        ((HEADER, "t1,p,1,g,A,m,fast,,,,"), ["training.csv, line 2", "value", "fast", "a number"]),
        ((HEADER, "t0,p,1,g,A,m,1,,,,", "t1,p,1,g,A,m,1,,,4096.5,"), ["line 3", "seq", "whole number"]),
        ((HEADER, "t1,p,yes,g,A,m,1,,,,"), ["line 2", "primary", "0 or 1"]),
        ((HEADER, "t1,p,1,g,A,m,nan,,,,"), ["line 2", "value", "nan"]),
        ((HEADER, "t1,p,1,g,A,m,,,,,"), ["line 2", "empty cell", "value"]),
        ((HEADER, "t1,p,1,g,A,m,1"), ["line 2", "another length", "11 cells"]),
        (("id,group,tier,metric", "t1,g,A,m"), ["training.csv", "a column value"]),
        (("id,group,tier,metric,value,id", "t1,g,A,m,1,t1"), ["training.csv", "given twice"]),
    ],
)
def test_bad_tables_are_one_sentence(tmp_path: Path, lines: tuple[str, ...], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read(write(tmp_path, *lines))
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_json_cells(tmp_path: Path) -> None:
    header = "id,group,tier,metric,value,shape"
    (row,) = read(write(tmp_path, header, 'k1,g,A,time_s,1,"{""m"":2}"', name="kernels.csv"))
    assert row.json("shape") == {"m": 2}
    assert row.json("options") == {}
    with pytest.raises(UserError, match="a JSON object"):
        read(write(tmp_path, header, 'k1,g,A,time_s,1,"[1]"', name="kernels.csv"))


def test_find(tmp_path: Path) -> None:
    assert find("training") == find("training.csv") == ("training", measurements() / "training.csv")
    path = write(tmp_path, HEADER, name="kept_serving_neuron.csv")
    assert find(str(path)) == ("serving_neuron", path)
    with pytest.raises(UserError, match="training"):
        find("trainning")
    with pytest.raises(UserError, match="no such table"):
        find(str(tmp_path / "training.csv"))
    table, _ = find(str(write(tmp_path, "id,group,tier,metric,value,micro_batch,zero", name="other.csv")))
    assert table == "training"
    with pytest.raises(UserError, match="unknown table"):
        find(str(write(tmp_path, "id,group,tier,metric,value,colour", name="other.csv")))


def test_a_users_error_skips_its_row_alone(tmp_path: Path) -> None:
    rows = read(write(tmp_path, HEADER, "a,p,1,g,A,m,1,x,,,", "b,p,1,g,A,m,1,h100-sxm,,,", "c,p,1,g,A,m,1,,,,"))

    def predict(row: Row) -> float | None:
        if row.text("chip") == "x":
            raise UserError("unknown chip", where="row", value="x", expected="a chip")
        return 2.0 if row.text("chip") else None

    assert each(rows, predict) == [skip("unknown chip: x"), Prediction(value=2.0), skip("no value")]


def test_a_prediction_has_a_value_or_a_reason() -> None:
    for bad in ({}, {"value": 1.0, "skipped": "no"}):
        with pytest.raises(ValueError, match="either"):
            Prediction(**bad)
