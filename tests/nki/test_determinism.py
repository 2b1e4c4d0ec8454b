"""Two runs of a kernel agree bit by bit, in what they compute and in every instruction's record."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import trainshed.nki as nki
import trainshed.nki.isa as nisa
import trainshed.nki.language as nl

LNC = 2


@nki.jit
def everything(x):
    """Two cores that exchange, draw, round, loop by registers and reduce into shared memory."""
    core = nl.program_id(0)
    out = nl.ndarray((2, *x.shape), nl.bfloat16, nl.shared_hbm)
    total = nl.zeros(x.shape, nl.float32)
    tile, other = nl.load(x), nl.ndarray(x.shape, nl.float32, nl.sbuf)
    noise = nl.rand(x.shape, nl.float32)
    nisa.sendrecv(noise, other, send_to_rank=1 - core, recv_from_rank=1 - core, pipe_id=0)
    for _ in nl.dynamic_range(3):
        nisa.tensor_tensor(total, total, tile, nl.add, name="sum")
    nisa.tensor_tensor(total, total, other, nl.multiply)
    dropped = nl.dropout(total, 0.25)
    nl.store(out[core], nl.copy(dropped, nl.bfloat16))
    nisa.core_barrier(out, (0, 1))
    return out


def run(values=True):
    x = np.random.default_rng(5).uniform(-1, 1, (128, 64)).astype(np.float32)
    simulated = nki.simulate(everything[LNC], values=values)
    result = simulated(x)
    return result, [[item.key() for item in core.instructions] for core in simulated.launch.cores]


def digest():
    """What a run computed and recorded, as one number."""
    result, keys = run()
    return hashlib.sha256(result.tobytes() + repr(keys).encode()).hexdigest()


@pytest.mark.parametrize("rounding", ["0", "1"])
def test_two_runs_agree(monkeypatch, rounding):
    monkeypatch.setenv("NEURON_RT_STOCHASTIC_ROUNDING_EN", rounding)
    monkeypatch.setenv("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "7")
    (first, first_keys), (second, second_keys) = run(), run()
    assert first.tobytes() == second.tobytes()
    assert first_keys == second_keys
    assert len(first_keys) == LNC
    assert all(keys for keys in first_keys)


def test_the_record_is_the_same_without_values():
    assert run()[1] == run(values=False)[1]


def test_a_run_in_another_process_agrees():
    program = f"import runpy; print(runpy.run_path({__file__!r})['digest']())"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == digest() + "\n"


def test_cores_draw_numbers_of_their_own():
    result = run()[0].astype(np.float32)
    assert not np.array_equal(result[0], result[1])
