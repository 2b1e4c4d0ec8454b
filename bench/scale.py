"""A million chips: wall time and peak memory of one answer, start-up included, against the limits of 2 s and 1 GiB."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

COMMAND = ("train", "llama-3.1-405b", "--on", "trn3-gen2", "--ultraservers", "6944", "--json")
MOST_SECONDS, MOST_BYTES = 2.0, 2**30


def main() -> None:
    program = shutil.which("trainshed") or str(Path(sys.executable).with_name("trainshed"))
    start = time.perf_counter()
    child = subprocess.Popen([program, *COMMAND], stdout=subprocess.PIPE)
    assert child.stdout is not None
    answer = json.loads(child.stdout.read())
    _, status, usage = os.wait4(child.pid, 0)
    seconds, peak = time.perf_counter() - start, usage.ru_maxrss * 1024
    print(f"{answer['result']['chips']:,} chips, plan {answer['result']['plan']}")
    print(f"time  {seconds:.2f} s, {seconds / MOST_SECONDS:.2f} of the limit")
    print(f"peak  {peak / 2**20:.0f} MiB, {peak / MOST_BYTES:.2f} of the limit")
    sys.exit(status != 0 or seconds > MOST_SECONDS or peak > MOST_BYTES)


if __name__ == "__main__":
    main()
