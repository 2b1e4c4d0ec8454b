"""Which public kernels ``corpora`` runs, with what, and what they must give (the kernels themselves are not here)."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from trainshed.nki.conformance.corpora_runs import Array, Case, Near, Suite

BF16 = ml_dtypes.bfloat16


# --- references ---------------------------------------------------------------------------------------------------


def wide(*values: Array) -> list[Array]:
    return [value.astype(np.float32) for value in values]


def add(near: Near, a: Array, b: Array) -> Any:
    return a + b


def exp(near: Near, a: Array) -> Any:
    return np.exp(a.astype(np.float32))


def product(near: Near, left: Array, right: Array, *_: Any) -> Any:
    """``left @ right``."""
    a, b = wide(left, right)
    return a @ b


def product_t(near: Near, left: Array, right: Array, *_: Any) -> Any:
    """``left.T @ right``."""
    a, b = wide(left, right)
    return a.T @ b


def transposed_blocks(near: Near, a: Array, shape: tuple[int, int]) -> Any:
    return a.reshape(a.shape[0], *shape).transpose(0, 2, 1).reshape(a.shape)


def average_pool(near: Near, a: Array, size: int) -> Any:
    c, h, w = a.shape
    return a.reshape(c, h // size, size, w // size, size).mean((2, 4), dtype=np.float32)


def max_pool(near: Near, a: Array, size: int) -> Any:
    c, h, w = a.shape
    return a.reshape(c, h // size, size, w // size, size).max((2, 4))


def sliding_max(near: Near, a: Array, size: int) -> Any:
    return np.lib.stride_tricks.sliding_window_view(a, (size, size)).max((2, 3))


def split(near: Near, a: Array) -> tuple[Array, Array]:
    return a[:, ::2], a[:, 1::2]


def softmax(a: Array) -> Any:
    powers = np.exp(a - a.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def mamba(near: Near, delta: Array, u: Array, a: Array, b: Array, c: Array) -> Any:
    """The state-space scan, step by step."""
    decay = np.exp(delta[:, :, None] * a[None, :, :, None])
    drive = delta[:, :, None] * b[:, None] * u[:, :, None]
    state, out = np.zeros(decay.shape[:3], np.float32), np.empty_like(decay)
    for step in range(decay.shape[-1]):
        state = decay[..., step] * state + drive[..., step]
        out[..., step] = state
    return (c[:, None] * out).sum(2)


def attention(near: Near, q: Array, k: Array, v: Array) -> Any:
    """Inputs ``[d, sequence]``, output ``[sequence, d]``."""
    return softmax(q.T @ k) @ v.T


def rms_norm(near: Near, x: Array, weight: Array, eps: float = 1e-6, *_: Any) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def interpolated(near: Near, a: Array, *_: Any) -> Any:
    """Twice as large in every dimension after the second, linearly."""
    for axis in range(2, a.ndim):
        n = a.shape[axis]
        place = (np.arange(2 * n) + 0.5) / 2 - 0.5
        low = np.floor(place).astype(int)
        share = (place - low).astype(np.float32).reshape([-1 if d == axis else 1 for d in range(a.ndim)])
        first, second = (np.take(a, np.clip(low + step, 0, n - 1), axis) for step in (0, 1))
        a = first * (1 - share) + second * share
    return a


def rotated(near: Near, q: Array, k: Array, cos: Array, sin: Array, *_: Any) -> tuple[Array, Array]:
    half = q.shape[-1] // 2

    def turn(x: Array) -> Any:
        return x * cos + np.concatenate((-x[..., half:], x[..., :half]), -1) * sin

    return turn(q), turn(k)


# --- inputs -------------------------------------------------------------------------------------------------------


def two(*shape: int, dtype: Any = np.float32) -> Any:
    return lambda near: (near.normal(*shape, dtype=dtype), near.normal(*shape, dtype=dtype))


def operands(k: int, m: int, n: int, dtype: Any = BF16, *, transposed: bool = True, extra: tuple[Any, ...] = ()) -> Any:
    left = (k, m) if transposed else (m, k)
    return lambda near: (near.uniform(*left, dtype=dtype), near.uniform(k, n, dtype=dtype), *extra)


def mamba_inputs(near: Near) -> tuple[Array, ...]:
    batch, channels, length, states = 1, 256, 512, 16
    return (
        near.uniform(batch, channels, length), near.uniform(batch, channels, length), -near.uniform(channels, states),
        near.uniform(batch, states, length), near.uniform(batch, states, length),
    )  # fmt: skip


def signed(*shape: int) -> Any:
    return lambda near: tuple((near.uniform(*shape) - 0.5) * 2 for _ in range(3))


# --- MX deep dive: goldens are the corpus' own --------------------------------------------------------------------

_X4 = {"float8_e5m2": "float8_e5m2_x4", "float8_e4m3fn": "float8_e4m3fn_x4", "float4_e2m1fn": "float4_e2m1fn_x4"}


def _x4(name: str) -> Any:
    import trainshed.nki.language as nl

    return getattr(nl, _X4[name])


def mx_offline(kind: str) -> dict[str, Any]:
    def inputs(near: Near) -> tuple[Any, ...]:
        np.random.seed(0)  # noqa: NPY002 - the corpus' generator of data uses it
        make = near.module("mx_cpu_utils").generate_stabilized_mx_data
        _, _, st, st_scale = make(getattr(ml_dtypes, kind), (128, 512))
        _, _, mv, mv_scale = make(getattr(ml_dtypes, kind), (128, 2048))
        return st, st_scale, mv, mv_scale, _x4(kind)

    def reference(near: Near, st: Array, st_scale: Array, mv: Array, mv_scale: Array, _: Any) -> Any:
        golden = near.module("mx_cpu_utils").nc_matmul_mx_golden
        dtype = getattr(ml_dtypes, kind)
        return np.asarray(golden(st, mv, st_scale, mv_scale, dtype, dtype))

    return {"function": "kernel_offline_quantized_mx_matmul", "inputs": inputs, "reference": reference, "label": kind}


def mx_on_device(stationary: str, moving: str) -> dict[str, Any]:
    def inputs(near: Near) -> tuple[Any, ...]:
        np.random.seed(0)  # noqa: NPY002
        make = near.module("mx_cpu_utils").generate_stabilized_mx_data
        _, _, st, st_scale = make(getattr(ml_dtypes, stationary), (128, 512))
        data, *_ = make(getattr(ml_dtypes, moving), (128, 2048))
        return st, st_scale, data.astype(BF16), _x4(stationary), _x4(moving)

    def reference(near: Near, st: Array, st_scale: Array, data: Array, *_: Any) -> Any:
        tools = near.module("mx_cpu_utils")
        kinds = getattr(ml_dtypes, stationary), getattr(ml_dtypes, moving)
        mv, mv_scale = tools.quantize_mx_golden(data.astype(np.float32), kinds[1])
        return np.asarray(tools.nc_matmul_mx_golden(st, mv, st_scale, mv_scale, *kinds))

    return {
        "function": "kernel_on_device_quantize_matmul_mx", "inputs": inputs, "reference": reference,
        "label": f"{stationary} @ {moving}",
    }  # fmt: skip


def mx_strided(packed: bool, tensor_copy: bool) -> dict[str, Any]:
    def inputs(near: Near) -> tuple[Any, ...]:
        np.random.seed(0)  # noqa: NPY002
        make = near.module("mx_cpu_utils").generate_stabilized_mx_data
        st, *_ = make(ml_dtypes.float8_e5m2, (512, 128))
        mv, *_ = make(ml_dtypes.float8_e5m2, (512, 512))
        return st.astype(BF16), mv.astype(BF16), _x4("float8_e5m2"), tensor_copy

    return {
        "function": "kernel_copy_strided_quantize_matmul_mx" + ("_packed_scale" if packed else ""), "inputs": inputs,
        "reference": product_t, "label": "by tensor_copy" if tensor_copy else "by DMA",
    }  # fmt: skip


def mx_cases(corpus: str, folder: str, *, packed: bool) -> list[Case]:
    """The deep dive's kernels; their goldens scale as NKI 0.4 did."""
    made = [
        mx_offline("float8_e5m2"), mx_offline("float4_e2m1fn"),
        mx_on_device("float4_e2m1fn", "float8_e5m2"), mx_on_device("float8_e5m2", "float8_e5m2"),
        *(mx_strided(which, copy) for which in ((False, True) if packed else (False,)) for copy in (True, False)),
    ]  # fmt: skip
    return [
        Case(corpus=corpus, file=f"{folder}/mx_kernels.py", target="trn3", rtol=1e-2, quantize_rule="0.4", **item)
        for item in made
    ]


