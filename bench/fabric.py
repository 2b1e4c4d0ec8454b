"""Collectives from 64 to a million chips: seconds of wall time, peak memory, the collective's time; beside ASTRA-sim's.

python bench/fabric.py [--full] [--astra FILE.csv]

Every figure is a process of its own, so that memory is its own. ``--full`` adds the simulation of every send at 576 and
2,304 chips, which takes minutes. ``--astra``: figures of ASTRA-sim's analytical backend measured on this machine (npus,
seconds of CPU, peak GB, collective seconds), instead of those recorded.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.flow.transport import transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.placement import place
from trainshed.fabric.scale import fans, hierarchical
from trainshed.fabric.schedule import schedule, sends
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.schema import System

SIZE, ASKED_SECONDS, ASKED_GIB, ASKED_RATIO = 2**30, 1.0, 1.0, 100.0
#: A 1 GiB all_reduce over two switch levels on ASTRA-sim's analytical backend: CPU-s, least and most (as recorded).
RECORDED = {1024: (0.6, 2.2), 8192: (16.0, 57.0)}
#: The same in one chunk, run beside this bench (astra-sim 4b6e027): CPU-s by algorithm; 0.05 and 0.76 GB.
RUN = {1024: {"rhd": 0.32, "ring": 0.37}, 8192: {"rhd": 5.6, "ring": 16.3}}
#: Two levels of switches: 50 and 25 GB/s, 0.5 us from chip to chip, as ASTRA-sim's examples of networks have it.
TWO_LEVELS = {64: (8, 8), 1024: (32, 32), 8192: (64, 128)}
RATES, LATENCY = (50e9, 25e9), 0.5e-6


def ultraservers(chips: int) -> tuple[System, list[str]]:
    """Trn3 Gen2: meshes inside; outside Bruck, which takes 6,944 UltraServers in 13 steps, or rhd of a power of two."""
    system = Catalogue().system("trn3-gen2")
    outside = ["rhd" if chips <= 2304 else "bruck"]
    levels = fans(system, chips)
    return system, ["mesh"] * (len(levels) - 1) + (outside if chips > 144 else ["mesh"])


def two_levels(chips: int, way: str = "rhd") -> tuple[System, list[str]]:
    """Two levels of switches that every chip has links of its own to."""
    base = Catalogue().system("trn3-gen2")
    inner, outer = (
        replace(
            base.levels[1], name=name, chips=count, bandwidth=base.levels[1].bandwidth.with_value(rate),
            latency=base.levels[1].latency.with_value(LATENCY),
        )
        for name, count, rate in zip(("inner", "outer"), (TWO_LEVELS[chips][0], chips), RATES, strict=True)
    )  # fmt: skip
    return replace(base, name="two switch levels", levels=(inner, outer), max_chips=chips), [way, way]


def scaled(system: System, ways: list[str], chips: int, how: Transport) -> float:
    """By symmetry."""
    return hierarchical("all_reduce", SIZE, system, chips, how, ways).seconds


def in_full(system: System, ways: list[str], chips: int, how: Transport) -> float:
    """Every send on the whole graph."""
    graph, levels = network(system, chips), [fan for _, fan in fans(system, chips)]
    steps = schedule("all_reduce", "hierarchical", chips, levels=levels, ways=ways)
    return Flow().run(graph, sends(steps, SIZE, place(graph, chips)), how).seconds


WORK: dict[str, Callable[[System, list[str], int, Transport], float]] = {"scaled": scaled, "full": in_full}


def child(what: str, where: str, chips: int, way: str) -> None:
    """One figure, as JSON: the catalogue is read before, everything else is timed."""
    system, ways = ultraservers(chips) if where == "trn3-gen2" else two_levels(chips, way)
    how = transport(system, "all_reduce") if where == "trn3-gen2" else Transport(name="wires")
    start, start_cpu = time.perf_counter(), time.process_time()
    seconds = WORK[what](system, ways, chips, how)
    took, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "took": took, "cpu": cpu, "memory": memory, "ways": ways}))


def measured(what: str, where: str, chips: int, way: str = "rhd") -> dict[str, float]:
    """The figure of a process of its own."""
    command = [sys.executable, __file__, "--child", what, where, str(chips), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(
        f"{what:6} {where:17} {chips:>7,} chips  {' '.join(found['ways']):22} "
        f"{found['took']:7.3f} s {found['cpu']:7.3f} CPU-s "
        f"{found['memory']:5.2f} GiB   all_reduce of 1 GiB: {found['seconds'] * 1e3:9.4f} ms"
    )
    return dict(found)


def main(full: bool, astra: str | None) -> None:
    """All figures, each with what was asked."""
    for chips in (64, 144, 576, 2304, 999_936):
        found = measured("scaled", "trn3-gen2", chips)
        if chips <= 144 or (full and chips <= 2304):
            ratio = found["seconds"] / measured("full", "trn3-gen2", chips)["seconds"]
            print(f"    scaled / full: {ratio:.9f}; asked: within 0.1 %")
    print(
        f"    asked: {ASKED_SECONDS:g} s and {ASKED_GIB:g} GiB, ratios {ASKED_SECONDS / found['took']:.1f} and "
        f"{ASKED_GIB / found['memory']:.1f}"
    )
    measured_here: dict[int, float] = {}
    if astra:
        with open(astra, newline="") as file:
            measured_here = {int(row["npus"]): float(row["seconds"]) for row in csv.DictReader(file)}
    for way in ("rhd", "ring", "mesh"):
        for chips in TWO_LEVELS:
            cpu = measured("scaled", "two switch levels", chips, way)["cpu"]
            asked = f"; asked at 8,192: {ASKED_RATIO:g}" if chips == 8192 else ""
            for kind, low, high in rivals(way, chips, measured_here):
                print(f"    ASTRA-sim, analytical: {low:g} to {high:g} CPU-s ({kind}), "
                      f"ratio {low / cpu:,.0f} to {high / cpu:,.0f}{asked}")  # fmt: skip
    print("    ours: the simulation alone; Python's imports and the catalogue take some 0.4 CPU-s of each process")


def rivals(way: str, chips: int, here: dict[int, float]) -> list[tuple[str, float, float]]:
    """ASTRA-sim's CPU-s, least and most, of the same algorithm where it is known."""
    found = [("recorded, any algorithm", *RECORDED[chips])] if chips in RECORDED else []
    if way in RUN.get(chips, {}):
        found.append((f"{way}, recorded when it was built and run", RUN[chips][way], RUN[chips][way]))
    if chips in here:
        found.append(("measured here", here[chips], here[chips]))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--astra")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], asked.child[1], int(asked.child[2]), asked.child[3])
    else:
        main(asked.full, asked.astra)
