import pytest

import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.nki.removed import REMOVED, RemovedNameError, UnknownNameError


@pytest.mark.parametrize("name", REMOVED["nki.language"])
def test_a_name_of_older_releases_says_what_takes_its_place(name):
    with pytest.raises(
        RemovedNameError, match=rf"test_removed\.py:\d+: nki\.language\.{name} is no longer part of NKI"
    ):
        getattr(nl, name)
    assert not hasattr(nl, name)


def test_instructions_too():
    with pytest.raises(RemovedNameError, match="scalar_offset"):
        _ = nisa.tensor_copy_dynamic_src


def test_a_name_that_never_was_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"test_removed\.py:\d+: nki\.language: .*'aranje'; .* arange") as caught:
        _ = nl.aranje
    assert isinstance(caught.value, AttributeError)
    assert not hasattr(nl, "aranje")
    assert not hasattr(nl, "__wrapped__")
