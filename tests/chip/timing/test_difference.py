"""Two critical paths side by side."""

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.timing.difference import changes, code


def wide(a):
    out = nl.ndarray((4, 128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.ndarray((128, 4, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=a.permute((1, 0, 2)))
    nisa.tensor_scalar(tile, tile, nl.add, 1.0)
    nisa.dma_copy(dst=out.permute((1, 0, 2)), src=tile)
    return out


def narrow(a):
    out = nl.ndarray((4, 128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    for i in range(4):
        tile = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(
            dst=tile,
            src=a[i],
        )
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        nisa.dma_copy(dst=out[i], src=tile)
    return out


def timed(kernel):
    run = nki.simulate(kernel, target="trn2", values=False)
    run(np.zeros((4, 128, 512), np.float32))
    return run.timing


def test_differences_by_line_add_up_to_the_difference_of_the_times():
    one, two = timed(wide), timed(narrow)
    found = changes(one, two)
    assert sum(change.difference for change in found) == pytest.approx(one.seconds - two.seconds)
    assert sum(change.seconds[0] for change in found) == pytest.approx(one.seconds)
    sizes = [abs(change.difference) for change in found]
    assert sizes == sorted(sizes, reverse=True)


def test_a_line_that_both_have_is_one_line_wherever_it_stands():
    found = changes(timed(wide), timed(narrow))
    (add,) = (change for change in found if change.opcode == "tensor_scalar")
    assert add.code == "nisa.tensor_scalar(tile, tile, nl.add, 1.0)"
    assert len(add.sources) == 2
    assert all(add.counts)
    loads = [change for change in found if "src=a" in change.code]
    assert [0 in change.counts for change in loads] == [True, True]


def test_a_kernel_differs_from_itself_in_nothing():
    assert all(change.difference == 0 for change in changes(timed(narrow), timed(narrow)))


def test_json_of_a_change():
    plain = changes(timed(wide), timed(narrow))[0].to_json()
    assert plain["difference_s"] == pytest.approx(plain["times_s"][0] - plain["times_s"][1])
    assert plain.keys() == {"code", "opcode", "engine", "sources", "counts", "times_s", "difference_s"}


def test_a_statement_over_several_lines_is_one_text(tmp_path):
    path = tmp_path / "k.py"
    path.write_text(
        "def f(a):\n    copy(\n        dst=a,\n    )\n    for i in g(\n        a\n    ):\n        one(i); two(i)\n"
        "    if a: three()\n"
    )
    assert code(f"{path}:2") == code(f"{path}:3") == "copy(dst=a)"
    assert code(f"{path}:6") == "for i in g( a ):"
    assert code(f"{path}:8") == "one(i); two(i)"
    assert code(f"{path}:9") == "if a: three()"


@pytest.mark.parametrize("source", ["", "no such file.py:3", "<string>:1"])
def test_what_cannot_be_read_is_its_own_name(source):
    assert code(source) == source


def test_a_file_that_is_not_python(tmp_path):
    path = tmp_path / "k.py"
    path.write_text("def (:\n")
    assert code(f"{path}:1") == f"{path}:1"
