import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import Plan, PlanError, Recompute


def test_the_grammar_reads_every_key() -> None:
    plan = Plan.parse("tp8 sp1 pp4 vpp2 dp4 zero1 ep8 etp1 cp2 dpa2 mb3 sel lnc2 x4")
    assert (plan.tp, plan.sp, plan.pp, plan.vpp, plan.dp, plan.zero) == (8, 1, 4, 2, 4, 1)
    assert (plan.ep, plan.etp, plan.cp, plan.dpa, plan.mb, plan.lnc, plan.replicas) == (8, 1, 2, 2, 3, 2, 4)
    assert plan.recompute == Recompute.SELECTIVE
    assert plan.ranks == 8 * 4 * 4 * 2


@given(
    tp=st.integers(1, 64), pp=st.integers(1, 64), dp=st.integers(1, 9999), zero=st.integers(0, 3),
    recompute=st.sampled_from([0, 1, 2]), mb=st.integers(1, 8),
)  # fmt: skip
def test_printing_and_reading_are_inverse(tp: int, pp: int, dp: int, zero: int, recompute: int, mb: int) -> None:
    plan = Plan(tp=tp, pp=pp, dp=dp, zero=zero, recompute=recompute, mb=mb)
    assert Plan.parse(str(plan)) == plan


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tq8", "did you mean tp"),
        ("tp0", "at least 1"),
        ("tp-4", "at least 1"),
        ("zero4", "0 to 3"),
        ("tp8 tp4", "given twice"),
        ("tp", "words like"),
        ("tp8.5", "words like"),
    ],
)
def test_a_bad_word_is_one_clear_sentence(text: str, says: str) -> None:
    with pytest.raises(PlanError, match=says) as caught:
        Plan.parse(text)
    assert "\n" not in str(caught.value)


def test_a_table_of_plans_is_columns() -> None:
    plans = [Plan(tp=2, dp=4), Plan(tp=8, dp=1, recompute=2)]
    table = Plan.stack(plans)
    assert table.shape == (2,)
    np.testing.assert_array_equal(table.ranks, [8, 8])
    assert [table.at(i) for i in range(2)] == plans


def test_the_default_plan_prints_something() -> None:
    assert str(Plan()) == "tp1"
