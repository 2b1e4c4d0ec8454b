"""Plans priced per second, and what an answer at a million chips takes: the figures that planning stands on.

python bench/plan.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from trainshed.hardware.catalogue import Catalogue
from trainshed.models import load
from trainshed.planner.train import best_train
from trainshed.software.catalogue import Software
from trainshed.training import TrainingJob

MODEL, SYSTEM, CHIPS, ULTRASERVERS = "llama-3.1-405b", "trn3-gen2", 4608, 6944
ASKED_RATE = 20_000 / 5


def search() -> None:
    """All plans of 4,608 chips."""
    framework = Software().default_framework("aws")
    model, system = load(MODEL), Catalogue().system(SYSTEM)
    start = time.perf_counter()
    found = best_train(model, system, CHIPS, TrainingJob(sequence=8192), framework)
    took = time.perf_counter() - start
    rate = found.priced / took
    print(
        f"plan train {MODEL} --on {SYSTEM} --chips {CHIPS}: {found.priced:,} plans of {found.considered:,} combinations"
    )
    print(f"    {took:.2f} s, {rate:,.0f} plans/s; asked: 20,000 plans in 5 s, ratio {rate / ASKED_RATE:.1f}")


def million() -> None:
    """The command at 999,936 chips, start-up included."""
    program = str(Path(sys.executable).with_name("trainshed"))
    command = [program, "train", MODEL, "--on", SYSTEM, "--ultraservers", str(ULTRASERVERS), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    chips = json.loads(done.stdout)["result"]["chips"]
    print(f"train {MODEL} --on {SYSTEM} --ultraservers {ULTRASERVERS}: {chips:,} chips")
    print(f"    {took:.2f} s and {memory:.2f} GiB; asked: 2 s and 1 GiB, ratios {2 / took:.1f} and {1 / memory:.1f}")


if __name__ == "__main__":
    search()
    million()
