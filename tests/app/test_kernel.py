"""``trainshed kernel``: outputs, findings, comparison, and every mistake in one sentence."""

import hashlib
import json

import numpy as np
import pytest

from trainshed.app.cli import main

KERNEL = """
import nki, nki.isa as nisa, nki.language as nl
import numpy as np

@nki.jit
def double(a, factor=2.0):
    tile = nl.load(a)
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.multiply(tile, factor))
    return out

def doubled(a, factor=2.0):
    return a.astype(np.float32) * factor

def tripled(a, factor=2.0):
    return a.astype(np.float32) * 3

@nki.jit
def wide(a):
    tile = nl.ndarray((128, 70000), dtype=nl.float32, buffer=nl.sbuf)
    return a

@nki.jit
def broken(a):
    return a.shape[7]

@nki.jit
def pair(a):
    return {"same": a, "masked": double(a, float("inf"))}

def paired(a):
    return {"masked": a * np.float32("inf"), "same": a}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "doubling.py"
    path.write_text(KERNEL)
    return path


def run(capsys, *arguments):
    code = 0
    try:
        main(["kernel", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr()


def test_a_kernel_is_run_compared_and_described(capsys, file):
    code, out = run(
        capsys,
        f"{file}::double",
        "--inputs",
        "a=fp32[64,32]",
        "--compare",
        f"{file}::doubled",
        "--on",
        "trn2",
        "--json",
    )
    assert code == 0
    result = json.loads(out.out)["result"]
    assert result["outputs"]["output0"]["shape"] == [64, 32]
    assert result["comparison"]["output0"]["max_abs_error"] == 0
    assert result["hbm_read_bytes"] == result["hbm_write_bytes"] == 64 * 32 * 4
    assert result["engines"]["dma"]["instructions"] == 2
    assert 0 < result["sbuf_peak_bytes"] <= 2 * 32 * 4
    assert result["lint"] == []


def test_two_runs_give_the_same_digests_and_another_seed_others(capsys, file):
    digests = []
    for seed in (0, 0, 1):
        _, out = run(capsys, f"{file}::double", "--inputs", "a=bf16[8,8]", "--seed", seed, "--json")
        digests.append(json.loads(out.out)["result"]["outputs"]["output0"]["sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_without_values_there_are_records_and_no_digests(capsys, file):
    code, out = run(capsys, f"{file}::double", "--inputs", "a=fp32[64,32]", "--no-values", "--json")
    result = json.loads(out.out)["result"]
    assert code == 0
    assert result["outputs"]["output0"]["sha256"] is None
    assert result["engines"]["dma"]["instructions"] == 2


def test_a_difference_from_the_reference_exits_with_1_and_still_prints_the_tables(capsys, file):
    code, out = run(capsys, f"{file}::double", "--inputs", "a=fp32[64,32]", "--compare", f"{file}::tripled")
    assert code == 1
    assert "NO" in out.out
    assert "output0 differs from the reference" in out.err


@pytest.mark.parametrize(
    ("function", "inputs", "named"),
    [
        ("double", "", "--inputs for (a, factor=2.0)"),
        ("double", "a=fp32[4,4],b=3", "'b'"),
        ("dubble", "a=fp32[4,4]", "double"),
        ("wide", "a=fp32[4,4]", "doubling.py:20"),
        ("broken", "a=fp32[4,4]", "doubling.py:25"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_with_2(capsys, file, function, inputs, named):
    code, out = run(capsys, f"{file}::{function}", "--inputs", inputs)
    assert code == 2
    assert out.out == ""
    assert out.err.count("\n") == 1
    assert named in out.err


def test_a_file_that_does_not_exist_or_does_not_import(capsys, tmp_path):
    assert run(capsys, f"{tmp_path}/none.py::f")[0] == 2
    broken = tmp_path / "syntax.py"
    broken.write_text("def f(:\n")
    code, out = run(capsys, f"{broken}::f")
    assert code == 2
    assert "SyntaxError" in out.err
    text = tmp_path / "notes.md"
    text.write_text("no kernel")
    code, out = run(capsys, f"{text}::f")
    assert code == 2
    assert "no such Python file" in out.err
    assert run(capsys, "nothing")[0] == 2


def test_mistakes_in_the_reference_and_the_launch(capsys, file):
    inputs = ("--inputs", "a=fp32[4,4]")
    for wrong, named in [
        (("double", "--compare", f"{file}::broken"), "the reference raised"),
        (("double", "--lnc", "3"), "--lnc: physical cores: 3; expected 1 or 2"),
        (("nl",), "not a function"),
    ]:
        code, out = run(capsys, f"{file}::{wrong[0]}", *inputs, *wrong[1:])
        assert code == 2
        assert named in out.err


CALLABLE = """
import nki
import nki.language as nl


class Scaled:
    def __init__(self, function, factor):
        self.grid, self.function, self.factor = "mine", function, factor

    def __call__(self, a):
        tile = nl.multiply(nl.load(a), self.factor)
        out = nl.ndarray(a.shape, a.dtype, nl.shared_hbm)
        nl.store(out, tile)
        return [out for _ in range(1)][0]


