"""`python -m benchmarks [--quick] [SUBJECT …]`: every subject's table. Needs `make demo` before.

Nothing is changed in the workspace: the service decides over a copy of it. What is compared takes turns, so that the
machine's other work is on all sides; where there are rounds, figures are their medians, and noise is their spread.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from benchmarks import (
    audience,
    build,
    datasets,
    decisions,
    ingestion,
    instructions,
    replay,
    start,
    story,
    trace,
    training,
    verdicts,
)
from benchmarks.machine import machine
from benchmarks.verdicts import Verdict
from features.workspace import Workspace, open_workspace

Subject = Callable[[Workspace, Console, bool], Sequence[Verdict] | None]
SUBJECTS: Mapping[str, Subject] = {
    "decisions": decisions.main,
    "instructions": instructions.main,
    "trace": trace.main,
    "story": story.main,
    "ingestion": ingestion.main,
    "start": start.main,
    "datasets": datasets.main,
    "replay": replay.main,
    "audience": audience.main,
    "build": build.main,
    "training": training.main,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; all without")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes, of `/decide` 20 candidates")
    arguments = parser.parse_args()
    unknown = [each for each in arguments.subjects if each not in SUBJECTS]
    if unknown:
        parser.error(f"unknown subject `{unknown[0]}`; expected some of {', '.join(SUBJECTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server ends with us
    workspace = open_workspace()
    if not (workspace.home / "online.db").exists():
        print("benchmarks: the workspace has no profiles; run `make demo` first", file=sys.stderr)
        return 2
    console = Console(width=130)
    console.print(machine(), highlight=False)
    began = time.monotonic()
    found: list[Verdict] = []
    for name in arguments.subjects or SUBJECTS:
        found += SUBJECTS[name](workspace, console, arguments.quick) or ()
    if found:
        console.print(verdicts.table(found))
    console.print(f"took {time.monotonic() - began:.0f} s", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
