"""What a run of AWS's kernel library's suite gave: one JSON object a line, and the page made of them."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: How the suite names what it leaves out of simulations by its own list.
SLOW = "slow simulation"


#: What is known of failures, told beside them: a module, a word of the cause, and why.
KNOWN = (
    (
        "test_cascaded_max_utils", "",
        "The race is the test kernel's: both cores clear the whole output and then store rows of their own, "
        "and nothing orders one core's clearing before the other's rows.",
    ),
    (
        "test_moe_tkg", "uninitialised",
        "At intermediate sizes of 180 and 360 the kernel quantises groups of 8 partitions of which it has "
        "written some only: the scale of those, which the result needs, depends on what SBUF held before.",
    ),
    (
        "test_moe_block_tkg", "uninitialised",
        "As in test_moe_tkg: at intermediate sizes of 180 and 360 groups of 8 partitions are quantised of "
        "which some only were written.",
    ),
    (
        "test_moe_block_tkg", "bytes per partition",
        "Weights of an expert, the output of all tokens and the quantised input are live at once and take "
        "more than the 256 KiB of a partition: AWS's simulator knows no capacities.",
    ),
    (
        "test_moe_block_tkg", "'dtype'",
        "gate_up_projection_mx_shard_H.py takes the dtype of a bias that the case does not have.",
    ),
    (
        "test_moe_cte", "",
        "At an intermediate size of 3072 these kernels accumulate in 12 banks of PSUM at once, of which there "
        "are 8, or hold 288 KiB of SBUF per partition, of which there are 256: AWS's simulator knows no "
        "capacities.",
    ),
    (
        "test_moe_cte_unified", "weight_dtype",
        "The suite hands moe_cte an argument, weight_dtype, that no moe_cte of this branch has.",
    ),
    (
        "test_cross_entropy_forward", "",
        "Logits of [14000, 151936] and their reference in float32 take most of 24 GB: alone on the machine "
        "the case passes, beside another worker's the operating system may end it.",
    ),
    (
        "test_qkv_cte", "not callable",
        "qkv_cte.py imports a module where it means the function of the same name.",
    ),
    (
        "test_attention_block_tkg", "Validation failed",
        "With FP8 caches the outputs hang on single roundings of the input to FP8: V has a deviation of 1,300 "
        "in units of its cache (saturating at 240) and scores move by more than 1 where an element of K takes "
        "the next step. The same product with its input rounded at other places, or not at all, is 43 to 48 "
        "away from the suite's reference, as ours is (32 to 44); the case allows 16.",
    ),
    (
        "test_attention_block_tkg", "size of tensor",
        "The reference refuses the scales that the case makes.",
    ),
    (
        "test_attention_block_tkg", "qkv weight scale",
        "The kernel's own check refuses the scales that the case makes.",
    ),
)  # fmt: skip


def known(module: str, cause: str) -> str:
    """What is known of a failure; empty: nothing."""
    return next((why for name, word, why in KNOWN if name == module and word in cause), "")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case."""

    case: str
    """Its node id in pytest."""
    outcome: str
    """``passed``, ``failed``, ``skipped`` or ``xfailed``."""
    seconds: float
    processor_s: float | None = None
    """Seconds of processor time of the call; None: not measured."""
    cause: str = ""
    """Of a failure the first error, of a skipped case the suite's reason."""
    launches: int | None = None
    """Of a case that was timed; None: it was not."""
    time_s: float | None = None
    """Of its slowest launch, on virtual NeuronCores."""
    bounded: bool | None = None
    """Whether every launch has a time, none below any of its bounds."""
    timing_s: float = 0.0
    """Of ``seconds``, those spent on finding times."""

    @property
    def module(self) -> str:
        """``test_rope`` of ``…/test_rope.py::TestRope::test_x[…]``."""
        return Path(self.case.split("::")[0]).stem

    @property
    def name(self) -> str:
        """``test_x[…]``."""
        return self.case.split("::", 1)[1].split("::")[-1] if "::" in self.case else self.case

    @property
    def selected(self) -> bool:
        """Whether it is not on the suite's own list of slow simulations."""
        return self.outcome != "skipped" or SLOW not in self.cause

    @property
    def counts(self) -> bool:
        """Whether it ran: tests skip combinations themselves that say nothing new, before any kernel is called."""
        return self.outcome != "skipped"


def read(path: Path) -> dict[str, Outcome]:
    """The last outcome of every case. A line cut short by an interruption is left out."""
    found: dict[str, Outcome] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "case" in row:
            found[row["case"]] = Outcome(**row)
    return found


def total(path: Path) -> int | None:
    """How many cases the run that writes this file has, once it knows."""
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith('{"total"'):
            return int(json.loads(line)["total"])
    return None


