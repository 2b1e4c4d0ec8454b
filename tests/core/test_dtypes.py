import pytest

from trainshed.core import Dtypes, UserError


def test_one_name_sets_every_class_that_it_can() -> None:
    assert Dtypes.parse("bf16").of("matmul") == "bf16"
    fp8 = Dtypes.parse("fp8")
    assert (fp8.of("weights"), fp8.of("activations"), fp8.of("matmul")) == ("fp8", "bf16", "fp8")


def test_classes_by_name() -> None:
    dtypes = Dtypes.parse("weights=mxfp4,activations=bf16,kv=fp8")
    assert (dtypes.of("experts"), dtypes.of("matmul"), dtypes.of("kv")) == ("mxfp4", "bf16", "fp8")
    assert dtypes.size("weights") == pytest.approx(4.25 / 8)


@pytest.mark.parametrize("text", ["fp7", "weights=fp7", "wieghts=bf16"])
def test_unknown_names_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="unknown"):
        Dtypes.parse(text)
