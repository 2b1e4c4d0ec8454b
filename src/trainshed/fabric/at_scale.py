"""The answer for more chips than are spelled out: a hierarchy simulated by its classes, at flow level."""

from __future__ import annotations

from typing import Any

from trainshed.core import Result, UserError
from trainshed.fabric.answer import answer
from trainshed.fabric.flow.transport import transport
from trainshed.fabric.group import Group, spread
from trainshed.fabric.on_links import Ask
from trainshed.fabric.play import way_over
from trainshed.fabric.scale import fans, hierarchical
from trainshed.hardware.schema import System

#: Ways over the outermost level that are tried, the fastest counts: not each takes every number of domains.
_OUTSIDE = ("bruck", "rhd", "ring", "mesh")


def scaled(system: System, ask: Ask, inputs: dict[str, Any]) -> Result:
    """A hierarchical gather or sum among all chips of whole domains; at each level the closed forms' way, outermost the
    fastest of those that take so many domains. UserError: chips that fill no whole domains."""
    levels = fans(system, ask.ranks)
    shares = spread(Group(ranks=ask.ranks), system.levels)
    by_level = {share.level.name: share for share in shares}
    inside = [way_over(ask.kind, by_level[level.name], ask.size) for level, _ in levels[:-1]]
    how = transport(system, ask.kind, memory=ask.memory, algorithm="hierarchical", size=ask.size, ranks=ask.ranks)
    found, refused = {}, None
    for way in _OUTSIDE:
        try:
            found[way] = hierarchical(ask.kind, ask.size, system, ask.ranks, how, [*inside, way])
        except UserError as error:  # that way does not take so many domains, or these links
            refused = error
    if not found:
        assert refused is not None
        raise refused
    outside = min(found, key=lambda way: found[way].seconds)
    best = found[outside]
    closed = answer(ask.kind, ask.size, system, ask.ranks, "hierarchical")
    assert isinstance(closed.result, dict)
    factor = closed.result["busbw_bytes_per_s"] / closed.result["algbw_bytes_per_s"]
    rate = ask.size / best.seconds
    result = {
        **closed.result, "time_s": best.seconds, "algbw_bytes_per_s": rate, "busbw_bytes_per_s": rate * factor,
        "algorithms_s": {f"hierarchical, {way} outermost": one.seconds for way, one in found.items()},
        "bound": max(_lasting(best.stages).items(), key=lambda item: item[1])[0],
        "scale": {
            "model": "flow, ranks that see the same network as one class", "closed_form_s": closed.result["time_s"],
            "fans": {level.name: fan for level, fan in levels}, "stages_s": _lasting(best.stages),
            "ways": {level.name: way for (level, _), way in zip(levels, [*inside, outside], strict=True)},
        },
    }  # fmt: skip
    return Result(command="collective", inputs=inputs, result=result, assumptions=closed.assumptions)


def _lasting(ends: dict[str, float]) -> dict[str, float]:
    """How long each stage takes, from when each is over."""
    out, before = {}, 0.0
    for name, end in ends.items():
        out[name], before = end - before, end
    return out
