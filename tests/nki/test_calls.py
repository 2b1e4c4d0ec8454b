"""Calls that no signature takes, as kernels of Beta 1 make them: one sentence with the kernel's line."""

import functools

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.nki.calls import BadCallError

ONES = np.ones((4, 8), np.float32)
DESTINATION = r"expected the destination first, .*NKI migration guide, 0\.1\.0 to 0\.2\.0\): "


def masked(x):
    return nl.load(x, mask=None)


def without_dst(x):
    return nisa.activation(op=nl.exp, data=nl.load(x))


def value_returning(x):
    tile = nl.load(x)
    return nisa.tensor_copy(
        tile,
    )


def all_positional(x):
    tile = nl.load(x)
    return nisa.tensor_tensor(tile, tile, op=nl.add)


def asks_for_a_dtype(x):
    return nisa.reciprocal(nl.load(x), dtype=nl.bfloat16)


def gone(x):
    return nisa.dma_copy(dst=x, src=x, dst_rmw_op=nl.add)


def too_many(x):
    return nl.load(x, nl.float32, None, None)


def a_method(x):
    return x.ap([[8, 4], [1, 8]], wrong=1)


def by_another_name(x):
    call = functools.partial(nisa.memset, value=0)
    return call()


def unreadable(x):
    return [nisa.tensor_copy][0](x)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize(("kernel", "said"), [
    (masked, r"load: call: .*unexpected keyword argument 'mask'.*; expected slices that end at min"),
    (without_dst, rf"activation: call: .*missing 1 .* 'dst'.*{DESTINATION}activation\(dst, op, data, bias=…, "),
    (value_returning, rf"tensor_copy: call: .*missing 1 .* 'src'.*{DESTINATION}tensor_copy\(dst, src, engine=…"),
    (all_positional, rf"tensor_tensor: call: .*{DESTINATION}tensor_tensor\(dst, data1, data2, op, "),
    (asks_for_a_dtype, r"reciprocal: call: .*'dtype'.*; expected the dtype of the destination"),
    (gone, r"dma_copy: call: .*'dst_rmw_op'.*; expected nisa\.dma_compute\(dst, srcs, reduce_op\)\."),
    (too_many, r"load: call: .*takes from 1 to 2 .*; expected load\(src, dtype=…\)\."),
    (a_method, r"NkiTensor\.ap: call: .*'wrong'.*; expected NkiTensor\.ap\(pattern, offset=…, "),
    (by_another_name, rf"memset: call: .*'dst'.*{DESTINATION}memset\(dst, value, "),
    (unreadable, rf"tensor_copy: call: .*'src'.*{DESTINATION}tensor_copy\(dst, src, "),
])  # fmt: skip
def test_a_bad_call_says_what_to_write(kernel, said, cores):
    first = kernel.__code__.co_firstlineno
    with pytest.raises(BadCallError, match=said) as caught:
        nki.simulate(nki.jit(kernel)[cores])(ONES)
    assert caught.value.source.file == __file__
    assert first < caught.value.source.line <= first + 4
    assert str(caught.value).startswith(f"{caught.value.source}: ")
    assert isinstance(caught.value, TypeError)


def activation(dst, op):
    """A kernel author's own function of that name."""
    return dst, op


def calls_their_own(x):
    return activation(x)


def adds_what_does_not_add(x):
    return x.shape + 1


def raises_the_like(x):
    raise TypeError("load() missing a reason")


@pytest.mark.parametrize("kernel", [calls_their_own, adds_what_does_not_add, raises_the_like])
def test_other_type_errors_come_through(kernel):
    with pytest.raises(TypeError) as caught:
        nki.simulate(kernel)(ONES)
    assert type(caught.value) is TypeError


def test_without_the_file_the_name_decides():
    space = {"nl": nl}
    exec(compile("def kernel(x):\n    return nl.load(x, mask=None)\n", "nowhere.py", "exec"), space)
    with pytest.raises(BadCallError, match=r"^nowhere\.py:2: load: call: .*'mask'"):
        nki.simulate(space["kernel"])(ONES)
