"""``trainshed kernel --explorer``: the tables of the run it prints, or a sentence and nothing written."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

KERNEL = """
import nki, nki.isa as nisa, nki.language as nl

@nki.jit
def double(a):
    tile = nl.load(a)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    nl.store(out, tile)
    return out
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    (tmp_path / "k.py").write_text(KERNEL)
    return f"kernel {tmp_path}/k.py::double --inputs a=f32[128,512] --on trn2 --explorer {tmp_path}/profile"


def test_the_tables_are_of_the_run_that_is_printed(trainshed, command, tmp_path):
    ran = trainshed(f"{command} --json")
    assert ran.code == 0, ran.err
    (row,) = pq.read_table(tmp_path / "profile" / "Summary.parquet").to_pylist()
    figures = ran.json["result"]
    assert row["total_time"] == pytest.approx(figures["time_s"])
    assert row["hbm_read_bytes"] == figures["hbm_read_bytes"] == 128 * 512 * 4
    assert row["vector_engine_active_time"] == pytest.approx(figures["engines"]["vector"]["active_s"], abs=2e-9)
    about = pq.read_schema(tmp_path / "profile" / "Instruction.parquet").metadata
    assert about[b"kernel"] == f"{tmp_path}/k.py::double".encode()
    assert about[b"target"] == b"trn2"


def test_a_directory_of_something_else_is_refused_before_the_kernel_runs(trainshed, command, tmp_path):
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "notes").write_text("mine")
    (tmp_path / "k.py").write_text(KERNEL + "\nraise RuntimeError('run')\n")
    ran = trainshed(command)
    assert ran.code == 2
    assert ran.err.startswith("--explorer: the directory holds something else")
    assert "notes" in ran.err
    assert [path.name for path in (tmp_path / "profile").iterdir()] == ["notes"]


def test_a_run_without_time_has_nothing_to_export(trainshed, command, tmp_path):
    ran = trainshed(f"{command} --no-time")
    assert ran.code == 2
    assert "--explorer" in ran.err
    assert not (tmp_path / "profile").exists()