# --- the corpora --------------------------------------------------------------------------------------------------


def matmul_tutorial(corpus: str, file: str) -> list[Case]:
    names = ("nki_matmul_tiled_", "nki_matmul_hoist_load_", "nki_matmul_block_free_dimension_")
    return [
        Case(corpus=corpus, file=file, function="nki_matmul_basic_", inputs=operands(128, 64, 512), rtol=1e-2,
             reference=product_t),
        *(
            Case(corpus=corpus, file=file, function=name, inputs=operands(1024, 512, 2048), rtol=1e-2,
                 reference=product_t)
            for name in names
        ),
        Case(corpus=corpus, file=file, function="nki_matmul_fully_optimized_", inputs=operands(1024, 2048, 1024),
             rtol=1e-2, reference=product_t),
    ]  # fmt: skip


SDK, SAMPLES, VIZ = "aws-neuron-sdk", "nki-samples", "triton-viz"
_E = "nki/examples"
_ADD = {"inputs": two(4, 3, dtype=np.float16), "reference": add, "rtol": 1e-3}

SDK_CASES = [
    Case(corpus=SDK, file=f"{_E}/tensor_addition/tensor_addition_nki_kernels.py", function="nki_tensor_add",
         inputs=two(256, 1024), reference=add),
    Case(corpus=SDK, file=f"{_E}/transpose2d/transpose2d_nki_kernels.py", function="tensor_transpose2D_kernel_",
         inputs=lambda near: (np.arange(60, dtype=np.int8).reshape(5, 12), (3, 4)), reference=transposed_blocks),
    Case(corpus=SDK, file=f"{_E}/average_pool2d/average_pool2d_nki_kernels.py", function="tensor_avgpool_kernel",
         inputs=lambda near: (near.normal(2, 6, 6, dtype=np.float16), 2), reference=average_pool, rtol=2e-3),
    *matmul_tutorial(SDK, f"{_E}/matrix_multiplication/matrix_multiplication_nki_kernels.py"),
    *(
        Case(corpus=SDK, file=f"{_E}/fused_mamba/mamba_nki_kernels.py", function=name, inputs=mamba_inputs,
             reference=mamba)
        for name in ("mamba_v1", "mamba_v2", "mamba_v3")
    ),
    *(
        Case(corpus=SDK, file=f"{_E}/getting_started_{name}.py", function="nki_tensor_add_kernel", **_ADD)
        for name in ("baremetal", "jax", "torch")
    ),
    Case(corpus=SDK, file=f"{_E}/simulate/nki_simulate_example.py", function="add_kernel", inputs=two(128, 512),
         reference=add),
    Case(corpus=SDK, file=f"{_E}/layout-pass.py", function="tensor_exp_kernel_",
         inputs=lambda near: (near.normal(128, 512, dtype=BF16),), reference=exp, rtol=1e-2),
    Case(corpus=SDK, file=f"{_E}/layout-violation.py", function="tensor_exp_kernel_",
         inputs=lambda near: (near.normal(256, 512, dtype=BF16),), reference=exp, refused="partitions"),
    Case(corpus=SDK, file=f"{_E}/index-case-1.py", function="tensor_split_kernel_",
         inputs=lambda near: (near.normal(4, 5),), reference=split),
    Case(corpus=SDK, file=f"{_E}/index-case-3.py", function="tensor_maxpool_kernel_",
         inputs=lambda near: (near.normal(2, 6, 6), 2), reference=max_pool),
    *mx_cases(SDK, "nki/deep-dives/src/mxfp-matmul", packed=True),
]  # fmt: skip

