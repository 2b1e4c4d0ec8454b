import pytest

from trainshed.numerics.dtypes import BYTES


@pytest.mark.parametrize(
    ("dtype", "bits", "block", "scale_bits"),
    [("mxfp8", 8, 32, 8), ("mxfp4", 4, 32, 8), ("nvfp4", 4, 16, 8), ("int4", 4, 128, 16), ("bf16", 16, 1, 0)],
)
def test_sizes_hold_the_block_scales(dtype: str, bits: int, block: int, scale_bits: int) -> None:
    assert BYTES[dtype] == pytest.approx((bits * block + scale_bits) / block / 8)
