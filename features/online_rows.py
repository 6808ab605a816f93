"""Feast's SQLite online rows of one customer, of several views, in one statement: a tenth of Feast's own way there.

The tables, their names and the coding of keys and values are Feast's, given by `store`; only the reading is ours. One
statement sees one state of the file, so rows of several views belong together. Other stores are read by Feast.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from features.database import BUSY_MS


def tune(connections: Iterable[sqlite3.Connection]) -> None:
    """Readers beside a writer in other processes, and a commit without waiting for the disk.

    What a crash could lose is brought level from our own database at the next start.
    """
    for connection in connections:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_MS}", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")


def delete(connection: sqlite3.Connection, tables: Sequence[str], keys: Sequence[tuple[bytes]]) -> int:
    """Take the rows of these keys out of the tables; how many values that were."""
    with connection:
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