_T = "src/nki_samples/tutorials"
SAMPLE_CASES = [
    *matmul_tutorial(SAMPLES, f"{_T}/matrix_multiplication/matrix_multiplication_nki_kernels.py"),
    *mx_cases(SAMPLES, f"{_T}/mxfp-matmul", packed=False),
]

#: Kernels for Beta 1.
BETA1_CASES = [
    *(
        Case(corpus=SAMPLES, file=f"{_T}/tensor_addition/{name}_nki_kernels.py", function=function, call=True,
             inputs=two(512, 1024), reference=add)
        for name, function in (
            ("tensor_addition", "nki_tensor_add"), ("spmd_tensor_addition", "nki_tensor_add"),
            ("spmd_multiple_nc_tensor_addition", "nki_tensor_add_nc2"),
        )
    ),
    Case(corpus=SAMPLES, file=f"{_T}/transpose2d/transpose2d_nki_kernels.py", function="tensor_transpose2D_kernel_",
         inputs=lambda near: (np.arange(8140, dtype=np.int32).reshape(5, 1628), (37, 44)),
         reference=transposed_blocks, beta1=True),
    Case(corpus=SAMPLES, file=f"{_T}/average_pool2d/average_pool2d_nki_kernels.py", function="tensor_avgpool_kernel",
         inputs=lambda near: (near.normal(2, 6, 6, dtype=np.float16), 2), reference=average_pool, rtol=2e-3,
         beta1=True),
    *(
        Case(corpus=SAMPLES, file=f"{_T}/fused_mamba/mamba_nki_kernels.py", function=name, inputs=mamba_inputs,
             reference=mamba, beta1=True)
        for name in ("mamba_v1", "mamba_v2", "mamba_v3")
    ),
    *(
        Case(corpus=SAMPLES, file=f"{_T}/attention_fwd_performance/attention_kernels.py", function=f"attn_fwd_v{name}",
             inputs=signed(128, length), reference=attention, rtol=1e-2, beta1=True)
        for name, length in (
            ("1", 128), ("2", 128), ("3", 1024), ("4", 1024), ("5", 1024), ("6", 1024), ("7", 1024), ("8", 1024),
            ("8a", 1024), ("9", 4096), ("10", 4096), ("11", 1024),
        )
    ),
    Case(corpus=SAMPLES, file="contributed/matmul.py", function="matmul", inputs=operands(2048, 512, 2048, np.float16),
         reference=product_t, rtol=2e-3, beta1=True),
    Case(corpus=SAMPLES, file="contributed/maxpooling.py", function="max_pooling_2d_stride_1",
         inputs=lambda near: (near.uniform(448, 448), 3), reference=sliding_max, beta1=True, needs=("torch",)),
    Case(corpus=SAMPLES, file="contributed/interpolate_bilinear_fwd.py", function="interpolate_bilinear_2x_fwd",
         inputs=lambda near: (near.uniform(2, 64, 20, 16),), reference=interpolated, beta1=True, needs=("torch",)),
    Case(corpus=SAMPLES, file="contributed/interpolate_trilinear_fwd.py", function="interpolate_trilinear_2x_fwd",
         inputs=lambda near: (near.uniform(1, 96, 7, 7, 6),), reference=interpolated, beta1=True, needs=("torch",)),
]  # fmt: skip


