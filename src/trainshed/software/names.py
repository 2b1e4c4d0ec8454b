"""Numbers of software by their full name: ``--set framework/nemo-24.12.gemm_share=0.9``."""

from __future__ import annotations

from trainshed.core import Number, UserError, unknown_name
from trainshed.core.load import quantity
from trainshed.software.catalogue import Software
from trainshed.software.schema import ENGINE_MECHANISMS, FRAMEWORK_MECHANISMS

_MECHANISMS = {"framework": FRAMEWORK_MECHANISMS, "engine": ENGINE_MECHANISMS}


def speaks_of_software(text: str) -> bool:
    """True if a setting names a framework or an engine."""
    return text.partition("/")[0].strip() in _MECHANISMS


def parse_set(text: str, *, where: str = "--set") -> dict[str, Number]:
    """``engine/vllm-0.18.step_host=2ms`` as a value by full name."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value:
        raise UserError("not a setting", where=where, value=text, expected="NAME=VALUE")
    kind, _, rest = name.partition("/")
    owner, _, key = rest.rpartition(".")
    known = Software()
    owners = known.frameworks() if kind == "framework" else known.engines()
    if owner not in owners:
        raise unknown_name(kind, owner or rest, owners, where=where)
    if key not in _MECHANISMS[kind]:
        raise unknown_name(f"number of a {kind}", key, _MECHANISMS[kind], where=where)
    return {name: quantity(value, _MECHANISMS[kind][key][0], where=where)}
