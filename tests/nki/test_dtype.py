"""The formats have one list, ``nki.dtype``'s; the languages give the same objects."""

import pytest

import trainshed.nki.dtype as formats
import trainshed.nki.language as nl
from trainshed.nki.beta1 import language as beta1
from trainshed.numerics.formats import DTYPES


def test_every_format_of_the_chip_is_listed():
    assert set(formats.__all__) == {*DTYPES, "DType"}


@pytest.mark.parametrize("language", [nl, beta1])
@pytest.mark.parametrize("name", formats.__all__)
def test_the_languages_have_them(language, name):
    assert getattr(language, name) is getattr(formats, name)
    assert name in language.__all__