def share(outcomes: Iterable[Outcome]) -> tuple[int, int, float]:
    """Cases that passed, cases that count, and the share in percent."""
    counting = [item for item in outcomes if item.counts]
    passed = sum(item.outcome in ("passed", "xfailed") for item in counting)
    return passed, len(counting), 100 * passed / len(counting) if counting else 0.0


def page(outcomes: Mapping[str, Outcome], *, selection: str, facts: Mapping[str, str]) -> str:
    """The Markdown page: totals, modules, every failure with its cause."""
    passed, count, percent = share(outcomes.values())
    lines = [
        "# Conformance: AWS's kernel library's own suite on virtual NeuronCores",
        "",
        "Written by `make conformance NKI_LIBRARY=path` (`python -m trainshed.nki.conformance path`). The library's",
        "files are untouched; a pytest plugin of ours supplies the simulator its `--test-mode simulation` looks for",
        "and what its suite imports and nobody publishes.",
        "",
        f"**{passed:,} of {count:,} cases pass ({percent:.2f} %)**: {selection}.",
        "",
        *[f"- {name}: {value}" for name, value in facts.items()],
        *_processor([item for item in outcomes.values() if item.processor_s is not None]),
        *_times([item for item in outcomes.values() if item.launches is not None]),
        *_skipped([item for item in outcomes.values() if item.selected and not item.counts]),
        "",
        *_modules(outcomes),
        *_failures([item for item in outcomes.values() if item.outcome == "failed"]),
    ]
    return "\n".join(lines) + "\n"


def _processor(items: Sequence[Outcome]) -> list[str]:
    """What the cases take of processors, whatever else the machine did."""
    if not items:
        return []
    spent = sum(item.processor_s or 0.0 for item in items)
    return [f"- processor time of {len(items):,} cases: {spent / 60:.1f} minutes, {spent / 120:.1f} on each of two"]


def _times(items: Sequence[Outcome]) -> list[str]:
    """Of cases that were timed: how many launches' times there are, their range, and what finding them took."""
    launched = [item for item in items if item.launches]
    found = [item.time_s for item in launched if item.time_s is not None]
    if not found:
        return []
    bounded = sum(item.time_s is not None and bool(item.bounded) for item in launched)
    took, spent = sum(item.timing_s for item in items), sum(item.seconds for item in items)
    others = len(items) - len(launched)
    return [
        f"- time on virtual NeuronCores: {len(found):,} of {len(launched):,} cases that launch kernels have one, "
        f"{1e6 * min(found):.3g} µs to {1e3 * max(found):.3g} ms for the slowest launch; {bounded:,} are at or above "
        f"all their bounds{f'; {others:,} launch nothing' if others else ''}; finding times took {took:.0f} s, "
        f"{100 * took / (spent - took or 1.0):.1f} % more than the {spent - took:.0f} s of the same cases without"
    ]


def _skipped(items: Sequence[Outcome]) -> list[str]:
    """What the tests skip themselves, by their reasons."""
    if not items:
        return []
    reasons = Counter(item.cause.removeprefix("Skipped: ") for item in items)
    told = "; ".join(f"{count} because “{reason}”" for reason, count in reasons.most_common())
    return [f"- beside these {len(items):,} cases that the tests skip themselves: {told}"]


def _modules(outcomes: Mapping[str, Outcome]) -> list[str]:
    """The table by module."""
    by_module: dict[str, list[Outcome]] = defaultdict(list)
    for item in outcomes.values():
        if item.selected:
            by_module[item.module].append(item)
    lines = [
        "## By module", "",
        "| module | passed | failed | skipped by the test | seconds |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    for module, items in sorted(by_module.items()):
        kinds = [item.outcome for item in items]
        good = kinds.count("passed") + kinds.count("xfailed")
        seconds = sum(item.seconds for item in items)
        lines.append(f"| {module} | {good} | {kinds.count('failed')} | {kinds.count('skipped')} | {seconds:.1f} |")
    return [*lines, ""]


def _failures(failed: Sequence[Outcome]) -> list[str]:
    """Every failure, those of one cause together."""
    if not failed:
        return ["## Failures", "", "None."]
    by_cause: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for item in failed:
        by_cause[item.module, kind_of(item.cause)].append(item)
    lines = ["## Failures", ""]
    for (module, _), items in sorted(by_cause.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        lines += [
            f"### {module}: {len(items)}",
            "",
            f"{portable(items[0].cause)} {known(module, items[0].cause)}".rstrip(),
            "",
        ]
        lines += [f"- `{item.name}`" for item in sorted(items, key=lambda item: item.name)]
        lines.append("")
    return lines[:-1]


def kind_of(cause: str) -> str:
    """A cause without the numbers and places in which cases differ."""
    return re.sub(r"\d+", "#", portable(cause))[:120]


def portable(cause: str) -> str:
    """A cause in one line, without folders of this machine."""
    return re.sub(r"/\S*/(?=[\w.]+\.py)", "", " ".join(cause.split())) or "no message"
