"""The functions of NKI 0.6 and their parameters: kernels call them by these names, in this order."""

import inspect

import pytest

import trainshed.nki as nki
import trainshed.nki.collectives as ncc
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl

#: By function: its parameters, with = where they have a default.
ISA = {
    "get_nc_sub_version": "",
    "get_nc_version": "",
    "dma_copy": "dst src priority= oob_mode= dge_mode= engine= name=",
    "tensor_copy": "dst src engine= name=",
    "memset": "dst value engine= name=",
    "tensor_copy_predicated": "dst src predicate reverse_pred= name=",
    "nc_matmul": (
        "dst stationary moving is_stationary_onezero= is_moving_onezero= is_transpose= accumulate= "
        "tile_position= tile_size= perf_mode= name="
    ),
    "nc_matmul_mx": "dst stationary moving stationary_scale moving_scale tile_position= tile_size= accumulate= name=",
    "nc_transpose": "dst data engine= name=",
    "dma_transpose": "dst src axes= priority= dge_mode= oob_mode= name=",
    "tensor_tensor": "dst data1 data2 op engine= name=",
    "tensor_scalar": "dst data op0 operand0 reverse0= op1= operand1= reverse1= engine= name=",
    "tensor_reduce": "dst op data axis negate= keepdims= name=",
    "tensor_partition_reduce": "dst op data name=",
    "tensor_scalar_cumulative": "dst src op0 op1 imm0 imm1= reduce_cmd= name=",
    "activation": "dst op data bias= scale= reduce_op= reduce_res= reduce_cmd= name=",
    "activation_reduce": "dst op data reduce_op reduce_res bias= scale= name=",
    "activate2": (
        "dst op data imm0 imm1 op0 op1 relu_param= reverse0= reverse1= reduce_op= reduce_res= reduce_cmd= name="
    ),
    "iota": "dst pattern offset= channel_multiplier= name=",
    "affine_select": "dst pattern channel_multiplier on_true_tile on_false_value cmp_op= offset= name=",
    "local_gather": "dst src_buffer index num_elem_per_idx= num_valid_indices= name=",
    "nc_n_gather": "dst data indices name=",
    "bn_stats": "dst data name=",
    "bn_aggr": "dst data name=",
    "tensor_tensor_scan": "dst data0 data1 initial op0 op1 reverse0= reverse1= name=",
    "nc_stream_shuffle": "dst src shuffle_mask name=",
    "rng": "dst engine= name=",
    "dropout": "dst data prob name=",
    "set_rng_seed": "src_seeds name=",
    "rand_set_state": "src_seeds engine= name=",
    "rand_get_state": "dst engine= name=",
    "rand2": "dst min max name=",
    "exponential": "dst src max_value= reduce_res= reduce_cmd= reduce_init= name=",
    "reciprocal": "dst data name=",
    "max8": "dst src name=",
    "sequence_bounds": "dst segment_ids name=",
    "scalar_tensor_tensor": "dst data op0 operand0 op1 operand1 reverse0= reverse1= name=",
    "tensor_scalar_reduce": (
        "dst data op0 operand0 reduce_op reduce_res= reverse0= reduce_cmd= reduce_init= reduce_res_negate= name="
    ),
    "core_barrier": "data cores engine= name=",
    "dma_compute": "dst srcs reduce_op scales= unique_indices= oob_mode= name=",
    "quantize_mx": "dst src dst_scale name=",
    "range_select": (
        "dst on_true_tile comp_op0 comp_op1 bound0 bound1 reduce_cmd= reduce_res= reduce_op= range_start= "
        "on_false_value= name="
    ),
    "select_reduce": "dst predicate on_true on_false reduce_res= reduce_cmd= reduce_op= reverse_pred= name=",
    "sendrecv": "src dst send_to_rank recv_from_rank pipe_id dma_engine= name=",
    "register_alloc": "x=",
    "register_move": "dst src",
    "register_load": "dst src",
    "register_store": "dst src",
    "nc_find_index8": "dst data vals name=",
    "nc_match_replace8": "dst data vals imm dst_idx= name=",
    "nonzero_with_count": "dst src index_offset= padding_val= name=",
    "topk": "val_dst idx_dst src n name=",
}
COLLECTIVES = {
    "all_reduce": "srcs dsts replica_group op priority= name=",
    "all_gather": "srcs dsts replica_group collective_dim priority= name=",
    "all_gather_v": "srcs dsts replica_group metadata_tensor recv_counts_known= has_rdispls= priority= name=",
    "reduce_scatter": "srcs dsts replica_group collective_dim op priority= name=",
    "all_to_all": "srcs dsts replica_group collective_dim priority= name=",
    "all_to_all_v": "srcs dsts replica_group metadata_tensor recv_counts_known= has_rdispls= priority= name=",
    "collective_permute": "srcs dsts source_target_pairs priority= name=",
    "collective_permute_implicit": "srcs_by_channel dsts_by_channel replica_group channel_ids= priority= name=",
    "collective_permute_implicit_reduce": (
        "srcs0_by_channel srcs1_by_channel dsts_by_channel replica_group op channel_ids= priority= name="
    ),
    "collective_permute_implicit_current_processing_rank_id": "iteration_id replica_group channel_id= name=",
    "rank_id": "name=",
}
#: By parameters: the functions that take them.
LANGUAGE = {
    "buffer": "is_hbm is_on_chip is_psum is_sbuf",
    "x y dtype=": (
        "add subtract multiply divide maximum minimum abs_max abs_min power equal not_equal less less_equal "
        "greater greater_equal bitwise_and bitwise_or bitwise_xor left_shift right_shift logical_and "
        "logical_or logical_xor fmod mod"
    ),
    "x dtype=": (
        "abs square invert logical_not exp log sqrt rsqrt tanh sigmoid relu gelu gelu_apprx_sigmoid "
        "gelu_apprx_tanh gelu_dx gelu_apprx_sigmoid_dx silu silu_dx softplus mish erf erf_dx reciprocal copy "
        "sin cos tan arctan ceil floor trunc negative sign transpose"
    ),
    "x axis dtype= keepdims=": "sum max min mean prod var",
    "x axis dtype=": "all",
    "x axis= dtype=": "softmax",
    "x w axis n epsilon= dtype= compute_dtype=": "rms_norm",
    "condition x y dtype=": "where",
    "x rate dtype=": "dropout",
    "shape dtype buffer= name=": "ones zeros rand",
    "shape fill_value dtype buffer= name=": "full",
    "x dtype= buffer= name=": "zeros_like empty_like",
    "seed": "random_seed",
    "x axis": "expand_dims",
    "x shape dtype=": "broadcast_to",
    "x y transpose_x=": "matmul",
    "": "no_reorder program_ndim",
    "src dtype=": "load_transpose2d load",
    "data indices axis= dtype=": "gather_flattened",
    "start size": "ds",
    "start stop= step=": "affine_range sequential_range static_range dynamic_range",
    "lower upper body_fun step=": "fori_loop",
    "init body_fun": "while_loop",
    "shape dtype buffer= name= address=": "ndarray",
    "dst value": "store",
    "axis=": "program_id",
    "axes=": "num_programs",
    "constant": "shared_constant",
    "n dtype= dst=": "shared_identity_matrix",
    "print_prefix tensor": "device_print",
}
#: Parameters of ours after the vendor's: earlier releases had them, or they are ours and by keyword only.
MORE = {"tensor_copy": "dtype=", "shared_constant": "dtype=", "simulate": "target= values= time= quantize_rule="}
DTYPES = (
    "bool_ int8 int16 int32 uint8 uint16 uint32 float16 float32 bfloat16 tfloat32 float8_e4m3 float8_e4m3fn "
    "float8_e5m2 float8_e5m2_x4 float8_e4m3fn_x4 float8_e8m0fnu float4_e2m1fn_x4"
)
WORDS = {
    nl: f"{DTYPES} sbuf psum hbm private_hbm shared_hbm tile_size average prelu bypass DType MemoryRegion NKIObject "
    "NkiTensor",
    nisa: "tensor_engine vector_engine scalar_engine gpsimd_engine unknown_engine NkiInstruction NkiValidationError "
    "VirtualRegister",
    ncc: "ReplicaGroup",
    nl.NkiTensor: "shape strides offset name dtype buffer ndim size is_contiguous get_pattern is_indirect permute "
    "broadcast expand_dim squeeze_dim reshape_dim flatten_dims reshape rearrange slice select vector_select ap view "
    "reinterpret_cast indirect",
    nl.tile_size: "pmax psum_fmax psum_bank_fmax psum_bank_fmax_bytes gemm_stationary_fmax gemm_moving_fmax "
    "bn_stats_fmax psum_min_align sbuf_min_align psum_num_banks sbuf_size_bytes sbuf_fmax sbuf_fmax_bytes "
    "total_available_sbuf_size",
    nl.MemoryRegion: "sbuf psum private_hbm shared_hbm",
    nisa.NkiInstruction: "depends_on",
    nisa.engine: "tensor vector scalar gpsimd dma sync unknown",
    nisa.reduce_cmd: "idle reset reduce reset_reduce load_reduce",
    nisa.dge_mode: "unknown swdge hwdge none",
    nisa.oob_mode: "error skip",
    nisa.matmul_perf_mode: "none double_row",
    nisa.nc_version: "gen2 gen3 gen4",
    nisa.dma_engine: "dma gpsimd_dma",
}
FUNCTIONS = [
    *((nisa, name, parameters) for name, parameters in ISA.items()),
    *((ncc, name, parameters) for name, parameters in COLLECTIVES.items()),
    *((nl, name, parameters) for parameters, names in LANGUAGE.items() for name in names.split()),
    (nki, "simulate", "kernel"),
]