plain = Scaled(None, 3.0)
jitted = nki.jit(Scaled(None, 3.0))
"""


@pytest.mark.parametrize("name", ["plain", "jitted"])
def test_an_object_that_is_called_is_a_kernel(capsys, tmp_path, name):
    path = tmp_path / "objects.py"
    path.write_text(CALLABLE)
    code, printed = run(capsys, f"{path}::{name}", "--inputs", "a=fp32[4,4]:ones", "--json")
    assert (code, printed.err) == (0, "")
    figures = json.loads(printed.out)["result"]
    (output,) = figures["outputs"].values()
    assert output["sha256"] == hashlib.sha256(np.full((4, 4), 3, np.float32).tobytes()).hexdigest()
    assert [(item["rule"], item["line"]) for item in figures["lint"]] == [("comprehension", 14)]


def test_outputs_are_compared_by_name_and_equal_infinities_are_equal(capsys, file):
    code, printed = run(
        capsys, f"{file}::pair", "--inputs", "a=fp32[4,4]:-1..1", "--compare", f"{file}::paired", "--json"
    )
    table = json.loads(printed.out)["result"]["comparison"]
    assert code == 0
    assert printed.err == ""
    assert [(name, row["max_abs_error"], row["max_rel_error"]) for name, row in table.items()] == [
        ("same", 0, 0), ("masked", 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("reference", "named"), [
    ("wide", "got an unexpected keyword argument 'factor'"), ("np", "--compare: not a function"),
])  # fmt: skip
def test_a_reference_that_cannot_take_the_inputs(capsys, file, reference, named):
    code, printed = run(
        capsys, f"{file}::double", "--inputs", "a=fp32[4,4],factor=2.0", "--compare", f"{file}::{reference}"
    )
    assert code == 2
    assert named in printed.err
    assert "run.py" not in printed.err


def test_lint_is_of_the_kernel_and_what_it_calls(capsys, tmp_path):
    path = tmp_path / "two.py"
    path.write_text(
        "import nki, nki.language as nl\n"
        "def helper(a):\n    return [i for i in sorted((1, 2))]\n"
        "@nki.jit\ndef clean(a):\n    nl.load(a)\n    return a\n"
        "@nki.jit\ndef sorts(a):\n    helper(a)\n    nl.load(a)\n    return a\n"
    )
    for name, lines in (("clean", set()), ("sorts", {3})):
        code, out = run(capsys, f"{path}::{name}", "--inputs", "a=fp32[4,4]", "--json")
        assert code == 0
        assert {item["line"] for item in json.loads(out.out)["result"]["lint"]} == lines


TIMED = """
import nki, nki.isa as nisa, nki.language as nl

@nki.jit
def small(a):
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    for i in range(a.shape[1] // 64):
        tile = nl.ndarray((128, 64), dtype=a.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=a[:, i * 64 : i * 64 + 64])
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        nisa.dma_copy(dst=out[:, i * 64 : i * 64 + 64], src=tile)
    return out

@nki.jit
def large(a):
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=a)
    nisa.tensor_scalar(tile, tile, nl.add, 1.0)
    nisa.dma_copy(dst=out, src=tile)
    return out

@nki.jit
def in_place(a):
    tile = nl.load(a)
    nl.store(a, nl.add(tile, 1.0))
    return a

def plain(a):
    return a + 1
