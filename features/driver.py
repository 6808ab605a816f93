"""Statements that are run for every event and every decision, told to SQLite's driver as they are, compiled once.

SQLAlchemy's own way costs ten to thirty times what such a statement does (0.1 ms for a row found by its key). They
are the same Core statements over the same tables; every other database is told them by SQLAlchemy. Rows are tuples,
their values what the driver gives. An error of SQLite comes as the driver raises it.

Who must not be held up (an event loop) writes at once or not at all: `NotAtOnce` says that nothing was written.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from features import database
from features.checkpoints import Checkpoints


def each(connection: sa.Connection, statement: sa.Executable, values: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Run a statement that is made once for each of these values by name; the rows that it returns of all."""
    if connection.dialect.name != "sqlite":
        together = [values] if statement.is_insert and values else values
        results = [connection.execute(statement, each) for each in together]
        return [row for result in results if result.returns_rows for row in result]
    (text, constants), driver = _told(statement), _driver(connection)
    return [row for given in values for row in driver.execute(text, {**constants, **given}).fetchall()]


def of_ids(connection: sa.Connection, statement: sa.Executable, ids: Iterable[str]) -> list[Any]:
    """The rows of a statement about many `ids`, its expanding parameter: all in one, on SQLite one after the other."""
    if connection.dialect.name == "sqlite":
        return each(connection, statement, [{"ids": id_} for id_ in ids])
    return [row for chunk in database.chunks(list(ids)) for row in connection.execute(statement, {"ids": chunk})]


def again_and_again(connection: sa.Connection, statement: sa.Executable | str) -> Callable[..., Any]:
    """The first row of the statement for its parameters by name, or None. For a `watching` connection."""
    if connection.dialect.name != "sqlite":
        whole = sa.text(statement) if isinstance(statement, str) else statement
        return lambda **values: connection.execute(whole, values).first()
    text, constants = (statement, {}) if isinstance(statement, str) else _told(statement)
    driver = _driver(connection)
    return lambda **values: driver.execute(text, {**constants, **values}).fetchone()


def rows_again(connection: sa.Connection, statement: sa.Executable) -> Callable[..., Sequence[Any]]:
    """The same with all its rows."""
    if connection.dialect.name != "sqlite":
        return lambda **values: connection.execute(statement, values).all()
    (text, constants), driver = _told(statement), _driver(connection)
    return lambda **values: driver.execute(text, {**constants, **values}).fetchall()


class NotAtOnce(Exception):
    """It would have had to wait for somebody, or to take long; nothing was written."""


@contextmanager
def busy_is_not_at_once() -> Iterator[None]:
    """What SQLite raises where another writes is a NotAtOnce."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise NotAtOnce from None
        raise


class Writer:
    """One process's write transactions, one after the other: on SQLite over two connections, which are kept.

    To wait here is fair and wakes at once; SQLite's own waiting is neither, and is left to other processes. The second
    connection is for what happens at once: it waits for nobody and leaves moving the write-ahead log into the
    database, which waits for the disk, to `checkpoints`.
    """

    def __init__(self, engine: sa.Engine):
        self._engine, self._turn = engine, threading.Lock()
        self._kept: dict[bool, sa.Connection] = {}
        self._pool: sa.Pool | None = None
        self._checkpoints: Checkpoints | None = None
        self._waits_for_disk = False

    @contextmanager
    def transaction(self, at_once: bool = False) -> Iterator[sa.Connection]:
        """As `database.transaction`: all of it is kept, or none. `at_once`: raises NotAtOnce where it would wait."""
        if self._engine.dialect.name != "sqlite":
            if at_once:
                raise NotAtOnce
            with database.transaction(self._engine) as connection:
                yield connection
            return
        if not self._turn.acquire(timeout=0 if at_once else database.longest_wait_s(self._engine)):
            if at_once:
                raise NotAtOnce
            raise sa.exc.TimeoutError("another thread of this process writes; try again")
        try:
            connection = self._connection(at_once)
            driver = _driver(connection)
            if at_once:
                if self._waits_for_disk:
                    raise NotAtOnce
                with busy_is_not_at_once():
                    driver.execute("BEGIN IMMEDIATE")
            else:
                driver.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                driver.commit()
                if at_once and self._checkpoints is not None:
                    self._checkpoints.committed()
            except BaseException:
                driver.rollback()
                raise
        finally:
            self._turn.release()

    def close(self) -> None:
        with self._turn:
            self._let_go()
        if self._checkpoints is not None:
            self._checkpoints.close()

    def _let_go(self) -> None:
        for hurried, connection in self._kept.items():
            if hurried:
                connection.invalidate()  # as it is now nobody else may have it
            connection.close()
        self._kept = {}

    def _connection(self, at_once: bool) -> sa.Connection:
        """The kept one; a new one if there is none, or it is from before `wait_at_most`."""
        if self._pool is not self._engine.pool:
            self._let_go()
            self._pool = self._engine.pool
        if at_once not in self._kept:
            connection = self._engine.connect().execution_options(onestory_begin=None)
            if at_once:
                hurry(_driver(connection))
                (synchronous,) = _driver(connection).execute("PRAGMA synchronous").fetchone()
                self._waits_for_disk = synchronous > 1
                self._checkpoints = self._checkpoints or Checkpoints(_driver(connection))
            self._kept[at_once] = connection
        return self._kept[at_once]


def hurry(connection: sqlite3.Connection) -> None:
    """From now on this connection waits for no lock, and its commits for no disk."""
    connection.execute("PRAGMA busy_timeout=0")
    connection.execute("PRAGMA wal_autocheckpoint=0")


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


@cache
def _told(statement: sa.Executable) -> tuple[str, Mapping[str, Any]]:
    """The statement in SQLite's words, its parameters by name and `ids` as a single one; and its constants."""
    compiled: Any = statement.compile(dialect=sqlite.dialect(paramstyle="named"))  # type: ignore[attr-defined]
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return str(compiled).replace("(__[POSTCOMPILE_ids])", "(:ids)"), constants
