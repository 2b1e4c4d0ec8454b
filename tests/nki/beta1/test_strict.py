"""Words and names that Beta 1 does not have."""

import numpy as np
import pytest

import trainshed.nki.isa
import trainshed.nki.language
from trainshed.chip.errors import NkiValidationError
from trainshed.nki import beta1
from trainshed.nki.beta1 import isa as nisa
from trainshed.nki.beta1 import language as nl
from trainshed.nki.beta1.strict import strict

X = np.arange(32, dtype=np.float32).reshape(4, 8)


def run(body):
    @beta1.jit
    def kernel(a):
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out, value=body(a))
        return out

    return kernel(X)


@pytest.mark.parametrize(("name", "word", "body"), [
    ("load", "foo", lambda a: nl.load(a, foo=1)),
    ("load", "dytpe", lambda a: nl.load(a, dytpe=nl.bfloat16)),
    ("exp", "scale", lambda a: nl.exp(nl.load(a), scale=2.0)),
    ("add", "out", lambda a: nl.add(nl.load(a), 1, out=None)),
    ("sum", "keepdim", lambda a: nl.sum(nl.load(a), axis=1, keepdim=True)),
    ("iota", "pattern", lambda a: nisa.iota(nl.arange(8)[None, :], dtype=nl.int32, pattern=[[1, 8]])),
    ("tensor_copy", "source", lambda a: nisa.tensor_copy(nl.load(a), source=1)),
    ("affine_range", "steps", lambda a: nl.affine_range(2, steps=2)),
    ("ndarray", "address", lambda a: nl.ndarray((4, 8), dtype=nl.float32, address=(0, 0))),
])  # fmt: skip
def test_a_word_the_function_does_not_have_is_told(name, word, body):
    with pytest.raises(
        NkiValidationError, match=rf"{name}, {word}: argument the function does not have: .*{name}\("
    ) as e:
        run(body)
    assert str(e.value).startswith(f"{__file__}:")


def test_hints_are_taken():
    def body(a):
        for _ in nl.affine_range(1, multi_buffer=2):
            tile = nl.load(a, name="tile", dge_mode=nisa.dge_mode.none)
        return nisa.tensor_copy(nl.exp(tile, mask=None, name="e"), name="copy", engine=nisa.vector_engine)

    np.testing.assert_allclose(run(body), np.exp(X), rtol=1e-5)


def test_a_function_keeps_its_name_and_its_words():
    def function(a, *, b=2, **_):
        """What it does."""
        return a, b

    made = strict(function)
    assert (made.__name__, made.__doc__) == ("function", "What it does.")
    assert made(1, b=3) == made(1, b=3, name="n") == (1, 3)


@pytest.mark.parametrize(("module", "name", "near"), [
    (nisa, "tensor_copi", "tensor_copy"), (nl, "lod", "load"), (nisa, "x", r"a name of neuronxcc.nki.isa: dir\(isa\)"),
    (trainshed.nki.isa, "nc_matmull", "nc_matmul"), (trainshed.nki.language, "qqq", r"nki.language: dir\(language\)"),
])  # fmt: skip
def test_a_name_that_does_not_exist_is_told_with_its_line_and_the_nearest(module, name, near):
    with pytest.raises(NkiValidationError, match=rf": name it does not have: '{name}'; expected .*{near}") as caught:
        getattr(module, name)
    assert str(caught.value).startswith(f"{__file__}:")
    assert isinstance(caught.value, AttributeError)
    assert not hasattr(module, name)
    assert not hasattr(module, "__wrapped__")
