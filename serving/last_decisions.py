"""Which decision a customer was last shown in each channel, whichever worker of this machine answered.

Each worker appends a short line an answer to a file of its own, and before it decides reads what the others have
appended: some microseconds, no waiting for another process, no database. The file of a worker that is gone is read
once. It is soft: what is lost with it is that an answer goes on with another one. Customers are named by a hash under
the workspace's key, and files are dropped when they are full or a day old; what was shown stands in the decision log
alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from serving.appending import Torn, append, let_go
from serving.facts import later

FULL_BYTES = 8 * 2**20
BEGIN_BYTES = 4 * 2**20
"""How much of each file a starting worker reads, from its end: some tens of thousands of answers."""
AT_ONCE = 2**16
OLD_S = 86_400.0
TICK_NS = 20_000_000
"""Changes of a folder that lie closer may bear the same time."""
DRAFT = "."
"""How the name of a file begins until its writer holds it."""


class Last(NamedTuple):
    """A decision that showed something. `since` is when its offers were first decided, in whatever channel."""

    decision_id: str
    channel: str
    at: float
    since: float


class LastDecisions:
    """One worker's view of the last decisions of all. Safe to use from several threads."""

    def __init__(self, folder: Path, key: bytes):
        self._folder, self._key = folder, key
        self._lock = threading.Lock()
        self._name = secrets.token_hex(4)
        self._number = 0
        self._file, self._size = -1, 0
        self._listed = 0
        self._others: dict[str, tuple[int, int]] = {}
        self._over: set[str] = set()
        self._recent: dict[str, dict[str, Last]] = {}
        self._older: dict[str, dict[str, Last]] = {}
        self._turned = 0.0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def close(self) -> None:
        with self._lock:
            for file in (self._file, *(file for file, _ in self._others.values())):
                if file >= 0:
                    os.close(file)
            self._file, self._others = -1, {}

    def note(self, customer_id: str, last: Last) -> None:
        """This is what the customer was shown last in its channel; any worker knows it from now on."""
        name = _hashed(customer_id, self._key)
        line = f"{name} {last.decision_id} {last.channel} {last.at!r} {last.since!r}\n".encode()
        with self._lock:
            self._put(name, last)
            if self._file < 0 or self._size > FULL_BYTES:
                self._next_file()
            try:
                append(self._file, line, self._size)
            except Torn:
                self._leave()
                raise
            self._size += len(line)

    def joined(self, former: str, customer_id: str) -> None:
        """What an id was shown before we knew whose it is, its customer was shown."""
        if former == customer_id:
            return
        name = _hashed(former, self._key)
        with self._lock:
            self._read()
            shown = self._known(name)
        for last in shown:
            self.note(customer_id, last)

    def elsewhere(self, customer_id: str, channel: str, now: float, within_s: float) -> Last | None:
        """The last decision in another channel whose offers are not older than that; None if there is none."""
        name = _hashed(customer_id, self._key)
        with self._lock:
            self._read()
            self._turn(now, within_s)
            known = self._known(name)
        found = [each for each in known or () if each.channel != channel and now < later(each.since, within_s)]
        return max(found, key=lambda each: (each.at, each.decision_id), default=None)

    def _known(self, name: str) -> Collection[Last]:
        older, recent = self._older.get(name), self._recent.get(name)
        return {**older, **recent}.values() if older and recent else list((older or recent or {}).values())

    def _put(self, name: str, last: Last) -> None:
        mine = self._recent.setdefault(name, {})
        if last.channel not in mine or mine[last.channel].at <= last.at:
            mine[last.channel] = last

    def _turn(self, now: float, within_s: float) -> None:
        """Forget what is too old to matter: what was noted more than a window ago is dropped at the next turn.

        After a long silence what is young stays: another worker, or we ourselves when told what to go on with, may
        have noted it just now.
        """
        if now - self._turned >= within_s:
            self._older, begin = self._recent, now - within_s
            if now - self._turned >= 2 * within_s:
                self._older = {
                    name: mine for name, mine in self._recent.items() if any(each.at > begin for each in mine.values())
                }
            self._recent, self._turned = {}, now

    # -------------------------------------------------------------------------------------------- files

    def _next_file(self) -> None:
        """Begin a file of our own; the one before stays to be read, the one before that goes, and what is old."""
        self._leave()
        with suppress(FileNotFoundError):
            (self._folder / f"{self._name}-{self._number - 1}").unlink()
        self._number += 1
        path = self._folder / f"{self._name}-{self._number}"
        draft = path.with_name(DRAFT + path.name)
        self._file, self._size = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 0
        fcntl.flock(self._file, fcntl.LOCK_EX)  # as long as we write to it, or live
        draft.rename(path)
        written = path.stat().st_mtime
        for other in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if written - other.stat().st_mtime > OLD_S:
                    other.unlink()

    def _leave(self) -> None:
        """Have no file of our own open: a new one is begun before anything is written."""
        file, self._file = self._file, -1
        let_go(file)

    def _read(self) -> None:
        """Take in what the other workers have appended."""
        changed = self._folder.stat().st_mtime_ns
        if changed != self._listed:
            self._listed = changed if time.time_ns() - changed > TICK_NS else 0
            self._list()
        for name, (file, position) in self._others.items():
            data = os.pread(file, AT_ONCE, position)
            if data:
                self._others[name] = file, self._read_on(file, position, data)

    def _read_on(self, file: int, position: int, data: bytes) -> int:
        """Take in `data`, read at that position, and what comes after it; where to read on."""
        while data:
            whole = data.rfind(b"\n") + 1
            self._take_in(data[:whole])
            position += whole
            data = os.pread(file, AT_ONCE, position) if whole else b""
        return position

    def _list(self) -> None:
        there = {path.name for path in self._folder.iterdir() if not path.name.startswith((self._name, DRAFT))}
        self._over &= there
        for name in self._others.keys() - there:
            os.close(self._others.pop(name)[0])
        for name in sorted(there - self._others.keys() - self._over):
            with suppress(FileNotFoundError):
                file = os.open(self._folder / name, os.O_RDONLY)
                self._others[name] = file, self._beginning(file)
        for name, (file, position) in list(self._others.items()):
            if _is_left(file):  # to be read a last time, and then never again
                self._read_on(file, position, os.pread(file, AT_ONCE, position))
                os.close(file)
                del self._others[name]
                self._over.add(name)

    def _beginning(self, file: int) -> int:
        """Where to begin to read a file: at a line's beginning, not too far from its end."""
        position = os.fstat(file).st_size - BEGIN_BYTES
        return 0 if position <= 0 else position + os.pread(file, 1024, position).find(b"\n") + 1

    def _take_in(self, lines: bytes) -> None:
        for line in lines.decode().splitlines():
            name, *noted = line.split() or [""]
            if len(noted) == 4:  # else it was blanked out
                decision_id, channel, at, since = noted
                self._put(name, Last(decision_id, channel, float(at), float(since)))


def forget(folder: Path, key: bytes, customer_ids: Collection[str]) -> int:
    """Blank out the lines of an erased customer in all workers' files; how many. In the memory of workers the hash
    stays for a while, with the id of a decision that is erased and so is not gone on with."""
    told = b"|".join(_hashed(each, key).encode() for each in sorted(customer_ids))
    names = re.compile(b"^(?:" + told + rb") [^\n]*", re.MULTILINE)
    count = 0
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        with suppress(FileNotFoundError), path.open("r+b") as file:
            for hit in list(names.finditer(file.read())):
                os.pwrite(file.fileno(), b" " * len(hit[0]), hit.start())
                count += 1
            os.fdatasync(file.fileno())
    return count


def _is_left(file: int) -> bool:
    """Whether nobody writes to that file any more."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _hashed(customer_id: str, key: bytes) -> str:
    return hashlib.blake2b(customer_id.encode(), key=key[:64], digest_size=16).hexdigest()
