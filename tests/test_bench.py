"""The benchmarks' command lines; what they measure is not a test."""

import subprocess
import sys
from pathlib import Path

import pytest

KERNEL = Path(__file__).parents[1] / "bench" / "kernel.py"


@pytest.mark.parametrize(("argument", "code", "said"), [
    ("--help", 0, "usage: kernel.py [-h] [size]"),
    ("1000", 2, "argument size: '1000'; expected a positive multiple of 1024"),
    ("0", 2, "expected a positive multiple of 1024"),
    ("big", 2, "expected a positive multiple of 1024"),
])  # fmt: skip
def test_the_kernel_s_benchmark_says_what_it_takes(argument, code, said):
    done = subprocess.run([sys.executable, KERNEL, argument], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
