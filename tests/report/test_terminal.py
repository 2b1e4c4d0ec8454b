import io

from rich.console import Console

from trainshed.core import Assumption, Constant, Result, formula, longest, scaled, total
from trainshed.core.explain import tree as printed
from trainshed.report.terminal import show, tree

RATE = Constant(name="chip/x.rate", value=1e9, unit="B/s", status="published", source="a data sheet")


def text_of(thing: object) -> str:
    said = io.StringIO()
    Console(file=said, width=160).print(thing)
    return said.getvalue()


def test_shares_in_a_tree_are_of_the_root_however_often_a_part_repeats() -> None:
    read = formula("read", "s", "size / rate", size=1e6, rate=RATE)
    small = formula("small", "s", "size / rate", size=1e2, rate=RATE)
    step = total("step", [scaled("layers", longest("layer", [read, small]), 10.0), small])
    text = text_of(tree(printed(step)))
    assert "rate = 1 GB/s  published: a data sheet" in text
    assert text.count("100.0 %") == 4  # step, layers, layer, read
    assert "1 smaller parts" in text


def test_like_assumptions_are_told_once() -> None:
    alike = [Assumption(what=f"number {i}", value="inherited", source="s") for i in range(9)]
    result = Result(
        command="train", inputs={}, result={"step_time_s": 1.0}, assumptions=(*alike, Assumption(what="other", value=1))
    )
    said = io.StringIO()
    show(result, Console(file=said, width=160))
    assert said.getvalue().count("inherited") == 1
    assert "and 6 more" in said.getvalue()
    assert "other: 1" in said.getvalue()
