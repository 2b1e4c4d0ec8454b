"""One self-contained HTML page of sections: text, tables, plots. Needs no network to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainshed.core.errors import not_installed
from trainshed.report.whole import write_whole

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.4rem; border-bottom: 1px solid var(--line); }
p.lead { color: #888; margin-top: .3rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; width: 100%; font-size: .92em; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } thead th { background: var(--soft); }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots > div { background: #fff; border-radius: 6px; padding: .4rem; flex: 1 1 30rem; }
.plots svg { width: 100%; height: auto; } ul { font-size: .92em; } footer { margin: 3rem 0; color: #888; }
</style></head><body><h1>{{ title }}</h1><p class="lead">{{ lead }}</p>
{% for s in sections %}<h2>{{ s.title }}</h2>
{% for p in s.paragraphs %}<p>{{ p }}</p>{% endfor %}
{% for t in s.tables %}<table><thead><tr>{% for c in t.columns %}<th>{{ c }}</th>{% endfor %}</tr></thead><tbody>
{% for r in t.rows %}<tr>{% for c in r %}<td>{{ c }}</td>{% endfor %}</tr>{% endfor %}</tbody></table>{% endfor %}
<div class="plots">{% for p in s.plots %}<div>{{ p | safe }}</div>{% endfor %}</div>
{% if s.notes %}<ul>{% for n in s.notes %}<li>{{ n }}</li>{% endfor %}</ul>{% endif %}{% endfor %}
<footer>{{ footer }}</footer></body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table as text: what the terminal prints and the page shows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with its paragraphs, tables, SVG plots and small notes."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Grid] = ()
    plots: Sequence[str] = ()
    notes: Sequence[str] = ()


def write(path: Path, title: str, lead: str, sections: Sequence[Section], footer: str) -> None:
    """Write the page whole or not at all."""
    try:
        import jinja2
    except ImportError as error:
        raise not_installed("jinja2", extra="plots", where="report") from error
    template = jinja2.Environment(autoescape=True).from_string(_TEMPLATE)
    text = template.render(title=title, lead=lead, sections=sections, footer=footer)
    write_whole(path, text.encode())
