"""What was measured, and on what: one line above the tables."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from features.workspace import PROJECT


def machine() -> str:
    """The processor, how many of it, Python, the commit, and how busy the machine was when it began."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {_commit()}, load {load}"


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
