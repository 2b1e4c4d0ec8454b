"""The runner of other people's kernels, on files made here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainshed.core.errors import UserError
from trainshed.nki.conformance import corpora
from trainshed.nki.conformance.corpora_cases import CASES, SUITES
from trainshed.nki.conformance.corpora_runs import Case, Outcome, Suite, run, run_suite

KERNELS = """
import os
import nki
import nki.language as nl
import nki.isa as nisa
import torch_xla.core.xla_model as xm
from beside import FACTOR

os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = "trn1"


@nki.jit
def scaled(a, rows=0):
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    if rows:
        nisa.dma_copy(dst=tile[0:rows, :], src=a[0:rows, :])
    else:
        nisa.dma_copy(dst=tile, src=a)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=FACTOR)
    nisa.dma_copy(dst=out, src=tile)
    return out


def into(a, out):
    nl.store(out, nl.load(a))


def broken(a):
    return a.nothing
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "group" / "repository" / "kernels"
    folder.mkdir(parents=True)
    (folder / "my-kernels 1.0.py").write_text(KERNELS)
    (folder / "beside.py").write_text("FACTOR = 3.0\n")
    return tmp_path / "group" / "repository"


def case(**changes: Any) -> Case:
    words: dict[str, Any] = {
        "corpus": "ours", "file": "kernels/my-kernels 1.0.py", "function": "scaled",
        "inputs": lambda near: (near.normal(8, 16),), "reference": lambda near, a, *_: a * near.module("beside").FACTOR,
    }  # fmt: skip
    return Case(**{**words, **changes})


def test_a_kernel_that_matches(root: Path) -> None:
    outcome = run(case(), root)
    assert (outcome.result, outcome.error, outcome.note) == ("matches", 0.0, "")
    assert outcome.good


def test_a_kernel_that_differs(root: Path) -> None:
    outcome = run(case(reference=lambda near, a: a), root)
    assert outcome.result == "differs"
    assert outcome.error == pytest.approx(2.0)
    assert run(case(reference=lambda near, a: a[:4]), root).note == "shapes [(8, 16)], expected [(4, 16)]"


def test_outputs_among_the_arguments(root: Path) -> None:
    made = case(
        function="into", written=(1,), inputs=lambda near: (near.normal(8, 16), np.zeros((8, 16), np.float32)),
        reference=lambda near, a, _: a,
    )  # fmt: skip
    assert run(made, root).result == "matches"


def test_a_kernel_that_must_be_refused(root: Path) -> None:
    partial = case(inputs=lambda near: (near.normal(8, 16), 4), refused="uninitialised-read")
    outcome = run(partial, root)
    assert outcome.result == "refused"
    assert "uninitialised" in outcome.note
    assert run(case(refused="uninitialised-read"), root).result == "differs"
    assert run(case(inputs=partial.inputs, refused="partitions"), root).result == "error"


def test_what_goes_wrong_is_told(root: Path) -> None:
    outcome = run(case(function="broken", reference=lambda near, a: a), root)
    assert outcome.result == "error"
    assert outcome.note.startswith("AttributeError: ")
    skipped = run(case(needs=("a_package_nobody_has",)), root)
    assert (skipped.result, skipped.note) == ("skipped", "needs a_package_nobody_has")


def test_a_file_leaves_no_traces(root: Path) -> None:
    before = dict(os.environ), list(sys.path), set(sys.modules)
    run(case(), root)
    run(case(), root)
    assert dict(os.environ) == before[0]
    assert sys.path == before[1]
    assert not {"beside", "torch_xla", "torch_xla.core"} & (set(sys.modules) - before[2])


def test_a_suite_of_tests(root: Path) -> None:
    tests = root / "tests"
    tests.mkdir()
    (tests / "test_them.py").write_text(
        "import os\nimport numpy as np\nimport nki\nimport nki.language as nl\n\n"
        "def kernel(a):\n    out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)\n"
        "    nl.store(out, nl.load(a))\n    return out\n\n"
        "def test_good():\n    a = np.ones((4, 4), np.float32)\n"
        "    assert np.array_equal(nki.simulate(kernel)(a), a) and os.environ['WORD'] == 'yes'\n\n"
        "def test_bad():\n    raise ValueError('why')\n\n"
        "def test_slow():\n    raise TimeoutError\n"
    )
    suite = Suite(
        corpus="ours", file="tests/test_them.py", marker="kernels", environment={"WORD": "yes"},
        known={"test_bad": "it is known"}, slow={"test_slow": "it waits"},
    )  # fmt: skip
    outcomes = run_suite(suite, root)
    assert [(item.name, item.result, item.note) for item in outcomes] == [
        ("test_good", "matches", ""), ("test_bad", "differs", "it is known"),
        ("test_slow", "skipped", "it waits: --slow runs it"),
    ]  # fmt: skip
    missing = Suite(corpus="ours", file="tests", marker="kernels", needs=("a_package_nobody_has",))
    assert [item.result for item in run_suite(missing, root)] == ["skipped"]


def test_folders_are_found_two_levels_down(root: Path) -> None:
    file = "kernels/beside.py"
    for path in (root, root.parent, root.parent.parent):
        assert corpora.find([path], [file]) == root
    assert corpora.find([root / "kernels"], [file]) is None


def test_the_command(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(corpora, "CASES", (case(), case(file="kernels/absent.py"), case(corpus="other", file="no.py")))
    monkeypatch.setattr(corpora, "SUITES", ())
    page = root / "page.md"
    assert corpora.main([str(root), "--write", str(page)]) == 0
    assert "2 kernels and tests, 0 not as they should be" in capsys.readouterr().out
    text = page.read_text()
    assert "| ours | 1 | 1 | 0 | 0 | 1 |" in text
    assert "| scaled | matches | 0.0e+00 |  |" in text
    assert "| scaled | skipped |  | not in this checkout |" in text
    monkeypatch.setattr(corpora, "CASES", (case(reference=lambda near, a: a),))
    assert corpora.main([str(root)]) == 1
    with pytest.raises(UserError, match="a known checkout"):
        corpora.main([str(root), "--only", "nothing of that name"])


def test_the_page_names_no_folder_of_the_machine() -> None:
    row = Outcome(corpus="c", file="f.py", name="k", result="error", note="/home/me/repo/f.py:3: tile | wrong")
    assert "| k | error |  | f.py:3: tile \\| wrong |" in corpora.markdown([row])


def test_cases_are_of_public_files() -> None:
    for item in (*CASES, *SUITES):
        assert not Path(item.file).is_absolute()
        assert item.corpus
    assert len({(item.file, item.name) for item in CASES}) == len(CASES)
