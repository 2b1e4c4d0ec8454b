"""Breakpoints and prints inside kernels, at a terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
import nki
import nki.language as nl


@nki.jit
def kernel(x):
    tile = nl.load(x)
    breakpoint()
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    nl.store(out, tile)
    return out


print("result", kernel[LNC](np.arange(8, dtype=np.float32).reshape(2, 4))[1, 3])
"""


def run(tmp_path, script, said="", **environment):
    """What a script prints that is told ``said`` at its breakpoints."""
    file = tmp_path / "user.py"
    file.write_text("import trainshed.nki\n" + script)
    done = subprocess.run(
        [sys.executable, str(file)], input=said, env={**os.environ, **environment}, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("cores", [1, 2])
def test_a_breakpoint_stops_each_core_and_shows_values(tmp_path, cores):
    output = run(tmp_path, SCRIPT.replace("LNC", str(cores)), "p nl.program_id(0)\np str(tile[1:2])\nc\n" * cores)
    assert output.count("-> out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)") == cores
    assert output.count("[[4. 5. 6. 7.]]") == cores
    assert [f"(Pdb) {core}\n" in output for core in range(3)] == [core < cores for core in range(3)]
    assert "result 7.0" in output


def test_instructions_may_be_issued_at_a_breakpoint(tmp_path):
    said = "!nl.store(x, nl.add(tile, 1))\n!tile = nl.load(x)\nc\n"
    assert "result 8.0" in run(tmp_path, SCRIPT.replace("LNC", "1"), said)


@pytest.mark.parametrize("asked", ["1", "0"])
def test_kernels_run_whether_or_not_the_simulator_is_asked_for(tmp_path, asked):
    """There is no device here: ``NKI_SIMULATOR`` changes nothing."""
    script = SCRIPT.replace("LNC", "1").replace("    breakpoint()\n", "")
    assert run(tmp_path, script, NKI_SIMULATOR=asked) == "result 7.0\n"
