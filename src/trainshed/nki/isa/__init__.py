"""``nki.isa``: the instructions of a NeuronCore (``trainshed.chip.isa``) and the words they take."""

from trainshed.chip.errors import NkiValidationError
from trainshed.chip.isa.dma import dma_compute, dma_copy, dma_transpose
from trainshed.chip.isa.exchange import core_barrier, sendrecv
from trainshed.chip.isa.gather import (
    local_gather,
    nc_n_gather,
    nonzero_with_count,
    sequence_bounds,
    tensor_partition_reduce,
    topk,
)  # fmt: skip
from trainshed.chip.isa.move import memset, nc_stream_shuffle, tensor_copy, tensor_copy_predicated
from trainshed.chip.isa.quantize import quantize_mx
from trainshed.chip.isa.random import dropout, rand2, rand_get_state, rand_set_state, rng, set_rng_seed
from trainshed.chip.isa.reduce import bn_aggr, bn_stats, tensor_reduce, tensor_scalar_reduce
from trainshed.chip.isa.registers import (
    get_nc_sub_version,
    get_nc_version,
    register_alloc,
    register_load,
    register_move,
    register_store,
)  # fmt: skip
from trainshed.chip.isa.scalar import activate2, activation, activation_reduce, exponential
from trainshed.chip.isa.scan import tensor_scalar_cumulative, tensor_tensor_scan
from trainshed.chip.isa.search import max8, nc_find_index8, nc_match_replace8
from trainshed.chip.isa.select import affine_select, iota, range_select, select_reduce
from trainshed.chip.isa.tensor import nc_matmul, nc_matmul_mx, nc_transpose
from trainshed.chip.isa.vector import reciprocal, scalar_tensor_tensor, tensor_scalar, tensor_tensor
from trainshed.chip.record import Instruction as NkiInstruction
from trainshed.chip.registers import VirtualRegister
from trainshed.chip.words import dge_mode, dma_engine, engine, matmul_perf_mode, nc_version, oob_mode, reduce_cmd
from trainshed.nki.removed import finder

tensor_engine, vector_engine, scalar_engine = engine.tensor, engine.vector, engine.scalar
gpsimd_engine, unknown_engine = engine.gpsimd, engine.unknown

__getattr__ = finder("nki.isa", globals())

__all__ = [
    "NkiInstruction", "NkiValidationError", "VirtualRegister", "activate2", "activation", "activation_reduce",
    "affine_select", "bn_aggr", "bn_stats", "core_barrier", "dge_mode", "dma_compute", "dma_copy", "dma_engine",
    "dma_transpose", "dropout", "engine", "exponential", "get_nc_sub_version", "get_nc_version", "gpsimd_engine",
    "iota", "local_gather", "matmul_perf_mode", "max8", "memset", "nc_find_index8", "nc_match_replace8",
    "nc_matmul", "nc_matmul_mx", "nc_n_gather", "nc_stream_shuffle", "nc_transpose", "nc_version",
    "nonzero_with_count", "oob_mode", "quantize_mx", "rand2", "rand_get_state", "rand_set_state", "range_select",
    "reciprocal", "reduce_cmd", "register_alloc", "register_load", "register_move", "register_store", "rng",
    "scalar_engine", "scalar_tensor_tensor", "select_reduce", "sendrecv", "sequence_bounds", "set_rng_seed",
    "tensor_copy", "tensor_copy_predicated", "tensor_engine", "tensor_partition_reduce", "tensor_reduce",
    "tensor_scalar", "tensor_scalar_cumulative", "tensor_scalar_reduce", "tensor_tensor", "tensor_tensor_scan",
    "topk", "unknown_engine", "vector_engine",
]  # fmt: skip
