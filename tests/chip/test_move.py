import numpy as np
import pytest

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.move import memset
from trainshed.chip.words import engine


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "float8_e4m3fn"])
def test_memset_fills_every_element_and_no_other(core, empty, values, dtype):
    tensor = empty((64, 7), dtype)
    memset(tensor[:, 2:5], 3)
    assert np.all(values(tensor[:, 2:5]).astype(np.float32) == 3)
    with pytest.raises(NkiValidationError, match="never written"):
        values(tensor)


def test_memset_refuses_gpsimd_on_psum_and_values_in_packed_formats(core, empty):
    with pytest.raises(NkiValidationError, match=r"test_move.*engine"):
        memset(empty((128, 8), buffer="psum"), 0, engine=engine.gpsimd)
    with pytest.raises(NkiValidationError, match="float8_e4m3fn_x4"):
        memset(empty((128, 8), "float8_e4m3fn_x4"), 1)
