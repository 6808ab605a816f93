"""A customer's lines in the files of the decision log: found, and blanked out.

The files are searched as bytes, which needs no index and misses nothing: every line, of a profile or of a
decision, says `"customer_id":"…"`. Writing and reading single records is the business of `decision_log`.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from serving import decision_index, packing
from serving.decision_log import ERASED

Sizes = Mapping[Path, int]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of one file, without its end. A crash may have cut it short."""

    path: Path
    at: int
    text: bytes


def sizes(folder: Path) -> dict[Path, int]:
    """Every plain file of the log and how long it is now: up to there one may look and change while others append."""
    return {path: path.stat().st_size for path in sorted(folder.glob("*/*.ndjson"))}


def contents(folder: Path, customer_ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """The customer's lines in the order of the files: decisions as logged, and the profiles that they saw."""
    about = _about(customer_ids)
    for path in packing.files(folder):
        with suppress(FileNotFoundError):  # past retention meanwhile
            for _, line in packing.lines(path):
                if line.endswith(b"\n") and about.search(line):
                    yield orjson.loads(line)


def unpacked(folder: Path, customer_ids: Collection[str]) -> dict[Path, int]:
    """Make the packed files plain that hold lines of the customer; them, with how long they are now."""
    return {path: path.stat().st_size for path in packing.unpack_where(folder, _about(customer_ids).search)}


def blank(until: Sizes, customer_ids: Collection[str]) -> tuple[int, int]:
    """Overwrite the customer's lines in the files, each with one as long that says no more than its decision's id.

    `until` are the sizes while no record was being written. How many decisions and profiles that were. What a
    killed call left half overwritten is completed.
    """
    counts = [0, 0]
    by_file: dict[Path, list[tuple[int, bytes]]] = {}
    for line in _found(until, _about(customer_ids)):
        decision_id = re.match(rb'\{"decision_id":("[^"]*")', line.text)
        told = b',"decision_id":' + decision_id[1] if decision_id else b""
        by_file.setdefault(line.path, []).append((line.at, (ERASED + told + b"}").ljust(len(line.text))))
        if not line.text.startswith(b'{"brief"'):
            counts[decision_id is None] += 1
    for line in _half_blank(until):
        by_file.setdefault(line.path, []).append((line.at, line.text))
    for path, lines in by_file.items():
        file = os.open(path, os.O_WRONLY)
        try:
            for at, text in lines:
                written = 0
                while written < len(text):
                    written += os.pwrite(file, text[written:], at + written)
            os.fdatasync(file)
        finally:
            os.close(file)
        decision_index.forget(path, [at for at, _ in lines])
    return counts[0], counts[1]


def _about(customer_ids: Collection[str]) -> re.Pattern[bytes]:
    """What stands in every line that is about one of the customers, and in no other."""
    told = b"|".join(re.escape(orjson.dumps(each)) for each in sorted(customer_ids))
    return re.compile(rb'"customer_id":(?:' + told + rb")[,}]")


def _half_blank(until: Sizes) -> Iterator[Line]:
    """Blank lines with something left behind the first brace, as they should be."""
    for line in _found(until, re.compile(rb"^" + re.escape(ERASED) + rb"[^}\n]*\} *[^ \n]", re.MULTILINE)):
        yield Line(line.path, line.at, line.text[: line.text.index(b"}") + 1].ljust(len(line.text)))


def _found(until: Sizes, pattern: re.Pattern[bytes]) -> Iterator[Line]:
    """Every line with a hit; those that a crash cut short, too."""
    for path, size in until.items():
        if not size or not path.exists():  # packed meanwhile: `unpacked` found it, or it holds nobody who is meant
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            hit = pattern.search(content)
            while hit is not None:
                start, end = content.rfind(b"\n", 0, hit.start()) + 1, content.find(b"\n", hit.start())
                end = size if end < 0 else end
                yield Line(path, start, content[start:end])
                hit = pattern.search(content, end)
