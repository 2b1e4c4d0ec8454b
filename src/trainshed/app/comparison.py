"""``compare``: the same work on several systems, and what a chip without a price would have to cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainshed.app.machine import Machine
from trainshed.core import Result, UserError
from trainshed.economy import break_even

PER = ("chip", "usd", "joule", "ultraserver")


def compare(
    model: str, systems: Sequence[str], run: Callable[[Machine], Result], make: Callable[[str, int], Machine],
    sizes: Callable[[str], int], *, chips: int | None, per: str, command: str,
) -> Result:  # fmt: skip
    """Run the same work on each system, on equally many chips (default: the largest scale-up domain among them)."""
    if per not in PER:
        raise UserError("unknown measure", where="--per", value=per, expected=", ".join(PER))
    if len(systems) < 2:
        raise UserError("nothing to compare", where="--on", value=",".join(systems), expected="two or more systems")
    count = chips if chips is not None else max(sizes(name) for name in systems)
    machines = [make(name, count) for name in systems]
    results = [run(machine) for machine in machines]
    lines = [_line(machine, result, per) for machine, result in zip(machines, results, strict=True)]
    for line in lines:
        line["break_even_usd_per_chip_hour"] = {
            rival.system.name: float(even.value)
            for other, rival in zip(lines, machines, strict=True)
            if other is not line
            and (even := break_even(rival.price, line["tokens_per_s_per_chip"], other["tokens_per_s_per_chip"]))
        }
    first = results[0]
    return Result(
        command="compare", inputs={"model": model, "on": list(systems), "chips": count, "per": per, "job": command},
        result={"systems": lines}, assumptions=first.assumptions, evidence=first.evidence,
        details={"results": dict(zip(systems, results, strict=True))},
    )  # fmt: skip


def _line(machine: Machine, result: Result, per: str) -> dict[str, Any]:
    figures: Any = result.result
    rate, chips = figures["tokens_per_s"], figures["chips"]
    usd, joules = figures["usd_per_million_tokens"], figures["energy_per_token_j"]
    measure = {
        "chip": rate / chips,
        "ultraserver": rate / chips * machine.system.ultraserver_chips,
        "usd": None if not usd else 1e6 / usd,
        "joule": None if not joules else 1.0 / joules,
    }[per]
    evidence = result.evidence
    return {
        "system": machine.system.name, "chips": chips, "plan": figures["plan"],
        "tokens_per_s": rate, "tokens_per_s_per_chip": rate / chips, f"tokens_per_{per}": measure,
        **{k: figures[k] for k in ("step_time_s", "mfu", "memory_fits") if k in figures},
        **{k: figures[k]["mean"] for k in ("ttft_s", "tpot_s") if k in figures},
        "energy_per_token_j": joules, "power_w": figures["power_w"], "usd_per_million_tokens": usd,
        "usd_per_chip_hour": None if machine.price is None else float(machine.price.value),
        "evidence_points": evidence.comparable_points if evidence else 0,
        "evidence_median_abs_error": evidence.median_abs_error if evidence else None,
    }  # fmt: skip
