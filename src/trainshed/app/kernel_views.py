"""What --trace, --plot and --explorer make of a kernel's run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed.core import Result, UserError
from trainshed.report.explorer import check_explorer, write_explorer
from trainshed.report.kernel import kernel_grids
from trainshed.report.kernel_page import write_page
from trainshed.report.kernel_trace import write_trace
from trainshed.report.whole import check_path


@dataclass(frozen=True, kw_only=True)
class Views:
    """Files to write of one run; all need its time."""

    trace: Path | None = None
    plot: Path | None = None
    explorer: Path | None = None

    def check(self, *, time: bool) -> None:
        """Before the run: there is time, and each path can be written."""
        asked = {"--trace": self.trace, "--plot": self.plot, "--explorer": self.explorer}
        for option, path in asked.items():
            if path is not None and not time:
                raise UserError("nothing to show", where=option, value="--no-time", expected="a run with --time")
        if self.trace is not None:
            check_path(self.trace, "--trace", ".pftrace")
        if self.plot is not None:
            check_path(self.plot, "--plot", ".html")
        if self.explorer is not None:
            check_explorer(self.explorer)

    def write(self, result: Result) -> None:
        """Write what was asked for, each file or directory whole or not at all."""
        run: Any = result.details["simulated"]
        name = str(result.inputs["kernel"])
        if self.trace is not None:
            write_trace(self.trace, run.columns, run.clocks)
        if self.plot is not None:
            figures: Any = result.result
            write_page(self.plot, name, figures, kernel_grids(result), run.columns, run.clocks)
        if self.explorer is not None:
            write_explorer(self.explorer, run.launch, run.clocks, kernel=name)
