"""Kernels that others published, run on the virtual NeuronCore and compared with NumPy.

``python -m trainshed.nki.conformance.corpora PATH…``: each path is a checkout of a public repository (or a folder
of them). Kernels are read from there; what they are run with, and what they should give, is in
``corpora_cases``. ``--write FILE`` writes the table as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainshed.core.errors import UserError
from trainshed.nki.conformance.corpora_cases import CASES, SUITES
from trainshed.nki.conformance.corpora_runs import Case, Outcome, Suite, run, run_suite


def find(paths: Sequence[Path], files: Sequence[str]) -> Path | None:
    """The folder, at or up to two levels below the paths, that holds one of the files."""
    for path in paths:
        for folder in (path, *sorted(path.glob("*")), *sorted(path.glob("*/*"))):
            if folder.is_dir() and any((folder / file).exists() for file in files):
                return folder
    return None


def outcomes(paths: Sequence[Path], only: str = "", *, slow: bool = False) -> Iterator[Outcome]:
    """Every case and suite of every corpus that is there."""
    every: tuple[Case | Suite, ...] = (*CASES, *SUITES)
    chosen = [item for item in every if only in f"{item.corpus} {item.file} {getattr(item, 'name', '')}"]
    for corpus in dict.fromkeys(item.corpus for item in chosen):
        items = [item for item in chosen if item.corpus == corpus]
        root = find(paths, [getattr(item, "marker", item.file) for item in items])
        if root is None:
            continue
        for item in items:
            if not (root / item.file).exists():
                yield Outcome(
                    corpus=corpus, file=item.file, name=getattr(item, "name", "its own suite"), result="skipped",
                    note="not in this checkout",
                )  # fmt: skip
            elif isinstance(item, Case):
                yield run(item, root)
            else:
                yield from run_suite(item, root, slow=slow)


# --- the table ----------------------------------------------------------------------------------------------------


def markdown(found: Sequence[Outcome]) -> str:
    """The page: a summary by corpus, every kernel, and why what does not match does not."""
    lines = [
        "# Conformance: other people's kernels", "",
        "Kernels that others published, unmodified, against NumPy; written by "
        "`python -m trainshed.nki.conformance.corpora PATH…`. Errors are relative to the largest magnitude.", "",
        "| corpus | run | match | refused as they must be | do not | skipped |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for corpus in dict.fromkeys(item.corpus for item in found):
        of = [item for item in found if item.corpus == corpus]
        count = {result: sum(item.result == result for item in of) for result in ("matches", "refused", "skipped")}
        bad = len(of) - sum(count.values())
        lines.append(
            f"| {corpus} | {len(of) - count['skipped']} | {count['matches']} | {count['refused']} | {bad} "
            f"| {count['skipped']} |"
        )
    for corpus in dict.fromkeys(item.corpus for item in found):
        lines += ["", f"## {corpus}", "", "| kernel or test | result | error | |", "|---|---|---|---|"]
        file = ""
        for item in found:
            if item.corpus != corpus:
                continue
            if item.file != file:
                file = item.file
                lines.append(f"| **{file}** | | | |")
            error = "" if item.error is None else f"{item.error:.1e}"
            lines.append(f"| {item.name} | {item.result} | {error} | {_cell(item)} |")
    return "\n".join(lines) + "\n"


def _cell(item: Outcome) -> str:
    """A note without the paths of the machine it came from."""
    note = item.note.replace("|", "\\|").replace("\n", " ")
    words = [Path(word).name if word.startswith("/") else word for word in note.split(" ")]
    return " ".join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the result is 1 when a kernel does not do what it should."""
    parser = argparse.ArgumentParser(prog="python -m trainshed.nki.conformance.corpora", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="checkouts of public repositories, or folders of them")
    parser.add_argument("--only", default="", help="only corpora, files or kernels whose name contains this")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown")
    parser.add_argument("--slow", action="store_true", help="tests of suites that take minutes too")
    chosen = parser.parse_args(arguments)
    found = []
    for item in outcomes(chosen.paths, chosen.only, slow=chosen.slow):
        found.append(item)
        error = "" if item.error is None else f"{item.error:.1e}"
        print(f"{item.result:8} {error:8} {item.seconds:6.1f}s  {item.corpus}: {item.name}  {item.note}", flush=True)
    if not found:
        raise UserError(
            "corpora", where="PATH", value=[str(path) for path in chosen.paths], expected="a known checkout"
        )
    bad = sum(not item.good for item in found)
    print(f"{len(found)} kernels and tests, {bad} not as they should be")
    if chosen.write:
        chosen.write.write_text(markdown(found))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
