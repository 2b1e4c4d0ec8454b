"""The plan grammar: ``tp8 sp1 pp4 vpp2 dp4 zero1 ep8 etp1 cp1 dpa1 mb1 sel lnc2 x1`` (one code for CLI, JSON, Python).

A rank is one GPU or one logical NeuronCore. Every degree may also be an integer array: then the Plan is a table of
plans, which is what the planner prices (see ``Plan.at`` and ``Plan.stack``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainshed.core.errors import PlanError

IntArray = NDArray[np.int64]
Degree = int | IntArray


class Recompute(IntEnum):
    """What the backward pass computes again (arXiv:2205.05198): nothing, the attention core, or every layer."""

    NONE = 0
    SELECTIVE = 1
    FULL = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Degrees of parallelism. Ranks = tp × cp × pp × dp (× replicas when serving); ep divides tp × cp × dp."""

    tp: Degree = 1
    sp: Degree = 0
    """Sequence parallel with TP (0/1)."""
    pp: Degree = 1
    vpp: Degree = 1
    """Virtual stages per pipeline rank (interleaved 1F1B when above 1)."""
    dp: Degree = 1
    zero: Degree = 0
    """ZeRO stage 0–3; FSDP full shard is 3."""
    ep: Degree = 1
    etp: Degree = 1
    """TP inside experts."""
    cp: Degree = 1
    dpa: Degree = 1
    """Attention data parallelism inside tp (serving): attention runs tp/dpa-way, MLP and experts tp-way."""
    mb: Degree = 1
    """Sequences per micro-batch and data-parallel rank."""
    recompute: Degree = 0
    """A Recompute value."""
    lnc: int = 0
    """Physical cores per rank on Neuron; 0 before it is filled in from the chip."""
    replicas: Degree = 1

    @property
    def ranks(self) -> Degree:
        """Ranks of one replica."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def micro_batches_needed(self) -> Degree:
        """Sequences that one micro-batch takes over all data-parallel ranks."""
        return self.dp * self.mb

    def at(self, index: int) -> Plan:
        """One plan of a table of plans."""
        picked = {f.name: int(np.broadcast_to(getattr(self, f.name), self.shape)[index]) for f in fields(self)}
        return Plan(**picked)

    @property
    def shape(self) -> tuple[int, ...]:
        """``()`` for one plan, ``(n,)`` for a table."""
        return np.broadcast_shapes(*(np.shape(getattr(self, f.name)) for f in fields(self)))

    @classmethod
    def stack(cls, plans: Sequence[Plan]) -> Plan:
        """A table of plans (they must share ``lnc``)."""
        lncs = {p.lnc for p in plans}
        if len(lncs) != 1:
            raise PlanError("plans of different lnc in one table", where="plan", value=sorted(lncs), expected="one lnc")
        columns: dict[str, Any] = {
            f.name: np.array([getattr(p, f.name) for p in plans], dtype=np.int64) for f in fields(cls)
        }
        return cls(**{**columns, "lnc": lncs.pop()})

    @classmethod
    def parse(cls, text: str, *, where: str = "--plan") -> Plan:
        """Read the grammar; every key at most once, every degree a positive integer (sp, zero may be 0)."""
        values: dict[str, int] = {}
        for word in text.replace(",", " ").split():
            key, value = _word(word, where)
            if key in values:
                raise PlanError(f"plan key {key} given twice", where=where, value=text, expected=f"one {key}")
            values[key] = value
        return cls(**values)

    def __str__(self) -> str:
        if self.shape:
            return f"{self.shape[0]} plans"
        words = [f"{short}{getattr(self, name)}" for short, name in _WORDS if getattr(self, name) != _DEFAULTS[name]]
        words += {0: [], 1: ["sel"], 2: ["full"]}[int(self.recompute)]
        return " ".join(words) or "tp1"

    def replace(self, **changes: Any) -> Plan:
        """The plan with some degrees changed."""
        return replace(self, **changes)


_DEFAULTS = {f.name: f.default for f in fields(Plan)}
_WORDS = [(n, n) for n in ("tp", "sp", "pp", "vpp", "dp", "zero", "ep", "etp", "cp", "dpa")]
_WORDS += [("mb", "mb"), ("lnc", "lnc"), ("x", "replicas")]
_KEYS = dict(_WORDS)
_ZERO_ALLOWED = {"sp", "zero"}


def _word(word: str, where: str) -> tuple[str, int]:
    named = {"none": 0, "sel": 1, "full": 2}
    if word in named:
        return "recompute", named[word]
    match = re.fullmatch(r"([a-z]+)(-?\d+)", word)
    if not match or match[1] not in _KEYS:
        stem = word.rstrip("0123456789")
        near = difflib.get_close_matches(stem, [*_KEYS, *named], n=1, cutoff=0.3)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise PlanError(
            "unknown plan key", where=where, value=word, expected=f"words like tp8 pp4 dp2 zero1 ep8 mb1 sel{hint}"
        )
    key, value = match[1], int(match[2])
    top = {"sp": 1, "zero": 3}.get(key)
    if value < (0 if key in _ZERO_ALLOWED else 1) or (top is not None and value > top):
        expected = f"0 to {top}" if top is not None else "a whole number of at least 1"
        raise PlanError(f"plan key {key} out of range", where=where, value=value, expected=expected)
    return _KEYS[key], value