"""


@pytest.fixture
def timed(tmp_path):
    path = tmp_path / "timed.py"
    path.write_text(TIMED)
    return path


INPUTS = ("--inputs", "a=fp32[128,1024]")


def figures(capsys, *arguments):
    code, out = run(capsys, *arguments, "--json")
    assert (code, out.err) == (0, "")
    return json.loads(out.out)["result"]


def test_time_is_told_with_what_it_is_made_of(capsys, timed):
    found = figures(capsys, f"{timed}::small", *INPUTS, "--on", "trn2")
    assert found["time_s"] > max(bound["time_s"] for bound in found["bounds"].values())
    assert all(bound["ratio"] >= 1 for bound in found["bounds"].values())
    assert sum(step["time_s"] for step in found["critical"]) == pytest.approx(found["time_s"])
    for name in ("vector", "dma"):
        engine = found["engines"][name]
        assert engine["active_s"] + engine["idle_s"] == pytest.approx(found["time_s"])
        assert engine["active_percent"] == pytest.approx(100 * engine["active_s"] / found["time_s"])
        assert engine["opcodes"]
    assert found["mfu"] == found["hfu"] == 0 < found["mbu"] < 1
    assert found["limit"] in found["bounds"]


def test_tables_of_time_name_lines_and_engines(capsys, timed):
    code, out = run(capsys, f"{timed}::small", *INPUTS)
    assert code == 0
    for said in ("nearest bound", "Critical path", "timed.py:9", "Idle engines", "waits for", "MFU", "HFU", "MBU"):
        assert said in out.out


def test_time_alone_and_values_alone(capsys, timed):
    both = figures(capsys, f"{timed}::small", *INPUTS)
    alone = figures(capsys, f"{timed}::small", *INPUTS, "--no-values")
    values = figures(capsys, f"{timed}::small", *INPUTS, "--no-time")
    assert alone["time_s"] == both["time_s"]
    assert alone["outputs"]["output0"]["sha256"] is None
    assert values["outputs"] == both["outputs"]
    assert not {"time_s", "critical", "mfu"} & values.keys()
    assert "active_s" not in values["engines"]["vector"]


@pytest.mark.parametrize("values", ["--values", "--no-values"])
def test_two_kernels_are_compared_line_by_line(capsys, timed, values):
    found = figures(capsys, f"{timed}::small", *INPUTS, "--compare", f"{timed}::large", values)
    assert ("comparison" in found) == (values == "--values")
    compared = found["time_comparison"]
    one, two = compared["times_s"]
    assert one == found["time_s"] > two
    assert compared["ratio"] == pytest.approx(one / two)
    assert sum(line["difference_s"] for line in compared["lines"]) == pytest.approx(one - two)
    rows = {row["what"]: row["values"] for row in compared["figures"]}
    assert rows["dma instructions"] == [32, 2]
    assert rows["HBM read"] == [128 * 1024 * 4] * 2
    (add,) = (line for line in compared["lines"] if line["opcode"] == "tensor_scalar")
    assert len(add["sources"]) == 2


def test_the_comparison_is_printed_and_a_plain_function_has_no_time(capsys, timed):
    code, out = run(capsys, f"{timed}::small", *INPUTS, "--compare", f"{timed}::large")
    assert code == 0
    assert "What made the difference" in out.out
    assert "timed.py::large" in out.out
    found = figures(capsys, f"{timed}::small", *INPUTS, "--compare", f"{timed}::plain")
    assert found["comparison"]["output0"]["close"]
    assert "time_comparison" not in found
    assert "time_comparison" not in figures(
        capsys, f"{timed}::small", *INPUTS, "--compare", f"{timed}::large", "--no-time"
    )


def test_the_other_function_gets_the_inputs_as_they_were(capsys, timed):
    found = figures(capsys, f"{timed}::in_place", *INPUTS, "--compare", f"{timed}::plain")
    assert found["comparison"]["output0"]["max_abs_error"] == 0


def test_trace_page_and_tables_are_written(capsys, timed, tmp_path):
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    found = figures(
        capsys, f"{timed}::small", *INPUTS, "--compare", f"{timed}::large", "--no-values",
        "--trace", out / "k.pftrace", "--plot", out / "k.html", "--explorer", out / "tables",
    )  # fmt: skip
    assert found["time_s"] > 0
    assert sorted(one.name for one in out.iterdir()) == ["k.html", "k.pftrace", "tables"]
    assert "Critical path" in (out / "k.html").read_text()
    assert (out / "tables" / "Instruction.parquet").is_file()
    assert (out / "k.pftrace").read_bytes()[:1] == b"\x0a"


@pytest.mark.parametrize(("options", "named"), [
    (("--trace", "k.json"), "--trace: kind of file: 'k.json'; expected a name ending in .pftrace"),
    (("--plot", "k.svg"), "--plot: kind of file: 'k.svg'; expected a name ending in .html"),
    (("--plot", "timed.py/k.html"), "cannot write"),
    (("--trace", "k.pftrace", "--no-time"), "--trace: nothing to show: '--no-time'; expected a run with --time"),
    (("--explorer", "tables", "--no-time"), "--explorer: nothing to show"),
    (("--compare", "timed.py::plain", "--no-values"), "--compare: nothing to compare"),
    (("--compare", "timed.py::large", "--no-values", "--no-time"), "--compare: nothing to compare"),
])  # fmt: skip
def test_what_cannot_be_shown_or_compared_is_said_before_anything_runs(
    capsys, timed, monkeypatch, tmp_path, options, named
):
    monkeypatch.chdir(tmp_path)
    code, out = run(capsys, f"{timed}::small", *INPUTS, *options)
    assert (code, out.out, out.err.count("\n")) == (2, "", 1)
    assert named in out.err
    assert [one.name for one in tmp_path.iterdir() if one.name != "__pycache__"] == ["timed.py"]


def test_a_kernel_that_does_nothing_has_tables_and_views_too(capsys, tmp_path):
    path = tmp_path / "nothing.py"
    path.write_text("import nki\n@nki.jit\ndef nothing(a):\n    return a\n")
    code, out = run(
        capsys, f"{path}::nothing", *INPUTS, "--plot", tmp_path / "k.html", "--trace", tmp_path / "k.pftrace",
        "--compare", f"{path}::nothing",
    )  # fmt: skip
    assert (code, out.err) == (0, "")
    assert (tmp_path / "k.html").is_file()


def test_two_cores_are_told_one_by_one(capsys, timed):
    found = figures(capsys, f"{timed}::large", *INPUTS, "--lnc", "2", "--on", "trn2")
    assert found["cores"] == len(found["cores_s"]) == 2
    assert found["time_s"] == max(found["cores_s"])
