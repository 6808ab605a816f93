"""What was measured, and on what: one line above the tables; and how much the machine's other work disturbs."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from features.workspace import PROJECT


def machine() -> str:
    """The processor, how many of it, Python, the commit, and how busy the machine was when it began."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    on = f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {_commit()}, load {load}"
    return f"{on}\n{noise()}"


def noise(spins: int = 40) -> str:
    """How the same loop, which waits for nothing, takes longer and longer than at its best."""
    times = sorted(_spin() for _ in range(spins))
    best, middle, slowest = times[0], times[len(times) // 2], times[int(0.95 * len(times))]
    return (
        f"noise: a loop of {best * 1e3:.0f} ms at its best takes {middle / best:.2f}× in the middle, "
        f"{slowest / best:.2f}× one time in twenty"
    )


def _spin() -> float:
    began, count = time.perf_counter(), 0
    while count < 200_000:
        count += 1
    return time.perf_counter() - began


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return f"commit {said}"
