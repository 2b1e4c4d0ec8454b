"""``compare``: the same work on several systems, and what a chip without a price would have to cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainshed.app.machine import Machine
from trainshed.core import Result, UserError
from trainshed.economy import break_even

PER = ("chip", "usd", "joule", "ultraserver")
#: What a job makes → its keys for joules of one and dollars of so many.
MADE: dict[str, tuple[str, str, float]] = {
    "tokens": ("energy_per_token_j", "usd_per_million_tokens", 1e6),
    "frames": ("energy_per_frame_j", "usd_per_thousand_frames", 1e3),
    "images": ("energy_per_image_j", "usd_per_thousand_images", 1e3),
    "inferences": ("energy_per_inference_j", "usd_per_thousand_inferences", 1e3),
    "audio_s": ("energy_per_audio_second_j", "usd_per_thousand_audio_seconds", 1e3),
}


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
            and (even := break_even(rival.price, _rate(line) / line["chips"], _rate(other) / other["chips"]))
        }
    first = results[0]
    return Result(
        command="compare", inputs={"model": model, "on": list(systems), "chips": count, "per": per, "job": command},
        result={"systems": lines}, assumptions=first.assumptions, evidence=first.evidence,
        details={"results": dict(zip(systems, results, strict=True))},
    )  # fmt: skip


def _made(figures: Any) -> str:
    return next(name for name in MADE if f"{name}_per_s" in figures)


def _rate(line: Any) -> float:
    return float(line[f"{_made(line)}_per_s"])


def _line(machine: Machine, result: Result, per: str) -> dict[str, Any]:
    figures: Any = result.result
    made = _made(figures)
    energy, money, many = MADE[made]
    rate, chips, usd, joules = _rate(figures), figures["chips"], figures[money], figures[energy]
    measure = {
        "chip": rate / chips,
        "ultraserver": rate / chips * machine.system.ultraserver_chips,
        "usd": None if not usd else many / usd,
        "joule": None if not joules else 1.0 / joules,
    }[per]
    evidence = result.evidence
    return {
        "system": machine.system.name, "chips": chips, "plan": figures["plan"],
        f"{made}_per_s": rate, f"{made}_per_s_per_chip": rate / chips, f"{made}_per_{per}": measure,
        **{k: figures[k] for k in ("step_time_s", "mfu", "memory_fits", "real_time_factor") if k in figures},
        **{k: figures[k]["mean"] for k in ("ttft_s", "tpot_s") if k in figures},
        energy: joules, "power_w": figures["power_w"], money: usd,
        "usd_per_chip_hour": None if machine.price is None else float(machine.price.value),
        "estimated_usd_per_chip_hour": _estimate(machine),
        "evidence_points": evidence.comparable_points if evidence else 0,
        "evidence_median_abs_error": evidence.median_abs_error if evidence else None,
        "evidence_carried_from": evidence.carried_from if evidence else None,
    }  # fmt: skip


def _estimate(machine: Machine) -> float | None:
    """The one guess at a price that nobody prints (status estimated); no dollar figure rests on it."""
    guess = machine.catalogue.price_estimate(machine.system.name) if machine.price is None else None
    return None if guess is None else float(guess.value)
