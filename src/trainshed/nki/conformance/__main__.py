"""``python -m trainshed.nki.conformance NKI_LIBRARY``: run AWS's kernel library's suite, and write the page.

``NKI_LIBRARY`` is a checkout of the library (branch 2.29_release). Cases run on two workers; each outcome is kept
as soon as it is known, so that an interrupted run goes on with ``--resume``.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trainshed.core.errors import UserError
from trainshed.nki.conformance.results import page, read, share, total

#: One thread a worker, and memory that is kept for the next array: fresh pages cost more than what is done on them.
_WORKER = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_TOP_PAD_": str(64 << 20),
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m trainshed.nki.conformance", description=__doc__)
    made.add_argument("library", type=Path, help="a checkout of AWS's nki-library")
    made.add_argument("--all", action="store_true", help="every case not on the suite's slow list, not only fast ones")
    made.add_argument(
        "--module", action="append", default=[], help="only this test module, e.g. test_rope (repeatable)"
    )
    made.add_argument("--only-failed", action="store_true", help="only cases whose last outcome is a failure")
    made.add_argument("--resume", action="store_true", help="only cases that have no outcome yet")
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--timeout", type=float, default=300.0, help="seconds of processor time a case may take")
    made.add_argument(
        "--time", action="store_true", help="find the time of every launch, too, and hold it to its bounds"
    )
    made.add_argument("--platform", default="trn3", choices=("trn2", "trn3"))
    made.add_argument("--results", type=Path, help="where outcomes are kept (default: build/conformance/…)")
    made.add_argument("--page", type=Path, help="write the table to this file")
    return made


def modules(library: Path, names: Sequence[str]) -> list[Path]:
    """The test files of the library, or those named."""
    folder = library / "test" / "integration"
    files = sorted(folder.rglob("test_*.py"))
    if not files:
        raise UserError(
            "nki-library", where="NKI_LIBRARY", value=str(library), expected="a checkout with test/integration"
        )
    if not names:
        return [folder]
    wanted = {name.removesuffix(".py") for name in names}
    unknown = wanted - {file.stem for file in files}
    if unknown:
        raise UserError("module", where="--module", value=sorted(unknown)[0], expected="the name of a test file")
    return [file for file in files if file.stem in wanted]


def command(options: argparse.Namespace, results: Path, work: Path) -> list[str]:
    """The pytest command."""
    library: Path = options.library.resolve()
    arguments = [
        # Paths first: options of the suite's own are unknown until its conftest.py is read.
        sys.executable, "-m", "pytest", *map(str, modules(library, options.module)),
        "-p", "trainshed.nki.conformance.plugin", "-q",
        "--rootdir", str(library), "-c", str(library / "test" / "pytest.ini"), "-p", "no:cacheprovider",
        "-n", str(options.workers), "--dist", "worksteal", "--test-mode", "simulation", "--platform-target",
        options.platform, "--output-directory", str(work / "cases"), "--force-local-cleanup",
        "-o", f"artifacts_dir={work / 'artifacts'}", "--log-level=ERROR", "--show-capture=no", "--tb=no",
        "--conformance-results", str(results), "--conformance-timeout", str(options.timeout),
    ]  # fmt: skip
    if options.time:
        arguments.append("--conformance-time")
    if not options.all:
        arguments += ["-m", "fast"]
    if options.only_failed or options.resume:
        known = read(results)
        cases = [case for case, item in known.items() if item.outcome == "failed" or options.resume]
        listed = work / "cases.txt"
        listed.write_text("".join(f"{case}\n" for case in cases))
        arguments += ["--conformance-only" if options.only_failed else "--conformance-except", str(listed)]
    return arguments


def follow(process: subprocess.Popen[bytes], results: Path) -> None:
    """A bar that grows with the outcomes of the running suite."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns) as bar:
        task = bar.add_task("collecting", total=None)
        while process.poll() is None:
            time.sleep(1.0)
            outcomes = read(results)
            failed = sum(item.outcome == "failed" for item in outcomes.values())
            bar.update(task, total=total(results), completed=len(outcomes), description=f"{failed} failed")


def facts(library: Path, seconds: float, workers: int) -> dict[str, str]:
    """What the result rests on."""

    def commit(folder: Path) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), "log", "-1", "--format=%h of %cs"], capture_output=True, text=True, check=False
        )  # fmt: skip
        return done.stdout.strip() or "unknown"

    names = ("trainshed", "numpy", "ml_dtypes", "torch", "pytest")
    versions = [f"{name} {metadata.version(name)}" for name in names]
    return {
        "nki-library": commit(library),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "time": f"{seconds / 60:.1f} minutes on {workers} workers",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite and write the page; the status is 0 where every case passed."""
    options = parser().parse_args(arguments)
    name = f"{options.platform}-{'all' if options.all else 'fast'}.jsonl"
    results: Path = (options.results or Path("build", "conformance", name)).resolve()
    work = results.parent
    work.mkdir(parents=True, exist_ok=True)
    try:
        line = command(options, results, work)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if not (options.only_failed or options.resume or options.module):
        results.unlink(missing_ok=True)
    start = time.monotonic()
    with (work / "pytest.log").open("wb") as log:
        process = subprocess.Popen(line, cwd=work, env={**os.environ, **_WORKER}, stdout=log, stderr=log)
        follow(process, results)
    outcomes = read(results)
    if not outcomes:
        print((work / "pytest.log").read_text()[-2000:], file=sys.stderr)
        return 2
    passed, count, percent = share(outcomes.values())
    print(f"{passed} of {count} cases pass ({percent:.2f} %); outcomes in {results}")
    if options.page:
        kind = "all cases" if options.all else "cases marked fast"
        told = facts(options.library, time.monotonic() - start, options.workers)
        selection = f"{kind} that are not on the suite's slow list, platform {options.platform}"
        options.page.write_text(page(outcomes, selection=selection, facts=told))
    return 0 if passed == count else 1


if __name__ == "__main__":
    sys.exit(main())
