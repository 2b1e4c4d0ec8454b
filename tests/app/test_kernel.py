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
