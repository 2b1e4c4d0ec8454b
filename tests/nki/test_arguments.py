"""Arguments of instructions and functions that are of the wrong kind: one sentence with the kernel's line."""

import math

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.errors import NkiValidationError
from trainshed.nki.calls import BadArgumentError

X = np.ones((32, 8), np.float32)


def tile(dtype=nl.float32):
    return nl.zeros((32, 8), dtype)


def iota(**changed):
    nisa.iota(**{"dst": tile(nl.int32), "pattern": [[1, 8]], "offset": 0, "channel_multiplier": 0, **changed})


def affine(**changed):
    nisa.affine_select(
        **{"dst": tile(), "pattern": [[1, 8]], "channel_multiplier": 1, "on_true_tile": tile(), "on_false_value": 0.0,
           **changed}
    )  # fmt: skip


def tensor_scalar(operand, **more):
    nisa.tensor_scalar(tile(), tile(), nl.add, operand, **more)


WRONG = [
    ("sum, axis: dimension: 'x'; expected a whole number", lambda t: nl.sum(t, axis="x")),
    ("max, axis: dimension: 1.0;", lambda t: nl.max(t, axis=(1.0,))),
    ("max, axis: dimension: None;", lambda t: nl.softmax(t, axis=None)),
    ("tensor_reduce, axis: .*'x'", lambda t: nisa.tensor_reduce(tile(), nl.add, t, axis="x")),
    ("expand_dims, axis: .*'x'", lambda t: nl.expand_dims(t, axis="x")),
    ("program_id, axis: .*'x'", lambda t: nl.program_id("x")),
    ("program_id, axis: .*0.5", lambda t: nl.program_id(0.5)),
    ("num_programs, axis: .*'x'", lambda t: nl.num_programs(("x",))),
    ("iota, pattern: pattern: 'ab'; expected .*step, elements", lambda t: iota(pattern="ab")),
    ("iota, pattern: pattern: None", lambda t: iota(pattern=None)),
    ("iota, pattern: pattern: .1, 8.", lambda t: iota(pattern=[1, 8])),
    ("iota, pattern: number: 'a'", lambda t: iota(pattern=[["a", 8]])),
    ("iota, pattern: number: 8.0", lambda t: iota(pattern=[[1, 8.0]])),
    ("iota, offset: number: 'a'", lambda t: iota(offset="a")),
    ("iota, channel_multiplier: number: 'a'", lambda t: iota(channel_multiplier="a")),
    ("affine_select, pattern: ", lambda t: affine(pattern="a")),
    ("affine_select, on_false_value: .*'x'; expected a scalar", lambda t: affine(on_false_value="x")),
    ("ap, offset: number: 'x'", lambda t: t.ap([[8, 32], [1, 8]], offset="x")),
    ("ap, offset: number: 1.5", lambda t: t.ap([[8, 32], [1, 8]], offset=1.5)),
    ("permute, dims: .*'ab'", lambda t: t.permute("ab")),
    ("permute, dims: .*: 1;", lambda t: t.permute(1)),
    ("broadcast, size: .*'x'", lambda t: t[:, 0:1].broadcast(1, "x")),
    ("expand_dim, .*dimension: 'x'", lambda t: t.expand_dim("x")),
    ("broadcast_to, shape: .*'x'", lambda t: nl.broadcast_to(t, "x")),
    ("tensor_scalar, operand0: .*'x'; expected a scalar or a tensor", lambda t: tensor_scalar("x")),
    ("tensor_scalar, operand0: .*1.0", lambda t: tensor_scalar([1.0])),
    ("tensor_scalar, operand0: .*array", lambda t: tensor_scalar(np.ones(3))),
    ("tensor_scalar, operand1: .*'x'", lambda t: tensor_scalar(1.0, op1=nl.add, operand1="x")),
    ("tensor_scalar, operand0: .*'x'", lambda t: nl.add(t, "x")),
    ("activation, scale: .*'x'", lambda t: nisa.activation(tile(), nl.exp, t, scale="x")),
    ("activation, bias: .*'x'", lambda t: nisa.activation(tile(), nl.exp, t, bias="x")),
    ("register_alloc, x: number: 'x'", lambda t: nisa.register_alloc("x")),
    ("register_alloc, x: number: 1.5", lambda t: nisa.register_alloc(1.5)),
    ("register_move, src: number: 'x'", lambda t: nisa.register_move(nisa.register_alloc(0), "x")),
    ("nc_stream_shuffle, shuffle_mask: .*None; expected a list", lambda t: nisa.nc_stream_shuffle(tile(), t, None)),
    ("nc_stream_shuffle, shuffle_mask: .*'a'", lambda t: nisa.nc_stream_shuffle(tile(), t, ["a"] * 32)),
    ("fori_loop, body_fun: .*None; expected a function", lambda t: nl.fori_loop(0, 3, None)),
    ("while_loop, body_fun: .*None", lambda t: nl.while_loop(nisa.register_alloc(1), None)),
    ("dropout, x: operand: 'str'; expected a tile", lambda t: nl.dropout("x", 0.5)),
    ("dropout, prob: probability: 'x'", lambda t: nl.dropout(t, "x")),
    ("load, src: operand: 'str'", lambda t: nl.load("x")),
    ("store, dst: operand: 'str'", lambda t: nl.store("x", t)),
    ("ndarray, shape: size: 128.0; expected a whole number", lambda t: nl.ndarray((128.0, 4), nl.float32)),
    ("ndarray, shape: size: 'a'", lambda t: nl.zeros(("a", 4), nl.float32)),
    ("ndarray, shape: size: None", lambda t: nl.ndarray(None, nl.float32)),
    ("ndarray, buffer: memory: 'sbuf'; expected nl.sbuf, ", lambda t: nl.ndarray((8, 4), nl.float32, buffer="sbuf")),
    ("ndarray, address: .*'ab'", lambda t: nl.ndarray((8, 4), nl.float32, address="ab")),
    ("ndarray, address: address: .0,.;", lambda t: nl.ndarray((8, 4), nl.float32, address=(0,))),
    ("shared_constant, constant: file: 'no.npy'", lambda t: nl.shared_constant("no.npy")),
    ("float.*: Python number of a tensor", float),
    ("int.*: Python number of a tensor", int),
    ("floor.*: Python number of a tensor", math.floor),
    (r"operator \+: ", lambda t: +t),
    ("operator round.*integer dtype", lambda t: round(t, 2)),
    ("operator divmod: .*nl.reciprocal", lambda t: divmod(t, 2)),
    ("operator divmod: ", lambda t: divmod(2, t)),
]


