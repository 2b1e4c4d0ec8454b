"""Times of a case's launches, and cases that fail for them."""

import json
import subprocess
import sys

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.timing.timing import Timing
from trainshed.nki.conformance.results import Outcome, page, read
from trainshed.nki.conformance.timed import TimeFailure, broken, timed
from trainshed.nki.run import Simulated


def double(a):
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=a)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out, src=tile)
    return out


A = np.ones((4, 8), np.float32)


def made(seconds, **bounds):
    return Timing(
        seconds=seconds, cores=(seconds,), engines={}, bounds=bounds, mfu=0.0, hfu=0.0, mbu=0.0, dma=0.0, critical=()
    )  # fmt: skip


def test_every_launch_is_timed_and_only_while_asked():
    simulated = nki.simulate(double, target="trn2")
    with timed() as times:
        np.testing.assert_array_equal(simulated(A), 2 * A)
        one = simulated.timing.seconds
        nki.simulate(double, target="trn2")(np.ones((128, 4096), np.float32))
        nki.simulate(lambda a: None, target="trn2")(A)
    nki.simulate(double, target="trn2")(A)
    assert len(times.seconds) == times.launches == 3
    assert times.seconds[2] == 0.0
    assert times.seconds[0] == one < times.seconds[1]
    kept = times.to_json()
    assert kept.pop("timing_s") >= 0
    assert kept == {"launches": 3, "time_s": times.seconds[1], "bounded": True}


def test_a_launch_without_time_fails_the_case_and_its_result_stays(monkeypatch):
    monkeypatch.setattr(Simulated, "timing", property(lambda self: {}["no clock"]))
    with pytest.raises(TimeFailure, match=r"KeyError in test_timed.py:\d+: 'no clock'"), timed() as times:
        np.testing.assert_array_equal(nki.simulate(double)(A), 2 * A)
    assert times.to_json() == {"launches": 1, "time_s": None, "bounded": False, "timing_s": times.to_json()["timing_s"]}


def test_a_bound_over_the_time_or_a_time_that_is_none_is_told():
    assert broken(made(2e-6, tensor=2e-6, dma=1e-6)) == []
    assert broken(made(2e-6, tensor=1e-6, dma=3e-6)) == ["bound dma is 3e-06 s, over the time of 2e-06 s"]
    assert broken(made(2e-6, dma=float("nan"))) == ["bound dma is nan s, over the time of 2e-06 s"]
    assert broken(made(0.0)) == ["a launch takes 0.0 s"]
    assert broken(made(0.0), executes=False) == []
    assert broken(made(1e-6), executes=False) == ["a launch takes 1e-06 s"]
    assert broken(made(float("inf"))) == ["a launch takes inf s"]


def test_an_error_of_the_case_itself_stays():
    def case():
        with timed() as times:
            times.wrong.append("something")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        case()


def test_the_plugin_keeps_times_with_outcomes_and_fails_cases_by_them(tmp_path):
    (tmp_path / "test_x.py").write_text(
        "import numpy as np\n"
        "from trainshed.nki.conformance.plugin import _TIMES\n"
        "from nki_cpu_simulator.nki import cpu_simulate\n"
        "def kernel(a):\n"
        "    import trainshed.nki.isa as nisa, trainshed.nki.language as nl\n"
        "    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)\n"
        "    nisa.dma_copy(dst=out, src=a)\n"
        "    return out\n"
        "def test_good():\n    cpu_simulate(kernel)[2](np.ones((4, 4), np.float32))\n"
        "def test_none():\n    pass\n"
        "def test_wrong(request):\n"
        "    cpu_simulate(kernel)(np.ones((4, 4), np.float32))\n"
        "    request.node.stash[_TIMES].wrong.append('bound dma is 2 s, over the time of 1 s')\n"
    )
    # The suite's own modules, which the plugin changes, are not there.
    (tmp_path / "conftest.py").write_text("from trainshed.nki.conformance import suite\n")
    kept = tmp_path / "kept.jsonl"
    code = (
        "import sys, pytest\n"
        "from trainshed.nki.conformance import plugin\n"
        "del plugin.pytest_sessionstart\n"
        "sys.exit(pytest.main(sys.argv[1:], plugins=[plugin]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "--rootdir", str(tmp_path), "-c", "/dev/null", "-q",
         "-p", "no:cacheprovider", "--conformance-results", str(kept), "--conformance-time"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    found = {item.name: item for item in read(kept).values()}
    assert {name: item.outcome for name, item in found.items()} == {
        "test_good": "passed", "test_none": "passed", "test_wrong": "failed",
    }  # fmt: skip
    good, none, wrong = (found[name] for name in ("test_good", "test_none", "test_wrong"))
    assert (good.launches, good.bounded, none.launches, none.time_s) == (1, True, 0, None)
    assert good.time_s > 0
    assert wrong.cause == "TimeFailure: bound dma is 2 s, over the time of 1 s"
    assert (wrong.launches, wrong.bounded) == (1, False)
    assert json.loads(kept.read_text().splitlines()[0]) == {"total": 3}


def test_the_page_tells_how_many_cases_have_a_time_and_what_that_took():
    rows = [
        Outcome(case="test_a.py::a", outcome="passed", seconds=3.0, launches=2, time_s=2e-3, bounded=True, timing_s=1),
        Outcome(case="test_a.py::b", outcome="passed", seconds=3.0, launches=1, time_s=5e-6, bounded=True, timing_s=1),
        Outcome(case="test_a.py::c", outcome="passed", seconds=1.0, launches=0, bounded=True),
        Outcome(case="test_a.py::d", outcome="failed", seconds=1.0, launches=1, bounded=False, cause="TimeFailure: X"),
        Outcome(case="test_a.py::e", outcome="passed", seconds=9.0),
    ]  # fmt: skip
    text = page({row.case: row for row in rows}, selection="some", facts={})
    assert (
        "- time on virtual NeuronCores: 2 of 3 cases that launch kernels have one, 5 µs to 2 ms for the slowest "
        "launch; 2 are at or above all their bounds; 1 launch nothing; finding times took 2 s, 33.3 % more than the "
        "6 s of the same cases without"
    ) in text
    assert "TimeFailure: X" in text
    assert "time on virtual" not in page({row.case: row for row in rows[-1:]}, selection="some", facts={})
