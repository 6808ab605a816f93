"""A retailer's own history: Segment messages in a file, one a line as JSON, into the event log.

Lines are streamed, so the file may be of any size. A line that cannot be used is told with its number and
reason, all others are kept. Such a history is known as of when it happened; a message's `timestamp` counts
as it stands, corrected by `sentAt` only where the file says with `receivedAt` when it was received.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from features import database, loose_json
from features.catalog import load_catalog
from features.commerce import TIMES, completed, moment_of
from features.events import check
from features.segment import hasher, parse
from features.sources import SourceProblem, files
from features.sources.bulk import append_history
from features.vocabulary import DAY_S, Event, EventProblem
from features.workspace import Workspace

__all__ = ["figures", "ingest"]

SOURCE = "segment"
AT_ONCE = 2_000
LONGEST_LINE = 1_000_000
LISTED = 1_000
"""So many bad lines are listed one by one; all are counted."""

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class _Rejects:
    """The lines that could not be used."""

    count: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: int, problem: str) -> None:
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append({"line": line, "problem": problem})


def ingest(
    workspace: Workspace,
    path: Path,
    now: float,
    shifted: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Store the messages of the file at `path`; `shifted` moves all times so that the last one is `now`.

    The first file of a workspace decides: later ones are moved like it, for what comes before must stay before.
    """
    hash_pii, catalog = hasher(workspace.secret()), load_catalog(workspace)
    rejects = _Rejects()

    def records(step: str, rejects: _Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, message in _messages(path, rejects, lambda done, of: progress(step, done, of)):
            try:
                received_at = message.get("receivedAt")
                known = None if received_at is None else moment_of(received_at, "receivedAt")
                yield number, parse(message, known, None, hash_pii)
            except EventProblem as problem:
                rejects.add(number, str(problem))

    before = files.remembered(workspace, SOURCE)
    shift_s = 0.0 if before is None else before.shift_s
    if shifted and before is None:
        times = (record["occurred_at"] for _, record in records(f"looking for the end of {path.name}", _Rejects()))
        shift_s = now - max((at for at in times if at <= now), default=now)

    def events() -> Iterator[Event]:
        kept = before is not None
        for number, record in records(f"reading {path.name}", rejects):
            try:
                event = check(_later(record, shift_s), now)
                body = completed(event.name, dict(event.body), catalog)
                if not kept:  # before the first event is stored, and only where one is
                    files.remember(workspace, files.after(None, SOURCE, shift_s, {}))
                    kept = True
                yield replace(event, body=body, known_at=event.occurred_at)
            except EventProblem as problem:
                rejects.add(number, str(problem))

    counts = append_history(database.connect(workspace), events(), at_once=AT_ONCE)
    return {
        "source": SOURCE,
        "stored": counts.stored,
        "duplicates": counts.duplicates,
        "rejected": rejects.count,
        "rejected_lines": rejects.listed,
        "shift_s": shift_s,
        "shift_kept": before is not None,
    }


def _later(record: dict[str, Any], shift_s: float) -> dict[str, Any]:
    """The record with all its times `shift_s` later: when it happened, and those that its properties say."""
    if not shift_s:
        return record
    body = dict(record["body"])
    for key in TIMES.get(record["name"], ()):
        with suppress(EventProblem, OverflowError, ValueError):  # what is no time is refused as it came
            moment = datetime.fromtimestamp(moment_of(body.get(key), key) + shift_s, UTC)
            body[key] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**record, "occurred_at": record["occurred_at"] + shift_s, "body": body}


def figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary of `ingest` for a reader."""
    rows = [(name, f"{summary[name]:,}") for name in ("stored", "duplicates", "rejected")]
    shifted = "times shifted as the first time" if summary["shift_kept"] else "times shifted"
    return rows + ([(shifted, f"{summary['shift_s'] / DAY_S:,.1f} days")] if summary["shift_s"] else [])


def _messages(
    path: Path, rejects: _Rejects, advance: Callable[[int, int], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every line that is a JSON object, with its number."""
    size = path.stat().st_size if path.is_file() else 0
    with _opened(path) as (raw, stream):
        number = 0
        try:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    while line and not line.endswith(b"\n"):
                        line = stream.readline(LONGEST_LINE)
                    rejects.add(number, f"has more than {LONGEST_LINE:,} bytes; expected one message a line")
                elif text := line.strip(b"\xef\xbb\xbf \t\r\n"):
                    message = _object(text, number, rejects)
                    if message is not None:
                        yield number, message
                if number % AT_ONCE == 0:
                    advance(min(raw.tell(), size), size)
        except (EOFError, OSError, zlib.error) as problem:
            rejects.add(number + 1, f"cannot be unpacked ({problem}); what came before it is kept")
        advance(size, size)


def _object(text: bytes, number: int, rejects: _Rejects) -> dict[str, Any] | None:
    try:
        message = loose_json.loads(text)
    except loose_json.JSONError as problem:
        rejects.add(number, f"is no JSON: {problem.msg} at character {problem.pos + 1}")
        return None
    if not isinstance(message, dict):
        rejects.add(number, f"is `{text[:40].decode(errors='replace')}`; expected an object")
        return None
    return message


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The file as it lies there, and as it reads: unpacked where it is gzip, whatever its name."""
    try:
        raw = path.open("rb")
    except OSError as problem:
        reason = (problem.strerror or "?").lower()
        raise SourceProblem(f"`{path}` cannot be read: {reason}; expected a file of Segment messages") from None
    with raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        yield raw, (gzip.GzipFile(fileobj=raw) if packed else raw)  # type: ignore[misc]