def parameters(function):
    """By name in order, with = where there is a default."""
    found = inspect.signature(function).parameters.values()
    return " ".join(item.name + "=" * (item.default is not item.empty) for item in found)


@pytest.mark.parametrize(("module", "name", "expected"), FUNCTIONS, ids=lambda item: item if type(item) is str else "")
def test_parameters(module, name, expected):
    assert parameters(getattr(module, name)) == f"{expected} {MORE.get(name, '')}".strip()


def test_our_own_parameters_of_simulate_are_by_keyword():
    own = list(inspect.signature(nki.simulate).parameters.values())[1:]
    assert {item.kind for item in own} == {inspect.Parameter.KEYWORD_ONLY}


def test_jit_takes_its_function_by_position_name_or_later():
    def body():
        return 1

    assert nki.jit(body).function is nki.jit(fn=body).function is nki.jit(mode="simulation")(body).function is body


@pytest.mark.parametrize("owner", WORDS, ids=lambda owner: getattr(owner, "__name__", type(owner).__name__))
def test_words(owner):
    assert [name for name in WORDS[owner].split() if not hasattr(owner, name)] == []


@pytest.mark.parametrize("module", [nl, nisa])
def test_all_names_everything_public(module):
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    functions = {name for owner, name, _ in FUNCTIONS if owner is module}
    assert functions - set(module.__all__) == set()