def _cube(near: Near) -> tuple[Array, ...]:
    return near.uniform(2048, 2048, dtype=BF16), near.uniform(2048, 2048, dtype=BF16)


def _normed_product(near: Near, left: Array, right: Array) -> Any:
    a, b = wide(left, right)
    return (a / np.sqrt((a * a).mean(1, keepdims=True) + 1e-6)) @ b


AUTOTUNE_CASES = [
    Case(corpus="nki-autotune", file="kernel_library/matmul/lhsT_rhs/kernel_hand_90.92mfu.py", inputs=_cube, rtol=1e-2,
         function="matmul_lhsT_rhs_nkigym", reference=product_t),
    Case(corpus="nki-autotune", file="kernel_library/matmul/lhs_rhs/kernel_handtuned_89.26mfu.py", inputs=_cube,
         function="matmul_lhs_rhs_nkigym", reference=product, rtol=1e-2),
    Case(corpus="nki-autotune", file="kernel_library/rmsnorm_matmul/kernel_hand_online.py", inputs=_cube, rtol=3e-2,
         function="rmsnorm_matmul_online", reference=_normed_product),
]  # fmt: skip

MOE_CASES = [
    Case(corpus="nki-moe", file="nki_tensor_add_example.py", function="nki_tensor_add_kernel", needs=("torch",),
         **_ADD),
    Case(corpus="nki-moe", file="nki_custom_rmsnorm.py", function="nki_rmsnorm_kernel", needs=("torch",),
         inputs=lambda near: (near.normal(256, 512), near.normal(512), 1e-6), reference=rms_norm),
    Case(corpus="nki-moe", file="nki_custom_rmsnorm.py", function="nki_rmsnorm_kernel", needs=("torch",),
         label="300 rows",
         inputs=lambda near: (near.normal(300, 512), near.normal(512), 1e-6), reference=rms_norm),
]  # fmt: skip


