import ml_dtypes
import numpy as np
import pytest

from trainshed.app.kernel_inputs import parse_inputs
from trainshed.core import UserError


def test_tensors_numbers_files_and_words(tmp_path):
    np.save(tmp_path / "w.npy", np.eye(3))
    made = parse_inputs(f"a=bf16[4,8], b=fp32[2]:ones,n=3,eps=1e-5,flag=True,nothing=None,w={tmp_path}/w.npy")
    assert list(made) == ["a", "b", "n", "eps", "flag", "nothing", "w"]
    assert made["a"].dtype == ml_dtypes.bfloat16
    assert made["a"].shape == (4, 8)
    np.testing.assert_array_equal(made["b"], [1, 1])
    assert (made["n"], made["eps"], made["flag"], made["nothing"]) == (3, 1e-5, True, None)
    np.testing.assert_array_equal(made["w"], np.eye(3))


def test_the_same_seed_gives_the_same_values_and_another_one_others():
    first, again, other = (parse_inputs("a=fp32[64]", seed=seed)["a"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fills():
    index = parse_inputs("i=uint32[1000,1]:5..9")["i"]
    assert set(index.ravel()) == {5, 6, 7, 8, 9}
    np.testing.assert_array_equal(parse_inputs("i=int32[2,3]:arange")["i"], [[0, 1, 2], [3, 4, 5]])
    assert abs(parse_inputs("a=fp32[100,100]")["a"].std() - 1) < 0.05


def test_packed_tensors_hold_finite_elements():
    packed = parse_inputs("a=float8_e4m3fn_x4[64,64]")["a"]
    assert packed.dtype.names == ("float8_e4m3fn_x4",)
    elements = packed.view(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert np.isfinite(elements).all()


@pytest.mark.parametrize(
    ("text", "named"),
    [("a", "name=dtype"), ("a=complex64[3]", "complex64"), ("a=bf16[0,3]", "positive"), ("a=bf16[3]:tri", "tri"),
     ("a=1,a=2", "twice"), ("a=missing.npy", "missing.npy"), ("1a=3", "1a=3"), ("a=bf16(3)", "bf16(3)"),
     ("a=uint32[3]:9..3", "9..3"), ("a=fp32[3]:1.2.3..4", "1.2.3..4"),
     ("a=uint8[4]:0..600", "from 0 to 255"), ("a=uint32[3]:-5..3", "from 0 to"), ("a=int32[4]:0.5..3", "whole numbers"),
     ("a=int8[400]:arange", "at most 128"), ("a=fp32[2 3]", "fp32[2 3]"), ("a=fp32[2,,3]", "fp32[2,,3]"),
     ("a=fp32[999999,999999,999999]", "memory"), ("a=int32[99999999999999999999]", "memory")],
)  # fmt: skip
def test_mistakes_name_the_item(text, named):
    with pytest.raises(UserError, match="--inputs") as error:
        parse_inputs(text)
    assert named in str(error.value)


def test_a_file_that_holds_no_numbers_is_told(tmp_path):
    text, objects = tmp_path / "text.npy", tmp_path / "objects.npy"
    text.write_text("not an array")
    np.save(objects, np.array([None]), allow_pickle=True)
    for path in (text, objects):
        with pytest.raises(UserError, match=r"--inputs a=.*npy: file: .*; expected numbers saved by numpy.save"):
            parse_inputs(f"a={path}")


def test_truth_is_drawn_both_ways():
    assert 16 < parse_inputs("a=bool[64]")["a"].sum() < 48


def test_a_seed_is_not_negative():
    with pytest.raises(UserError, match=r"--seed: seed: -5; expected 0 or more"):
        parse_inputs("a=fp32[2]", seed=-5)


@pytest.mark.parametrize(("short", "dtype"), [
    ("f32", np.float32), ("f16", np.float16), ("i32", np.int32), ("u32", np.uint32), ("i16", np.int16),
    ("u16", np.uint16), ("i8", np.int8), ("u8", np.uint8), ("fp32", np.float32), ("fp16", np.float16),
])  # fmt: skip
def test_short_names_of_dtypes(short, dtype):
    made = parse_inputs(f"a={short}[2,3]:ones")["a"]
    assert made.dtype == dtype
    np.testing.assert_array_equal(made, np.ones((2, 3)))
