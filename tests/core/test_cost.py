import ast
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import Constant, Cost, cheapest, formula, longest, scaled, total
from trainshed.core.cost import FUNCTIONS, evaluate
from trainshed.core.explain import sensitivity, tree


def constant(name: str, value: float, unit: str = "B/s") -> Constant:
    return Constant(name=name, value=value, unit=unit, status="published", source="a data sheet")


BANDWIDTH = constant("chip/x.hbm_bandwidth", 2e12)
LATENCY = constant("chip/x.latency", 3e-6, "s")
CORES = constant("chip/x.cores", 8, "count")


def step(bandwidth: object = BANDWIDTH, latency: object = LATENCY) -> Cost:
    read = formula("read", "s", "size / bandwidth", size=4e9, bandwidth=bandwidth)  # type: ignore[arg-type]
    launch = formula("launch", "s", "launches * latency", launches=7.0, latency=latency)  # type: ignore[arg-type]
    return total("step", [longest("overlap", [read, launch]), scaled("layers", launch, 11.0)])


def independent(node: dict) -> float:
    """Evaluates a printed node the way an outsider would: from children, constants and the formula's text."""
    names = {c["what"]: independent(c) for c in node["children"]} | {c["what"]: c["value"] for c in node["constants"]}
    if node["how"] == "sum":
        return sum(independent(c) for c in node["children"])
    if node["how"] == "max":
        return max(independent(c) for c in node["children"])
    plain = {"max": max, "min": min, "ceil": math.ceil, "floor": math.floor, "log2": math.log2, "sqrt": math.sqrt}
    return float(eval(node["formula"], {"__builtins__": {}}, plain | names))


def test_values_follow_the_rules() -> None:
    assert step().value == pytest.approx(4e9 / 2e12 + 11 * 7 * 3e-6)


def test_a_printed_tree_can_be_evaluated_by_an_outsider() -> None:
    printed = tree(step())
    assert independent(printed) == pytest.approx(printed["value"])
    assert {c["name"] for c in printed["children"][0]["children"][0]["constants"]} == {"chip/x.hbm_bandwidth"}


def test_arrays_and_scalars_agree() -> None:
    sizes = np.array([1e6, 1e9, 1e12])
    many = formula("read", "s", "max(size / bandwidth, latency)", size=sizes, bandwidth=BANDWIDTH, latency=LATENCY)
    for i, size in enumerate(sizes):
        one = formula("read", "s", "max(size / bandwidth, latency)", size=size, bandwidth=BANDWIDTH, latency=LATENCY)
        assert many.at(i).value == one.value == independent(tree(many.at(i)))


def test_cheapest_keeps_only_what_it_chose() -> None:
    sizes = np.array([1.0, 1e12])
    fast = formula("a", "s", "size / bandwidth", size=sizes, bandwidth=BANDWIDTH)
    flat = formula("b", "s", "latency", latency=LATENCY)
    best = cheapest("algorithm", [fast, flat])
    assert [c.what for _, c in best.at(0).children] == ["a"]
    assert [c.what for _, c in best.at(1).children] == ["b"]
    assert best.at(1).how == "sum"


def test_sensitivity_is_the_same_function_on_a_stacked_axis() -> None:
    def run(values: dict) -> np.ndarray:
        return np.asarray(
            step(
                BANDWIDTH.with_value(values.get(BANDWIDTH.name, BANDWIDTH.value)),
                LATENCY.with_value(values.get(LATENCY.name, LATENCY.value)),
            ).value
        )

    gains = {g["what"]: g["gain_for_10_percent"] for g in sensitivity(step(), run)}
    base = float(step().value)
    assert gains[BANDWIDTH.name] == pytest.approx(1 - (4e9 / 2.2e12 + 77 * 3e-6) / base)
    assert gains[LATENCY.name] == pytest.approx(1 - (4e9 / 2e12 + 77 * 3e-6 / 1.1) / base)


def test_counts_are_not_varied() -> None:
    cost = formula("x", "s", "work / cores", work=1.0, cores=CORES)
    assert sensitivity(cost, lambda _: 1.0) == []


def test_of_nothing_the_total_is_zero() -> None:
    assert total("none", []).value == 0.0


def test_a_formula_that_lacks_a_name_says_which() -> None:
    with pytest.raises(ValueError, match="names bandwidth"):
        formula("x", "s", "size / bandwidth", size=1.0)


def test_a_formula_can_reach_nothing_but_its_names() -> None:
    with pytest.raises((ValueError, NameError)):
        evaluate("__import__('os')", {})


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=6))
def test_sum_max_min_hold_for_any_terms(values: list[float]) -> None:
    terms = [formula(f"t{i}", "s", "v", v=v) for i, v in enumerate(values)]
    assert total("t", terms).value == pytest.approx(sum(values))
    assert longest("t", terms).value == max(values)
    assert cheapest("t", terms).value == min(values)


def test_functions_are_those_an_arithmetic_reader_knows() -> None:
    assert set(FUNCTIONS) == {"max", "min", "ceil", "floor", "log2", "sqrt", "exp"}
    assert isinstance(ast.parse(step().at(()).children[1][1].formula_text(), mode="eval"), ast.Expression)
