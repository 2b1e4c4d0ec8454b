"""Two kernels on the same inputs: their times, what they do, and which lines made the difference."""

from __future__ import annotations

from typing import Any

import trainshed.nki as nki
from trainshed.chip.timing.difference import changes


def compared_times(names: tuple[str, str], runs: tuple[nki.Simulated, nki.Simulated]) -> dict[str, Any]:
    """``time_comparison`` of ``kernel.result``: figures of both and the lines of both critical paths, as plain JSON."""
    one, two = (run.timing for run in runs)
    return {
        "kernels": list(names),
        "times_s": [one.seconds, two.seconds],
        "ratio": one.seconds / two.seconds if two.seconds else None,
        "figures": _figures(runs),
        "lines": [change.to_json() for change in changes(one, two)],
    }


def _figures(runs: tuple[nki.Simulated, nki.Simulated]) -> list[dict[str, Any]]:
    """Figures of both kernels, each with its unit (empty: a count)."""
    times, counts = [run.timing for run in runs], [run.profile for run in runs]
    rows: list[tuple[str, str, list[float]]] = [("time", "s", [time.seconds for time in times])]
    for name in dict.fromkeys(name for time in times for name in time.engines):
        rows.append((f"{name} active", "s", [time.busy.get(name, 0.0) for time in times]))
    for name in dict.fromkeys(name for count in counts for name in count.engines):
        used = [count.engines.get(name) for count in counts]
        rows.append((f"{name} instructions", "", [use.instructions if use else 0 for use in used]))
    rows += [
        ("HBM read", "B", [count.hbm_read_bytes for count in counts]),
        ("HBM written", "B", [count.hbm_write_bytes for count in counts]),
        ("moved by DMA", "B", [count.dma.bytes for count in counts]),
        ("SBUF peak per partition", "B", [count.sbuf_peak_bytes for count in counts]),
        ("MFU", "share", [time.mfu for time in times]),
        ("HFU", "share", [time.hfu for time in times]),
        ("MBU", "share", [time.mbu for time in times]),
    ]
    return [{"what": what, "unit": unit, "values": values} for what, unit, values in rows]