@pytest.mark.parametrize(("sentence", "wrong"), WRONG)
def test_what_an_argument_must_be_is_told(sentence, wrong):
    with pytest.raises(NkiValidationError, match=sentence) as caught:
        nki.simulate(lambda x: wrong(nl.load(x)))(X)
    assert str(caught.value).startswith(f"{__file__}:")
    assert not isinstance(caught.value, BadArgumentError)


def test_whole_numbers_of_every_kind_are_taken():
    def kernel(x):
        t = nl.load(x)
        out = nl.ndarray([np.int64(32), nisa.register_alloc(1)], nl.float32, nl.shared_hbm)
        nisa.nc_stream_shuffle(t, t, np.arange(32))
        nisa.tensor_scalar(t, t, nl.add, np.float64(1), op1=nl.multiply, operand1=nisa.register_alloc(2))
        nl.store(out, nl.sum(t, axis=np.int32(-1), keepdims=True))
        return out

    assert (nki.simulate(kernel)(X) == 32).all()


def test_what_has_no_sentence_of_its_own_names_the_function_and_the_line():
    name = r"exp: arguments: .*AttributeError: .*'str'.*; expected exp\(x, dtype\)"
    with pytest.raises(BadArgumentError, match=name) as caught:
        nki.simulate(lambda x: nl.exp("x"))(X)
    assert str(caught.value).startswith(f"{__file__}:")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("error", "wrong"), [
    (AttributeError, lambda t: t.nothing), (ValueError, lambda t: int("x")), (IndexError, lambda t: [][1]),
    (KeyError, lambda t: nl.fori_loop(0, 1, lambda i: {}[3])), (TypeError, lambda t: np.zeros("x")),
])  # fmt: skip
def test_errors_of_the_kernel_s_own_stay_as_they_are(error, wrong):
    with pytest.raises(error) as caught:
        nki.simulate(lambda x: wrong(nl.load(x)))(X)
    assert not isinstance(caught.value, NkiValidationError)
