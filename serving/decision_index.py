"""Whose decision lies where: a small file beside each file of the decision log, so that a customer's latest are found.

An entry is a hash of the customer's id, the place of the decision in brief, and the moment. It is written after the
record and before the answer; a decision that nobody was answered may lack one. Previews have none. What the lines say,
and what else must be erased, is the business of `brief`, `decision_log` and `decision_files`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from serving import packing

ENTRY = np.dtype([("whose", "<u8"), ("at", "<u8"), ("now", "<f8")])
_ENTRY = Struct("<QQd")
DAYS = 30
"""How many days of the log are looked through at most, the latest first."""


def index_of(log: Path) -> Path:
    """The index beside a file of the log."""
    return log.with_suffix(".index")


def entry(customer_id: str, at: int, now: float) -> bytes:
    """The bytes to append for a decision about that customer whose brief begins at `at`."""
    return _ENTRY.pack(whose(customer_id), at, now)


def whose(customer_id: str) -> int:
    return int.from_bytes(blake2b(customer_id.encode(), digest_size=8).digest(), "little")


def latest(folder: Path, customer_ids: Collection[str], most: int) -> Iterator[dict[str, Any]]:
    """The customers' latest decisions in brief, at most so many, the latest first; erased ones are not there."""
    hashes = np.array([whose(each) for each in customer_ids], "<u8")
    days = sorted((path for path in folder.glob("????-??-??") if path.is_dir()), reverse=True)
    for day in days[:DAYS]:
        found = [
            (float(one["now"]), int(one["at"]), path)
            for path in day.glob("*.index")
            for one in _mine(path, hashes)[-most:]
        ]
        for _, at, path in sorted(found, reverse=True, key=lambda each: each[:2]):
            line = _line(path.with_suffix(".ndjson"), at)
            if "brief" in line and line.get("customer_id") in customer_ids:
                yield line["brief"]
                most -= 1
                if not most:
                    return


def _mine(path: Path, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    content = path.read_bytes()
    entries: npt.NDArray[Any] = np.frombuffer(content, ENTRY, len(content) // ENTRY.itemsize)
    mine: npt.NDArray[np.bool_] = (entries["whose"][:, None] == hashes).any(axis=1)
    return entries[mine]


def _line(log: Path, at: int) -> dict[str, Any]:
    try:
        content = orjson.loads(packing.line_at(log, at))
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def forget(log: Path, places: Collection[int]) -> None:
    """Blank the entries that lead to those places of the log."""
    path = index_of(log)
    if not path.exists():
        return
    entries = np.fromfile(path, ENTRY, path.stat().st_size // ENTRY.itemsize)
    file = os.open(path, os.O_WRONLY)
    try:
        for number in np.flatnonzero(np.isin(entries["at"], np.array(sorted(places), "<u8"))):
            os.pwrite(file, bytes(ENTRY.itemsize), int(number) * ENTRY.itemsize)
        os.fdatasync(file)
    finally:
        os.close(file)
