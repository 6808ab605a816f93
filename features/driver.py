"""Statements that are run for every event and every decision, told to SQLite's driver as they are, compiled once.

SQLAlchemy's own way costs ten to thirty times what such a statement does (0.1 ms for a row found by its key). They
are the same Core statements over the same tables; every other database is told them by SQLAlchemy. Rows are tuples,
their values what the driver gives. An error of SQLite comes as the driver raises it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from features import database

AT_ONCE = 500
"""Ids to a statement, where one statement takes many."""


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
    listed = list(ids)
    chunks = (listed[start : start + AT_ONCE] for start in range(0, len(listed), AT_ONCE))
    return [row for chunk in chunks for row in connection.execute(statement, {"ids": chunk})]


def again_and_again(connection: sa.Connection, statement: sa.Select[Any] | str) -> Callable[..., Any]:
    """The first row of the statement for its parameters by name, or None. For a `watching` connection."""
    if connection.dialect.name != "sqlite":
        whole = sa.text(statement) if isinstance(statement, str) else statement
        return lambda **values: connection.execute(whole, values).first()
    text, constants = (statement, {}) if isinstance(statement, str) else _told(statement)
    driver = _driver(connection)
    return lambda **values: driver.execute(text, {**constants, **values}).fetchone()


def rows_again(connection: sa.Connection, statement: sa.Select[Any]) -> Callable[..., Sequence[Any]]:
    """The same with all its rows."""
    if connection.dialect.name != "sqlite":
        return lambda **values: connection.execute(statement, values).all()
    (text, constants), driver = _told(statement), _driver(connection)
    return lambda **values: driver.execute(text, {**constants, **values}).fetchall()  # type: ignore[no-any-return]


class Writer:
    """One process's write transactions, one after the other: on SQLite over one connection, which is kept.

    To wait here is fair and wakes at once; SQLite's own waiting is neither, and is left to other processes.
    """

    def __init__(self, engine: sa.Engine):
        self._engine, self._turn = engine, threading.Lock()
        self._kept: sa.Connection | None = None
        self._pool: sa.Pool | None = None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """As `database.transaction`: all of it is kept, or none."""
        if self._engine.dialect.name != "sqlite":
            with database.transaction(self._engine) as connection:
                yield connection
            return
        if not self._turn.acquire(timeout=database.longest_wait_s(self._engine)):
            raise sa.exc.TimeoutError("another thread of this process writes; try again")
        try:
            connection = self._connection()
            driver = _driver(connection)
            driver.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                driver.commit()
            except BaseException:
                driver.rollback()
                raise
        finally:
            self._turn.release()

    def close(self) -> None:
        with self._turn:
            if self._kept is not None:
                self._kept.close()
                self._kept = None

    def _connection(self) -> sa.Connection:
        """The kept one; a new one if there is none, or it is from before `wait_at_most`."""
        if self._kept is None or self._pool is not self._engine.pool:
            if self._kept is not None:
                self._kept.close()
            self._pool = self._engine.pool
            self._kept = self._engine.connect().execution_options(onestory_begin=None)
        return self._kept


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


@cache
def _told(statement: sa.Executable) -> tuple[str, Mapping[str, Any]]:
    """The statement in SQLite's words, its parameters by name and `ids` as a single one; and its constants."""
    compiled: Any = statement.compile(dialect=sqlite.dialect(paramstyle="named"))  # type: ignore[attr-defined]
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return str(compiled).replace("(__[POSTCOMPILE_ids])", "(:ids)"), constants
