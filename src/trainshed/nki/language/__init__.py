"""``nki.language``: what kernels are written in, as NKI 0.3 to 0.6 name it."""

from trainshed.chip.tensor import DynamicSlice, NkiTensor
from trainshed.chip.words import MemoryRegion, NKIObject
from trainshed.nki.language.creation import (
    empty_like,
    full,
    hbm,
    ndarray,
    ones,
    private_hbm,
    psum,
    sbuf,
    shared_constant,
    shared_hbm,
    shared_identity_matrix,
    zeros,
    zeros_like,
)  # fmt: skip
from trainshed.nki.language.data import (
    broadcast_to,
    device_print,
    expand_dims,
    gather_flattened,
    load,
    load_transpose2d,
    matmul,
    store,
    transpose,
)  # fmt: skip
from trainshed.nki.language.elementwise import (
    abs,
    abs_max,
    abs_min,
    add,
    arctan,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    ceil,
    copy,
    cos,
    divide,
    equal,
    erf,
    erf_dx,
    exp,
    floor,
    fmod,
    gelu,
    gelu_apprx_sigmoid,
    gelu_apprx_sigmoid_dx,
    gelu_apprx_tanh,
    gelu_dx,
    greater,
    greater_equal,
    invert,
    left_shift,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mish,
    mod,
    multiply,
    negative,
    not_equal,
    power,
    prelu,
    reciprocal,
    relu,
    right_shift,
    rsqrt,
    sigmoid,
    sign,
    silu,
    silu_dx,
    sin,
    softplus,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    trunc,
    where,
)  # fmt: skip
from trainshed.nki.language.loops import (
    affine_range,
    ds,
    dynamic_range,
    fori_loop,
    no_reorder,
    num_programs,
    program_id,
    program_ndim,
    sequential_range,
    static_range,
    while_loop,
)  # fmt: skip
from trainshed.nki.language.reductions import all, max, mean, min, prod, rms_norm, softmax, sum, var
from trainshed.nki.language.tiles import tile_size
from trainshed.numerics.formats import (
    DType,
    bfloat16,
    bool_,
    float4_e2m1fn_x4,
    float8_e4m3,
    float8_e4m3fn,
    float8_e4m3fn_x4,
    float8_e5m2,
    float8_e5m2_x4,
    float8_e8m0fnu,
    float16,
    float32,
    int8,
    int16,
    int32,
    tfloat32,
    uint8,
    uint16,
    uint32,
)  # fmt: skip

#: Words that only instructions take.
average = "average"
bypass = "bypass"


def is_psum(buffer: object) -> bool:
    """Whether a memory is PSUM."""
    return buffer == MemoryRegion.psum


def is_sbuf(buffer: object) -> bool:
    """Whether a memory is SBUF."""
    return buffer == MemoryRegion.sbuf


def is_hbm(buffer: object) -> bool:
    """Whether a memory is HBM, private or shared."""
    return buffer in (MemoryRegion.private_hbm, MemoryRegion.shared_hbm)


def is_on_chip(buffer: object) -> bool:
    """Whether a memory is SBUF or PSUM."""
    return is_psum(buffer) or is_sbuf(buffer)


__all__ = [name for name in dir() if not name.startswith("_")]
