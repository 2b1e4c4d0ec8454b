"""The page of a kernel's time."""

from xml.etree import ElementTree

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.report import kernel_page
from trainshed.report.kernel_page import write_page

pytest.importorskip("matplotlib")


def kernel(a):
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=a)
    nisa.tensor_scalar(tile, tile, nl.add, 1.0)
    nisa.dma_copy(dst=out, src=tile)
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = nki.simulate(kernel, target="trn2", values=False)
    run(np.zeros((128, 512), np.float32))
    time, profile = run.timing.to_json(), run.profile.to_json()
    figures = profile | time | {"engines": {k: v | time["engines"][k] for k, v in profile["engines"].items()}}
    path = tmp_path_factory.mktemp("page") / "k.html"
    write_page(path, "k.py::<kernel>", figures, [], run.columns, run.clocks)
    return path.read_text()


def test_the_page_stands_alone_and_has_every_section(page):
    for heading in ("Time", "Engines over time", "Bounds", "Critical path", "Idle engines", "Memory"):
        assert f"<h2>{heading}</h2>" in page
    for outside in ('src="http', 'href="http', "@import", "<script"):
        assert outside not in page
    assert "k.py::&lt;kernel&gt;" in page
    assert "simulated, not measured" in page


def test_plots_are_well_formed_and_name_lines(page):
    plots = ["<svg" + part.split("</svg>")[0] + "</svg>" for part in page.split("<svg")[1:]]
    assert len(plots) == 6  # engines, bounds, critical path, idle engines, SBUF, PSUM
    for plot in plots:
        assert ElementTree.fromstring(plot).tag.endswith("svg")
    load = f"test_kernel_page.py:{kernel.__code__.co_firstlineno + 3}"
    assert f"{load} dma_copy" in plots[2]
    assert f"dma_copy at {load} (dma)" in plots[3]


def test_a_step_function_of_many_points_keeps_its_peaks():
    x, y = np.arange(100_000), np.zeros(100_000)
    y[[7, 54_321]] = 5.0, 9.0
    few, kept = kernel_page._steps(x, y)
    assert len(few) <= 1000
    assert kept.max() == 9.0
    assert kept[0] == 5.0
    assert np.array_equal(kernel_page._steps(x[:10], y[:10])[1], y[:10])
