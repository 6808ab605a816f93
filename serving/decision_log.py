"""The decision log: append-only files, one a day and worker, always with the whole trace.

A record is on its way to the disk before its answer leaves (`os.write`), so `kill -9` loses none;
`fdatasync` follows in the background within 50 ms, which is what a power cut may cost. What a full disk
takes only a part of is cut off again. A decision's id says where its record lies (day, worker, offset), so
it is found without an index.

Lines are JSON objects of three kinds: a profile that decisions saw (written once while it stays the
same), a decision's record, which names the profile's line, and the same decision in brief. Of an
erased customer they are blanked out in place (`decision_files`), so that every other line stays where
its id says. Files of past days are packed (`packing`).
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from features import profiles
from features.profile_value import Profile
from features.vocabulary import DAY_S
from serving import decision_index, packing
from serving.appending import Torn, append, cut_back, let_go
from serving.door import Door

SYNC_EVERY_S = 0.05
_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
ERASED = b'{"erased":true'
"""How the line of somebody begins who was erased; what comes after it is no content."""
_ID = re.compile(r"(\d{4})(\d\d)(\d\d)-([0-9a-f]{8})-([0-9a-f]{1,12})-[0-9a-f]{8}")


Seen = tuple[str, int, Callable[[], dict[str, Any]]]
"""A profile that a decision saw: customer id, sequence number, what gives its JSON, since mostly it stands there."""


class Slot:
    """The place of the next record: its id is known before the decision is made.

    Within `with` no other record is written by this worker; what is said there goes out at its end, in one write.
    """

    def __init__(self, log: DecisionLog, now: float, profile: Seen | None):
        self._log, self._now, self._profile = log, now, profile
        self._lines: list[bytes] = []
        self._entry = b""
        self.decision_id = ""
        self.profile_at: int | None = None

    def __enter__(self) -> Slot:
        self._log._lock.acquire()
        try:
            day = self._log._open(self._now)
            self._at = self._log._size
            if self._profile is not None:
                customer_id, seq, content = self._profile
                self.profile_at = self._log._profiles.get((customer_id, seq))
                if self.profile_at is None:
                    self.profile_at = self._at
                    self.write({"profile": content(), "customer_id": customer_id, "seq": seq})
            self.decision_id = f"{day}-{self._log._worker}-{self._at:x}-{secrets.token_hex(4)}"
        except BaseException:
            self._log._lock.release()
            raise
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._log._append(b"".join(self._lines), self._entry)
                if self._profile is not None and self.profile_at is not None:
                    self._log._profiles[self._profile[:2]] = self.profile_at
        finally:
            self._log._lock.release()

    def write(self, record: dict[str, Any]) -> None:
        line = orjson.dumps(record, option=_LINE)
        self._lines.append(line)
        self._at += len(line)

    def note(self, customer_id: str, brief: dict[str, Any]) -> None:
        """Write the decision in brief, to be found among the latest of that customer."""
        self._entry = decision_index.entry(customer_id, self._at, self._now)
        self.write({"brief": brief, "customer_id": customer_id})


class DecisionLog:
    """One worker's way to append, and everybody's way to read. Safe to use from several threads."""

    def __init__(self, folder: Path, to_disk: Callable[[int], None] = os.fdatasync):
        self._folder = folder
        self._to_disk = to_disk
        self.door = Door(folder)
        self._worker = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._day, self._began = "", -1
        self._file = self._index = -1
        self._size = self._indexed = 0
        self._profiles: dict[tuple[str, int], int] = {}
        self._dirty = threading.Event()
        self._closed = False
        self._syncer = threading.Thread(target=self._sync, name="decision-log-sync", daemon=True)
        self._syncer.start()

    def slot(self, now: float, profile: Seen | None) -> Slot:
        """The place for a decision at `now` that saw `profile`; taken with `with`."""
        return Slot(self, now, profile)

    def find(self, decision_id: str) -> dict[str, Any] | None:
        """The record of that decision; None if there is none, or was."""
        record = self.line(decision_id)
        return None if record is None or "erased" in record else record

    def line(self, decision_id: str) -> dict[str, Any] | None:
        """What stands where that decision's record was written: it, or that it was erased; None if neither."""
        match = _ID.fullmatch(decision_id)
        if match is None:
            return None
        try:
            line = packing.line_at(self._file_of(match), int(match[5], 16))
            if line.startswith(ERASED):
                return {"decision_id": decision_id, "erased": True} if decision_id.encode() in line[:80] else None
            record = orjson.loads(line)
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        return record if isinstance(record, dict) and record.get("decision_id") == decision_id else None

    def profile_of(self, record: Mapping[str, Any]) -> Profile | None:
        """The profile that the decision of this record saw; None if it saw none, or that cannot be read any more."""
        decided, at = _ID.fullmatch(record["decision_id"]), record["facts"]["profile_at"]
        if decided is None or at is None:
            return None
        try:
            content = orjson.loads(packing.line_at(self._file_of(decided), at))["profile"]
        except (FileNotFoundError, orjson.JSONDecodeError, LookupError):
            return None
        return profiles.from_log(content)

    def _file_of(self, decided: re.Match[str]) -> Path:
        year, month, day, worker, _ = decided.groups()
        return self._folder / f"{year}-{month}-{day}" / f"{worker}.ndjson"

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._file >= 0:
                with suppress(OSError):  # the disk's trouble, of which the next write tells
                    self._to_disk(self._file)
            self._leave()
        self._dirty.set()
        self._syncer.join()
        self.door.close()

    def _open(self, now: float) -> str:
        """Have the files of that day open; the day as an id has it."""
        began = int(now // DAY_S)
        if began == self._began and self._file >= 0 and self._index >= 0:
            return self._day
        self._leave()
        day = datetime.fromtimestamp(now, UTC)
        path = self._folder / day.strftime("%Y-%m-%d") / f"{self._worker}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._index = os.open(decision_index.index_of(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size, self._indexed = os.fstat(self._file).st_size, os.fstat(self._index).st_size
        self._profiles.clear()
        self._day, self._began = day.strftime("%Y%m%d"), began
        return self._day

    def _append(self, lines: bytes, entry: bytes) -> None:
        """Both or neither: what is not written whole leaves no trace, so that the next record is where its id says."""
        try:
            append(self._file, lines, self._size)
            try:
                append(self._index, entry, self._indexed)
            except BaseException:
                cut_back(self._file, self._size)
                raise
        except Torn:
            self._leave()
            self._worker = secrets.token_hex(4)  # to go on in files of another name
            raise
        self._size += len(lines)
        self._indexed += len(entry)
        if not self._dirty.is_set():
            self._dirty.set()

    def _leave(self) -> None:
        """Have no files open: none is closed twice, whatever comes between, as a number may be another's by then."""
        files, self._file, self._index = (self._file, self._index), -1, -1
        let_go(*files)

    def _sync(self) -> None:
        while not self._closed:
            self._dirty.wait()
            self._dirty.clear()
            try:
                with self._lock:
                    file = os.dup(self._file) if self._file >= 0 else -1
                if file >= 0:
                    try:
                        self._to_disk(file)
                    finally:
                        os.close(file)
            except OSError:  # a disk that is full or away, or no descriptor left: tried again until it can be
                self._dirty.set()
            threading.Event().wait(SYNC_EVERY_S)