def _written(*shapes: tuple[int, ...]) -> list[Array]:
    return [np.zeros(shape, np.float32) for shape in shapes]


def _viz_mlp(near: Near, x: Array, w1: Array, w2: Array, _: Array) -> Any:
    return np.maximum(x.T @ w1, 0) @ w2


def _viz_attention(near: Near, q: Array, k: Array, v: Array, *_: Any) -> Any:
    return softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])) @ v


def _viz_rope(near: Near) -> tuple[Any, ...]:
    shape = (1, 4, 128, 64)
    angles = np.arange(128)[:, None] / 10000.0 ** (np.arange(0, 64, 2) / 64)
    tables = (f(np.concatenate([angles, angles], 1)).astype(np.float32) for f in (np.cos, np.sin))
    return near.normal(*shape), near.normal(*shape), *tables, *_written(shape, shape), *shape


_V, _V1 = "examples/nki_beta2", "examples/nki"
VIZ_CASES = [
    Case(corpus=VIZ, file=f"{_V}/matmul.py", function="matmul_kernel", written=(2,), reference=product_t,
         inputs=lambda near: (near.normal(256, 128), near.normal(256, 512), *_written((128, 512)))),
    Case(corpus=VIZ, file=f"{_V}/mlp.py", function="mlp_kernel", written=(3,), reference=_viz_mlp,
         inputs=lambda near: (
             near.normal(256, 256), near.normal(256, 256), near.normal(256, 512), *_written((256, 512)))),
    Case(corpus=VIZ, file=f"{_V}/rmsnorm.py", function="rmsnorm_kernel", written=(2,),
         reference=lambda near, x, g, _: rms_norm(near, x, g),
         inputs=lambda near: (near.normal(256, 128), near.normal(256, 128), *_written((256, 128)))),
    Case(corpus=VIZ, file=f"{_V}/softmax.py", function="softmax_kernel", written=(1,),
         reference=lambda near, x, _: softmax(x),
         inputs=lambda near: (near.normal(256, 64), *_written((256, 64)))),
    Case(corpus=VIZ, file=f"{_V}/rope.py", function="rope_kernel", written=(4, 5), reference=rotated, inputs=_viz_rope),
    Case(corpus=VIZ, file=f"{_V}/tiled_attention.py", function="tiled_attention_kernel", written=(3,),
         reference=_viz_attention,
         inputs=lambda near: (
             near.normal(2, 2, 128, 128), near.normal(2, 2, 256, 128), near.normal(2, 2, 256, 64),
             *_written((2, 2, 128, 64)), 2, 2, 2, 2, 128, 256, 128, 64)),
    Case(corpus=VIZ, file=f"{_V1}/softmax.py", function="softmax_kernel", written=(1,), beta1=True,
         reference=lambda near, x, _: softmax(x), needs=("torch",),
         inputs=lambda near: (near.normal(150, 32), *_written((150, 32)))),
    Case(corpus=VIZ, file=f"{_V1}/matmul.py", function="matmul_kernel", written=(2,), beta1=True, grid=(1, 1, 1),
         reference=lambda near, a, b, _: a @ b,
         inputs=lambda near: (
             np.arange(32, dtype=np.float32).reshape(4, 8), np.arange(128, dtype=np.float32).reshape(8, 16),
             *_written((4, 16)))),
]  # fmt: skip


