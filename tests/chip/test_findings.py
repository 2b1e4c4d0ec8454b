"""Findings merge by rule, message and line."""

from trainshed.chip.errors import Source
from trainshed.chip.findings import Finding, merged, note


def test_a_repeated_note_counts(core):
    for _ in range(3):
        note(core, "small-dma", "2 B", Source("k.py", 3))
    note(core, "small-dma", "2 B", Source("k.py", 4))
    assert core.findings == [
        Finding("small-dma", "2 B", Source("k.py", 3), 3), Finding("small-dma", "2 B", Source("k.py", 4), 1),
    ]  # fmt: skip
    assert str(core.findings[0]) == "k.py:3: small-dma: 2 B (3 times)"
    assert core.findings[1].to_json() == {
        "rule": "small-dma", "message": "2 B", "file": "k.py", "line": 4, "count": 1,
    }  # fmt: skip


def test_findings_of_two_cores_add_up():
    one = Finding("reload", "x", Source("k.py", 1), 2)
    assert merged([one, Finding("a", "b", Source("k.py", 2)), one]) == [
        Finding("reload", "x", Source("k.py", 1), 4), Finding("a", "b", Source("k.py", 2)),
    ]  # fmt: skip
