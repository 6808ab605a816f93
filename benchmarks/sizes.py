"""One job at several sizes, each run in a process of its own: seconds, processor seconds, and the most memory it took.

A subject has `JOBS`: by name, what to do in a workspace at a size. A job gets ready and gives back the work, which is
what is timed; it says how many rows it did. `python -m benchmarks.sizes MODULE JOB SIZE` is such a process.
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.servers import environment_of
from features.workspace import PROJECT, Workspace, open_workspace

Work = Callable[[], int]
Job = Callable[[Workspace, int], Work]
Found = Mapping[str, Sequence["Run"]]
"""By what was compared, a run per size, from small to large."""


@dataclass(frozen=True, slots=True)
class Run:
    rows: int
    seconds: float
    cpu: float
    peak_mb: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def run(workspace: Workspace, module: str, job: str, size: int) -> Run:
    """One run of that job in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sizes", module, job, str(size)]
    done = subprocess.run(command, cwd=PROJECT, env=environment_of(workspace), stdout=subprocess.PIPE, check=True)
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def work(made: Work) -> Run:
    """What that work takes, here and now."""
    began, cpu = time.perf_counter(), time.process_time()
    rows = made()
    return Run(rows, time.perf_counter() - began, time.process_time() - cpu, peak_mb())


def in_turns(compared: Mapping[str, Callable[[int], Run]], sizes: Iterable[int], rounds: int) -> Found:
    """Every one at every size, in rounds; of the rounds the run with the middle time. One that gives up at a size
    (returns no rows) is left out from there on."""
    found: dict[str, list[Run]] = {name: [] for name in compared}
    for place, size in enumerate(sizes):
        runs: dict[str, list[Run]] = {name: [] for name in compared if len(found[name]) == place}
        for _ in range(rounds):
            for name in runs:
                runs[name].append(compared[name](size))
        for name, each in runs.items():
            middle = statistics.median_low(run.seconds for run in each)
            chosen = next(run for run in each if run.seconds == middle)
            if chosen.rows:
                found[name].append(chosen)
    return found


NOT_RUN = Run(0, 0.0, 0.0, 0.0)
"""Of what would take too long or too much at a size."""


def exponent(runs: Sequence[Run], of: Callable[[Run], float] = lambda run: run.cpu) -> float:
    """How a figure, processor time, grows with the rows: 1 in proportion, 0 not at all. NaN of fewer than two."""
    if len(runs) < 2:
        return float("nan")
    return float(np.polyfit(np.log([run.rows for run in runs]), np.log([of(run) for run in runs]), 1)[0])


def peak_mb() -> float:
    """The most memory that this process has had in use. From /proc: `ru_maxrss` begins with the parent's."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def table(title: str, rows: str, found: Found, against: str) -> Table:
    """Rows a second and memory at each size, beside `against` by the clock and by the processor, and how they grow."""
    table = Table(title=title)
    headings = (rows, f"{rows} a second", "seconds", f"× {against}", "CPU s", "×", "peak MB", "CPU grows", "MB grows")
    for heading in ("way", *headings):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, runs in found.items():
        for place, each in enumerate(runs):
            other = found[against][place] if place < len(found[against]) else None
            times = f"{each.seconds / other.seconds * other.rows / each.rows:.2f}" if other else "–"
            worked = f"{each.cpu / other.cpu * other.rows / each.rows:.2f}" if other else "–"
            cells = (f"{each.rows:,}", f"{each.rate:,.0f}", f"{each.seconds:.2f}", times, f"{each.cpu:.2f}", worked)
            last = place == len(runs) - 1 and len(runs) > 1
            grown = (f"n^{exponent(runs, of):.2f}" for of in (lambda run: run.cpu, lambda run: run.peak_mb))
            table.add_row("" if place else name, *cells, f"{each.peak_mb:,.0f}", *(grown if last else ("", "")))
        table.add_section()
    return table


if __name__ == "__main__":
    jobs: Mapping[str, Job] = importlib.import_module(sys.argv[1]).JOBS
    print(json.dumps(asdict(work(jobs[sys.argv[2]](open_workspace(), int(sys.argv[3]))))))