def _ragged(*shape: int) -> Any:
    def inputs(near: Near) -> tuple[Any, ...]:
        sides = (near.rng.integers(-9, 9, size).astype(np.float32) for size in (shape, (8, 11)))
        return *sides, *_written((5, 11))

    return inputs


VIZ_CASES += [
    Case(corpus=VIZ, file=f"{_V1}/matmul.py", function=name, label="of sizes its tiles do not divide", written=(2,),
         beta1=True, reference=reference,
         inputs=_ragged(*shape))
    for name, shape, reference in (("matmul_kernel", (5, 8), product), ("matmul_kernel_lhsT", (8, 5), product_t))
]  # fmt: skip
VIZ_CASES += [
    Case(corpus=VIZ, file=f"{_V1}/rmsnorm.py", function="nki_rmsnorm_kernel", written=(2,), beta1=True,
         reference=lambda near, x, g, _: rms_norm(near, x, g, 0.0), needs=("torch",),
         inputs=lambda near: (near.normal(32, 32), near.normal(32), *_written((32, 32)))),
]  # fmt: skip

CASES: tuple[Case, ...] = (
    *SDK_CASES, *SAMPLE_CASES, *BETA1_CASES, *AUTOTUNE_CASES, *MOE_CASES, *VIZ_CASES,
)  # fmt: skip

_OURS = "raises NkiValidationError, with the kernel's line, where NumPy's IndexError is expected"
_START = "fills single partitions from partition 1 on, where no engine may start"
_SLOW = {"TestAttnKTilingSimulator::test_backward_head_dim_256": "2,048 forward passes for finite differences"}
SUITES: tuple[Suite, ...] = (
    Suite(
        corpus=SDK, file="nki/test", marker="nki/migration/index.rst", environment={"NKI_PRECISE_FP": "0"},
        needs=("pytest",), known={"oob_err_negative": _OURS, "gather_flattened": _START},
        arguments=("--deselect=nki/test/test_nki_nl_broadcast.py::test_nl_broadcast",),  # a kernel of that name
    ),
    *(
        Suite(
            corpus=name, file="tests/test_nki_sim.py", marker=f"{name}/nki/__init__.py", needs=("pytest", "torch"),
            environment={f"{name.upper()}_USE_SIMULATOR": "1"}, slow=slow,
        )
        for name, slow in (("trnfft", {}), ("trntensor", {}), ("trnsolver", {}), ("trnsparse", _SLOW))
    ),
)  # fmt: skip
