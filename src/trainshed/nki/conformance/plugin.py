"""The pytest plugin under which AWS's kernel library's suite runs: ``-p trainshed.nki.conformance.plugin``.

The library is neither installed nor changed: its source folder goes on the path, and what its suite imports and
nobody publishes is supplied. With ``--conformance-results FILE`` every case's outcome is appended to a file, one
JSON object a line, as soon as it is known.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
import threading
import time
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from trainshed.nki.conformance import suite
from trainshed.nki.conformance.standins import install
from trainshed.nki.conformance.timed import Times, timed

install()
# The suite was written for NKI 0.3, and its references quantise as that release did.
os.environ.setdefault("TRAINSHED_QUANTIZE_RULE", "0.4")
# One of the suite's modules skips what is too big for its machine, by the bytes of its inputs; beside them there are
# references in float32, results, and another worker's.
_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
os.environ.setdefault("TEST_ATTN_BLK_TKG_MAX_MEMORY_GB", f"{_MEMORY / 2**30 / 10:.2f}")


#: The times of a case's launches, and the seconds of processor time that it took.
_TIMES = pytest.StashKey[Times]()
_PROCESSOR = pytest.StashKey[float]()


class CaseTimeoutError(Exception):
    """A case took longer than it may."""


def _add_to_path(root: Path) -> None:
    """The library's own folders, before Python's ``test`` package."""
    for folder in (root, root / "src"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ours beside the suite's."""
    group = parser.getgroup("conformance")
    group.addoption("--conformance-results", default=None, help="append each case's outcome to this file")
    group.addoption("--conformance-only", default=None, help="run only the cases listed in this file")
    group.addoption("--conformance-except", default=None, help="run all but the cases listed in this file")
    group.addoption(
        "--conformance-timeout", type=float, default=0.0, help="seconds of processor time a case may take; 0: no limit"
    )
    group.addoption("--conformance-time", action="store_true", help="find the time of every launch of a case, too")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Make the library importable before its ``conftest.py`` is read."""
    root = early_config.rootpath
    _add_to_path(root.parent if root.name == "test" else root)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With ``-m fast``, generate no combinations for tests that are not: they take a minute and are dropped."""
    definition = metafunc.definition
    if metafunc.config.option.markexpr.split(" and ")[0] == "fast" and definition.get_closest_marker("fast") is None:
        definition.own_markers[:] = [mark for mark in definition.own_markers if mark.name != "coverage_parametrize"]


def pytest_sessionstart(session: pytest.Session) -> None:
    """The suite asks in every mode what was compiled; in simulation nothing was."""
    import_module("test.utils.test_orchestrator").Orchestrator._compiled_kernel = None
    suite.install()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the cases asked for, modules mixed: workers end together, and a run that stops early is a fair sample."""
    items.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
    for option, listed_stay in (("--conformance-only", True), ("--conformance-except", False)):
        path = config.getoption(option)
        if path:
            listed = set(Path(path).read_text().splitlines())
            dropped = [item for item in items if (item.nodeid in listed) is not listed_stay]
            items[:] = [item for item in items if (item.nodeid in listed) is listed_stay]
            config.hook.pytest_deselected(items=dropped)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a case within its time, and find the time of its launches where asked."""
    start = time.process_time()
    try:
        with _limit(item.config.getoption("--conformance-timeout")):
            if not item.config.getoption("--conformance-time"):
                return (yield)
            with timed() as times:
                item.stash[_TIMES] = times
                return (yield)
    finally:
        item.stash[_PROCESSOR] = time.process_time() - start


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Stop a case, and the cores it runs, when its processor time is over (0: never): others' load does not count."""
    if not seconds:
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        error = type(
            "CaseTimeoutError",
            (CaseTimeoutError,),
            {"__str__": lambda _: f"takes longer than {seconds:g} s of processor time"},
        )
        cores = [thread for thread in threading.enumerate() if thread.name.startswith("neuroncore-")]
        for thread in cores:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(CaseTimeoutError)
            )
        if not cores:
            raise error()

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """Keep the first cause of a failure, not the suite's wrapping of it, and the time of what was launched."""
    report = yield
    if call.when == "call" and _TIMES in item.stash:
        report.conformance_time = item.stash[_TIMES].to_json()
    if call.when == "call":
        took = item.stash.get(_PROCESSOR, None)
        report.conformance_processor = None if took is None else round(took, 3)
    if call.excinfo is not None and not report.skipped:
        report.conformance_cause = cause(call.excinfo.value)
    return report


def cause(error: BaseException) -> str:
    """The innermost error of a chain as ``Type: sentence``."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return f"{type(error).__name__}: {re.sub(r' +', ' ', str(error)).strip()[:600]}"


class _Recorder:
    """Writes outcomes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = {}
        self._total = 0

    def _announce(self, count: int) -> None:
        if count != self._total:
            self._total = count
            self._append({"total": count})

    def _append(self, row: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """How many cases there are, without workers."""
        if session.items:
            self._announce(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """How many cases there are, as the workers found."""
        self._announce(len(ids))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The outcome of a case, once its call has ended or its setup has failed."""
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        why = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        self._append({
            "case": report.nodeid, "outcome": outcome, "seconds": round(self._seconds.pop(report.nodeid), 3),
            "processor_s": getattr(report, "conformance_processor", None),
            "cause": getattr(report, "conformance_cause", why), **getattr(report, "conformance_time", {}),
        })  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Record on the controlling process only."""
    path = config.getoption("--conformance-results")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(Path(path)), "conformance-recorder")
