"""The page of a run of the library's suite."""

import json

import pytest

from trainshed.core.errors import UserError
from trainshed.nki.conformance.__main__ import command, modules, parser
from trainshed.nki.conformance.results import Outcome, kind_of, page, portable, read, share, total

ROWS = [
    {"total": 5},
    {"case": "test/a/test_rope.py::TestRope::test_x[1]", "outcome": "failed", "seconds": 1.0, "cause": "E: first"},
    {"case": "test/a/test_rope.py::TestRope::test_x[1]", "outcome": "passed", "seconds": 2.5, "cause": ""},
    {"case": "test/a/test_rope.py::TestRope::test_x[2]", "outcome": "failed", "seconds": 0.5,
     "cause": "NkiValidationError: /home/me/lib/rope.py:12: dma_copy, dst: 17"},
    {"case": "test/b/test_topk.py::test_y[a::b]", "outcome": "skipped", "seconds": 0.0,
     "cause": "Skipped: Skipping slow simulation test (see test/simulation.md)"},
    {"case": "test/b/test_topk.py::test_y[c]", "outcome": "xfailed", "seconds": 0.25, "cause": ""},
]  # fmt: skip


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + '{"case": "cut sh')
    return path


def test_the_last_outcome_of_a_case_stays_and_a_line_cut_short_is_left_out(results):
    found = read(results)
    assert [item.outcome for item in found.values()] == ["passed", "failed", "skipped", "xfailed"]
    assert total(results) == 5
    assert read(results.with_name("none")) == {}
    assert total(results.with_name("none")) is None


def test_what_the_suite_leaves_out_does_not_count(results):
    passed, count, percent = share(read(results).values())
    assert (passed, count) == (2, 3)
    assert percent == pytest.approx(200 / 3)
    assert share([]) == (0, 0, 0.0)


def test_what_a_test_skips_itself_is_told_and_does_not_count(results):
    with results.open("a") as file:
        file.write(
            '\n{"case": "test/b/test_topk.py::test_z", "outcome": "skipped", "seconds": 0.0, "cause": "Skipped: twin"}'
        )
    text = page(read(results), selection="some", facts={})
    assert "**2 of 3 cases pass (66.67 %)**" in text
    assert "- beside these 1 cases that the tests skip themselves: 1 because “twin”" in text
    assert "| test_topk | 1 | 0 | 1 | 0.2 |" in text


def test_names_of_modules_and_cases(results):
    item = read(results)["test/b/test_topk.py::test_y[c]"]
    assert (item.module, item.name) == ("test_topk", "test_y[c]")


def test_the_page_holds_totals_modules_and_every_failure_without_this_machines_folders(results):
    text = page(read(results), selection="cases marked fast", facts={"nki-library": "abc"})
    assert "**2 of 3 cases pass (66.67 %)**: cases marked fast." in text
    assert "| test_rope | 1 | 1 | 0 | 3.0 |" in text
    assert "| test_topk | 1 | 0 | 0 | 0.2 |" in text
    assert "### test_rope: 1\n\nNkiValidationError: rope.py:12: dma_copy, dst: 17\n\n- `test_x[2]`" in text
    assert "/home" not in text


def test_what_is_known_of_a_modules_failures_is_told_beside_them():
    item = Outcome(case="test_cascaded_max_utils.py::test_x", outcome="failed", seconds=1.0, cause="E: race")
    assert "E: race The race is the test kernel's" in page({item.case: item}, selection="one", facts={})


def test_a_page_without_failures_says_so():
    only = Outcome(case="test_a.py::test_x", outcome="passed", seconds=1.0)
    assert page({only.case: only}, selection="one case", facts={}).endswith("## Failures\n\nNone.\n")


def test_causes_are_of_one_kind_where_only_numbers_and_folders_differ():
    one, two = "E: /a/b/rope.py:12: 17 bytes", "E: /c/rope.py:340:  9 bytes"
    assert kind_of(one) == kind_of(two) == "E: rope.py:#: # bytes"
    assert portable("") == "no message"


def test_modules_are_found_by_name_and_a_wrong_name_or_folder_is_an_error(tmp_path):
    folder = tmp_path / "test" / "integration" / "core"
    with pytest.raises(UserError, match="a checkout with test/integration"):
        modules(tmp_path, [])
    folder.mkdir(parents=True)
    file = folder / "test_rope.py"
    file.write_text("")
    assert modules(tmp_path, ["test_rope"]) == modules(tmp_path, ["test_rope.py"]) == [file]
    assert modules(tmp_path, []) == [tmp_path / "test" / "integration"]
    with pytest.raises(UserError, match="test_rop"):
        modules(tmp_path, ["test_rop"])


@pytest.mark.parametrize(
    ("option", "flag", "listed"),
    [("--only-failed", "--conformance-only", [ROWS[3]["case"]]),
     ("--resume", "--conformance-except", [row["case"] for row in (ROWS[1], *ROWS[3:])])],
)  # fmt: skip
def test_a_run_goes_on_where_it_stopped_or_takes_what_failed(tmp_path, results, option, flag, listed):
    folder = tmp_path / "test" / "integration"
    folder.mkdir(parents=True)
    (folder / "test_rope.py").write_text("")
    line = command(parser().parse_args([str(tmp_path), option]), results, tmp_path)
    assert line[line.index("-m", 3) + 1] == "fast"
    assert (tmp_path / "cases.txt").read_text().splitlines() == listed
    assert line[line.index(flag) + 1] == str(tmp_path / "cases.txt")
    assert "fast" not in command(parser().parse_args([str(tmp_path), "--all"]), results, tmp_path)


def test_processor_time_is_summed_whatever_else_ran(results):
    assert "processor time" not in page(read(results), selection="some", facts={})
    with results.open("a") as file:
        for n, seconds in enumerate((90.0, 30.0)):
            row = {"case": f"test/b/t.py::t[{n}]", "outcome": "passed", "seconds": 900.0, "processor_s": seconds}
            file.write("\n" + json.dumps(row))
    assert "- processor time of 2 cases: 2.0 minutes, 1.0 on each of two" in page(
        read(results), selection="some", facts={}
    )
