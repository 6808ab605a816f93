"""Moving SQLite's write-ahead logs into their databases beside whoever writes: it waits for the disk.

SQLite does so by itself at every thousandth page, within the commit that wrote it: ten milliseconds and more in which
an event loop answers nobody. Connections that write at once (`driver.hurry`) leave it to a thread of this room.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading

EVERY = 100
"""So many commits at once to a checkpoint: about as many pages as SQLite takes for one."""
LONGEST = 4_000
"""Pages of a log. It starts anew only where all of it is moved, for which nobody may write for a moment."""
LONGEST_TURN_MS = 50
"""So long readers from before are waited for then."""


class Checkpoints:
    """Those of one file, by one thread of this process at a time."""

    def __init__(self, connection: sqlite3.Connection):
        """Of the file that is open there."""
        _, _, self._file = connection.execute("PRAGMA database_list").fetchone()
        self._commits = 0
        self._at_work = threading.Lock()
        self._thread: threading.Thread | None = None

    def committed(self) -> None:
        """One more commit at once; never waits."""
        self._commits += 1
        if self._commits >= EVERY and self._at_work.acquire(blocking=False):
            self._commits = 0
            self._thread = threading.Thread(target=self._move, name="checkpoint")
            self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _move(self) -> None:
        try:
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(self._file)) as connection:
                connection.execute(f"PRAGMA busy_timeout={LONGEST_TURN_MS}")
                _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # takes nobody's turn
                if pages > LONGEST:  # what was written meanwhile keeps the log growing: move that, too
                    connection.execute("PRAGMA wal_checkpoint(RESTART)")
        finally:
            self._at_work.release()
