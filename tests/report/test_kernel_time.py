"""Tables of a kernel's time, from its JSON alone."""

import pytest

from trainshed.report.kernel_time import BOUNDS, comparison_grids, critical, time_grids


def step(line, time, share, engine="dma", opcode="dma_copy"):
    return {"source": f"/a/k.py:{line}", "opcode": opcode, "engine": engine, "count": 2, "time_s": time, "share": share}


END = {"source": "", "opcode": "no more work", "engine": "", "count": 1, "time_s": 1e-6, "share": 0.1}
TIME = {
    "time_s": 1e-5, "cores_s": [1e-5, 8e-6], "limit": "dma", "mfu": 0.25, "hfu": 0.5, "mbu": 0.125, "dma_share": 0.1,
    "engines": {
        "tensor": {"instructions": 3, "opcodes": {}, "active_s": 4e-6, "active_percent": 40.0, "idle_s": 6e-6,
                   "waits": [step(3, 5e-6, 0.5), END]},
        "sync": {"instructions": 1, "opcodes": {}},
    },
    "bounds": {"dma": {"time_s": 8e-6, "ratio": 1.25}, "tensor": {"time_s": 0.0, "ratio": None}},
    "critical": [step(i, 1e-6, 0.1) for i in range(12)],
}  # fmt: skip


def test_every_figure_has_its_unit():
    summary, bounds, _, idle = time_grids(TIME)
    assert [row[1] for row in summary.rows] == [
        "10 µs", "10 µs, 8 µs", "DMA bytes at full bandwidth, 1.25 x", "25.0 % of TensorE's peak in matmuls",
        "50.0 % with transposes", "12.5 % of its cores' share of the HBM bandwidth",
        "10.0 % of the bandwidth of its DMA engines",
    ]  # fmt: skip
    assert bounds.rows == [[BOUNDS["dma"], "8 µs", "1.25 x"], [BOUNDS["tensor"], "0 s", ""]]
    assert idle.rows == [
        ["tensor", "dma_copy at k.py:3 (dma)", "2", "5 µs", "50.0 %"], ["", "no more work", "1", "1 µs", "10.0 %"],
    ]  # fmt: skip


def test_a_long_path_ends_with_the_rest():
    rows = critical(TIME).rows
    assert len(rows) == 11
    assert rows[-1] == ["2 more lines", "", "", "4", "2 µs", "20.0 %"]
    assert len(critical(TIME, 30).rows) == 12


@pytest.mark.parametrize(("kernels", "columns"), [
    (["/a/new.py::k", "/b/old.py::k"], ("new.py::k", "old.py::k")),
    (["/a/k.py::k", "/b/k.py::k"], ("/a/k.py::k", "/b/k.py::k")),
])  # fmt: skip
def test_two_kernels_keep_their_folders_where_these_tell_them_apart(kernels, columns):
    change = {"code": "c", "opcode": "o", "engine": "dma", "sources": ["/a/k.py:1"], "counts": [1, 0],
              "times_s": [2e-6, 3e-6], "difference_s": -1e-6}  # fmt: skip
    found = {
        "kernels": kernels,
        "figures": [{"what": "time", "unit": "s", "values": [2e-6, 4e-6]},
                    {"what": "MFU", "unit": "share", "values": [0.5, 0.0]},
                    {"what": "dma instructions", "unit": "", "values": [1000, 500]}],
        "lines": [change] * 11,
    }  # fmt: skip
    figures, lines = comparison_grids(found)
    assert tuple(figures.columns[1:3]) == tuple(lines.columns[4:6]) == columns
    assert figures.rows == [
        ["time", "2 µs", "4 µs", "0.5 x"], ["MFU", "50.0 %", "0.0 %", ""], ["dma instructions", "1,000", "500", "2 x"],
    ]  # fmt: skip
    assert lines.rows[0] == ["k.py:1", "o", "dma", "1 / 0", "2 µs", "3 µs", "−1 µs"]
    assert lines.rows[-1][0] == "1 more lines"
