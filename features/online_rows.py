"""Feast's SQLite online rows of several views at once: read in one statement, written in one transaction.

A tenth and a fifth of what Feast's own ways there cost, view by view. The tables, their names and columns and the
coding of keys and values are Feast's, given by `store`. One statement sees one state of the file, so rows of several
views belong together. Other stores are read and written by Feast.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from features.checkpoints import Checkpoints
from features.database import BUSY_MS
from features.driver import NotAtOnce, busy_is_not_at_once, hurry

_WRITE = (
    'INSERT INTO "{}" (entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES (?, ?, ?, ?, ?, NULL)'
    " ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, value_text = excluded.value_text,"
    " event_ts = excluded.event_ts, created_ts = NULL"
)

_NUMBER = (
    "UPDATE \"{0}\" SET value = ?, value_text = ?, event_ts = ? WHERE entity_key = ?4 AND feature_name = 'items_seq'"
    " AND EXISTS (SELECT 1 FROM \"{0}\" WHERE entity_key = ?4 AND feature_name = 'items')"
)


def tune(connections: Iterable[sqlite3.Connection]) -> None:
    """Readers beside a writer in other processes, and a commit without waiting for the disk.

    What a crash could lose is brought level from our own database at the next start.
    """
    for connection in connections:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_MS}", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")


class SqliteWriter:
    """Whose turn it is to write, and over which connection: the one that waits, or one beside it for what is written
    at once."""

    def __init__(self, connection: sqlite3.Connection, turn: threading.Lock):
        _, _, file = connection.execute("PRAGMA database_list").fetchone()
        self._patient, self._turn = connection, turn
        self._hasty = sqlite3.connect(file, check_same_thread=False)
        tune([self._hasty])
        hurry(self._hasty)
        self._checkpoints = Checkpoints(self._hasty)

    @contextmanager
    def turn(self, at_once: bool) -> Iterator[sqlite3.Connection]:
        """`at_once`: raises NotAtOnce where anybody else writes."""
        if not at_once:
            with self._turn:
                yield self._patient
            return
        if not self._turn.acquire(blocking=False):
            raise NotAtOnce
        try:
            with busy_is_not_at_once():
                yield self._hasty
            self._checkpoints.committed()
        finally:
            self._turn.release()

    def close(self) -> None:
        self._checkpoints.close()
        self._hasty.close()


def write(
    connection: sqlite3.Connection,
    tables: Mapping[str, str],
    rows: Iterable[tuple[bytes, Mapping[str, Mapping[str, Any]], datetime]],
) -> None:
    """Put `(key, {view: {feature: value}}, moment)`s into their tables, all or none, laid out as Feast does it."""
    with connection:
        for key, views, moment in rows:
            at = moment.replace(tzinfo=None)
            for view, features in views.items():
                values = [(key, name, each.SerializeToString(), _text(each), at) for name, each in features.items()]
                connection.executemany(_WRITE.format(tables[view]), values)


def write_state(
    connection: sqlite3.Connection, tables: Sequence[str], key: bytes, state: Any, count: Any, moment: datetime
) -> bool:
    """Put a state and its number online where the entries that are there stay, under the same number; False, and
    nothing is written, where there are none. `tables` are those of profile and last_seen."""
    profile, last_seen = tables
    at, number, text = moment.replace(tzinfo=None), count.SerializeToString(), _text(count)
    with connection:
        if not connection.execute(_NUMBER.format(last_seen), (number, text, at, key)).rowcount:
            return False
        values = [(key, "state", state.SerializeToString(), None, at), (key, "seq", number, text, at)]
        connection.executemany(_WRITE.format(profile), values)
    return True


def _text(value: Any) -> str | None:
    """What Feast writes beside a value that is no bytes: the value as text."""
    kind = value.WhichOneof("val")
    return None if kind in (None, "bytes_val") else str(getattr(value, kind))


def delete(connection: sqlite3.Connection, tables: Sequence[str], keys: Sequence[tuple[bytes]]) -> int:
    """Take the rows of these keys out of the tables; how many values that were. For none it waits for its turn, too."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        return sum(
            connection.executemany(f'DELETE FROM "{table}" WHERE entity_key = ?', keys).rowcount for table in tables
        )


class SqliteRows:
    """Reads what a customer's rows hold over a connection that the caller does not share meanwhile."""

    def __init__(self, connection: sqlite3.Connection, tables: Sequence[str], value_of: Callable[[bytes], Any]):
        self._connection, self._value_of = connection, value_of
        selects = [f'SELECT feature_name, value FROM "{table}" WHERE entity_key = ?1' for table in tables]
        self._statement = " UNION ALL ".join(selects)

    def read(self, key: bytes) -> dict[str, Any]:
        """The value of every feature of that key, by its name; empty where there is no row."""
        value_of = self._value_of
        return {name: value_of(value) for name, value in self._connection.execute(self._statement, (key,))}
