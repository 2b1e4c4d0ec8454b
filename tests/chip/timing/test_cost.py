"""Costs of single instructions, against the vendor's formulas worked out by hand."""

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl
from trainshed.chip.timing.cost import cost
from trainshed.chip.timing.rates import rates, rates_of
from trainshed.chip.words import engine
from trainshed.core.errors import UserError
from trainshed.hardware.catalogue import Catalogue


def last(body, target):
    """The last compute instruction of a kernel, and its cost."""

    def kernel(a):
        body()
        out = nl.ndarray((1, 1), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=a)
        return out

    simulated = nki.simulate(kernel, target=target, values=False)
    simulated(np.zeros((1, 1), np.float32))
    item = [one for one in simulated.launch.cores[0].instructions if one.engine is not engine.dma][-1]
    return item, cost(item, rates(target))


def tile(rows, columns, dtype=nl.bfloat16, buffer=nl.sbuf):
    made = nl.ndarray((rows, columns), dtype=dtype, buffer=buffer)
    if buffer is nl.sbuf:
        nisa.memset(made, value=0.0)
    return made


def matmul(columns, dtype):
    def body():
        out = tile(128, columns, nl.float32, nl.psum)
        nisa.nc_matmul(out, stationary=tile(128, 128, dtype), moving=tile(128, columns, dtype))

    return body


@pytest.mark.parametrize(("target", "columns", "dtype", "nanoseconds"), [
    ("trn2", 512, nl.bfloat16, 512 / 2.4), ("trn2", 16, nl.bfloat16, 64 / 2.4),
    ("trn2", 512, nl.float32, 4 * 512 / 2.4),
    ("trn1", 512, nl.bfloat16, 512 / 2.8), ("trn3", 512, nl.float16, 512 / 2.4),
])  # fmt: skip
def test_a_matmul_takes_a_column_a_cycle_and_float32_four(target, columns, dtype, nanoseconds):
    item, found = last(matmul(columns, dtype), target)
    assert item.engine is engine.tensor
    assert found.busy * 1e9 == pytest.approx(nanoseconds)
    assert found.latency * 1e9 == pytest.approx(128 / (2.8 if target == "trn1" else 2.4) + rates(target).overhead * 1e9)


def elementwise(call, dtype, buffer=nl.sbuf):
    def body():
        source = tile(128, 512, dtype, buffer)
        if buffer is nl.psum:
            nisa.memset(source, value=0.0, engine=nisa.vector_engine)
        call(tile(128, 512, dtype), source)

    return body


COPY = lambda dst, src: nisa.tensor_copy(dst, src, engine=nisa.vector_engine)  # noqa: E731
ADD = lambda dst, src: nisa.tensor_tensor(dst, src, dst, op=nl.add)  # noqa: E731
RECIPROCAL = lambda dst, src: nisa.reciprocal(dst, src)  # noqa: E731
EXP = lambda dst, src: nisa.activation(dst, op=nl.exp, data=src)  # noqa: E731


@pytest.mark.parametrize(("target", "call", "dtype", "buffer", "cycles", "clock"), [
    ("trn1", COPY, nl.bfloat16, nl.sbuf, 512, 1.12), ("trn1", ADD, nl.bfloat16, nl.sbuf, 512, 1.12),
    ("trn1", ADD, nl.float32, nl.sbuf, 1024, 1.12), ("trn1", ADD, nl.float32, nl.psum, 512, 1.12),
    ("trn1", RECIPROCAL, nl.float32, nl.sbuf, 4096, 1.12), ("trn1", EXP, nl.bfloat16, nl.sbuf, 512, 1.4),
    ("trn2", COPY, nl.bfloat16, nl.sbuf, 128, 0.96), ("trn2", COPY, nl.float32, nl.sbuf, 512, 0.96),
    ("trn2", COPY, nl.bfloat16, nl.psum, 256, 0.96), ("trn2", ADD, nl.bfloat16, nl.sbuf, 256, 0.96),
    ("trn2", ADD, nl.float32, nl.sbuf, 512, 0.96), ("trn2", ADD, nl.float32, nl.psum, 512, 0.96),
    ("trn3", COPY, nl.bfloat16, nl.sbuf, 128, 1.2), ("trn3", COPY, nl.float32, nl.sbuf, 256, 1.2),
    ("trn3", EXP, nl.float32, nl.sbuf, 512, 1.2),
])  # fmt: skip
def test_elementwise_instructions_take_their_mode_s_cycles(target, call, dtype, buffer, cycles, clock):
    _, found = last(elementwise(call, dtype, buffer), target)
    assert (found.busy - rates(target).overhead) * 1e9 == pytest.approx(cycles / clock)


@pytest.mark.parametrize(("call", "each"), [
    (lambda dst, src: nisa.exponential(dst, src), 4),
    (lambda dst, src: nisa.quantize_mx(
        nl.ndarray((128, 128), nl.float8_e4m3fn_x4, nl.sbuf), src, nl.ndarray((128, 128), nl.uint8, nl.sbuf)), 4),
])  # fmt: skip
def test_what_vector_engine_of_v4_has_of_its_own(call, each):
    _, found = last(elementwise(call, nl.bfloat16), "trn3")
    assert (found.busy - rates("trn3").overhead) * 1e9 == pytest.approx(512 / each / 1.2)


def test_short_instructions_take_64_cycles():
    def body():
        nisa.tensor_copy(tile(128, 4), tile(128, 4), engine=nisa.vector_engine)

    _, found = last(body, "trn2")
    assert (found.busy - rates("trn2").overhead) * 1e9 == pytest.approx(64 / 0.96)


def test_gpsimd_begins_a_program():
    _, found = last(lambda: nisa.iota(tile(128, 512, nl.int32), [[1, 512]], offset=0, channel_multiplier=0), "trn2")
    assert found.busy * 1e9 == pytest.approx((150 + 512) / 1.2)


def test_other_chips_have_no_such_rates():
    with pytest.raises(UserError, match="one of NeuronCores"):
        rates_of(Catalogue().chip("h100-sxm"))
