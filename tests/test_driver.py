"""Statements told to SQLite's driver: the same rows as by SQLAlchemy, in transactions that are kept whole or not."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from features import budgets, database, driver, events, intake, profile_rows, signals, stock
from features.driver import Writer
from features.workspace import Workspace
from tests.people import NOTHING_SOLD, NOW, Online

FEEDS = database.feeds
NEW = (
    database.insert_of("sqlite", FEEDS)
    .values(database.by_name("signal", "location_id", "last_at"))
    .on_conflict_do_nothing()
    .returning(FEEDS.c.signal, FEEDS.c.last_at)
)
LATER = (
    sa.update(FEEDS)
    .where(FEEDS.c.signal == sa.bindparam("name"), FEEDS.c.location_id == "")
    .values(last_at=FEEDS.c.last_at + 10)
    .returning(FEEDS.c.signal, FEEDS.c.last_at)
)
TOLD = sa.select(FEEDS.c.signal).where(FEEDS.c.signal.in_(sa.bindparam("ids", expanding=True)), FEEDS.c.last_at > 1.0)
FIRST = sa.select(FEEDS.c.signal).order_by(FEEDS.c.signal).limit(1)


def said(number: int, name: str, user: str | None = "1", anonymous: str | None = None, **body: Any) -> dict[str, Any]:
    at = NOW + number
    return {"message_id": f"m{number}", "name": name, "occurred_at": at, "user_id": user, "anonymous_id": anonymous} | {
        "channel": "web",
        "body": body,
    }


SHELF = {"product_id": "p", "location_id": "shop"}
STORY = [
    said(1, "Order Completed", order_id="o1", products=[{"product_id": "p", "quantity": 2, "price": 2.5}]),
    said(2, "Stock Updated", None, **SHELF, quantity=7),
    said(3, "Product Viewed", None, "phone", product_id="q"),
    said(4, "Offer Responded", offer_id="v", offer_kind="promotion", response="accepted"),
    said(5, "$identify", "1", "phone", traits={"loyalty_number": "77"}),
    said(6, "Stock Reserved", None, **SHELF, quantity=2),
    said(7, "$identify", "2", traits={"loyalty_number": "77"}),
    said(8, "$alias", "3", previous_id="1"),
    said(9, "Order Refunded", "2", order_id="o1", products=[{"product_id": "p", "quantity": 1, "price": 2.5}]),
    said(0, "Stock Updated", None, **SHELF, quantity=9),
    said(10, "Offer Responded", offer_id="v", offer_kind="promotion", response="accepted", decision_id="d1"),
    said(11, "Offer Responded", offer_id="v", offer_kind="promotion", response="accepted", decision_id="d1"),
]


class Elsewhere:
    """A connection to a database that is not SQLite, as far as `driver` can tell."""

    def __init__(self, connection: sa.Connection):
        self.dialect, self.execute = SimpleNamespace(name="other"), connection.execute


def row(signal: str, last_at: float) -> dict[str, Any]:
    return {"signal": signal, "location_id": "", "last_at": last_at}


@pytest.mark.parametrize("way", [lambda connection: connection, Elsewhere])
def test_a_statement_gives_the_same_rows_by_the_driver_and_by_sqlalchemy(workspace: Workspace, way: Any) -> None:
    with database.transaction(database.connect(workspace)) as connection:
        told = way(connection)
        assert driver.each(told, NEW, []) == []
        some = driver.each(told, NEW, [row("a", 1.0), row("b", 2.0), row("a", 3.0)])
        assert sorted(map(tuple, some)) == [("a", 1.0), ("b", 2.0)]
        many = [row(f"n{number:04}", 5.0) for number in range(1_200)]
        assert len(driver.each(told, NEW, many)) == 1_200
        assert list(map(tuple, driver.each(told, LATER, [{"name": "a"}, {"name": "?"}]))) == [("a", 11.0)]
        assert [tuple(each) for each in driver.each(told, FIRST, [{}])] == [("a",)]
        found = driver.of_ids(told, TOLD, [each["signal"] for each in many] + ["a", "nothing"])
        assert sorted(map(tuple, found)) == [("a",), *((each["signal"],) for each in many)]
        assert driver.of_ids(told, TOLD, []) == []


def test_a_value_that_is_missing_is_an_error_and_no_null(workspace: Workspace) -> None:
    with pytest.raises(sqlite3.ProgrammingError), Writer(database.connect(workspace)).transaction() as connection:
        driver.each(connection, NEW, [{"signal": "a", "location_id": ""}])


def test_what_fails_leaves_nothing_and_the_next_transaction_is_kept(workspace: Workspace) -> None:
    engine = database.connect(workspace)
    writer = Writer(engine)

    def fail() -> None:
        with writer.transaction() as connection:
            driver.each(connection, NEW, [row("a", 1.0)])
            connection.execute(sa.insert(FEEDS), [row("b", 1.0)])
            raise OSError("down")

    with pytest.raises(OSError, match="down"):
        fail()
    with writer.transaction() as connection:
        driver.each(connection, NEW, [row("c", 1.0)])
        connection.execute(sa.insert(FEEDS), [row("d", 1.0)])
    with database.reading(engine) as connection:
        assert connection.scalars(sa.select(FEEDS.c.signal).order_by(FEEDS.c.signal)).all() == ["c", "d"]
    writer.close()
    with writer.transaction() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(FEEDS)) == 2
    writer.close()


def test_a_commit_that_fails_does_not_hold_up_the_next_transaction(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/x.db", isolation_level="AUTOCOMMIT")
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    writer = Writer(engine)
    later = "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
    with writer.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE parent (id PRIMARY KEY)")
        connection.exec_driver_sql(later)
    with pytest.raises(sqlite3.IntegrityError), writer.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO child VALUES (1)")
    with writer.transaction() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM child").scalar() == 0
    writer.close()
    engine.dispose()


def test_threads_take_turns_and_lose_nothing(workspace: Workspace) -> None:
    writer = Writer(database.connect(workspace))
    with writer.transaction() as connection:
        driver.each(connection, NEW, [row("a", 0.0)])

    def add() -> None:
        for _ in range(25):
            with writer.transaction() as connection:
                (last_at,) = connection.scalars(sa.select(FEEDS.c.last_at))
                connection.execute(sa.update(FEEDS).values(last_at=last_at + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with writer.transaction() as connection:
        assert connection.scalar(sa.select(FEEDS.c.last_at)) == 100.0
    writer.close()


def test_a_writer_waits_no_longer_than_it_was_told(workspace: Workspace) -> None:
    engine = database.connect(workspace)
    writer = Writer(engine)
    with writer.transaction():
        pass  # its connection would wait for long
    database.wait_at_most(engine, 0.2)
    other = sa.create_engine(workspace.database_url)
    with other.connect() as holder:
        holder.exec_driver_sql("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="locked"), writer.transaction():
            pass
        assert 0.15 < time.monotonic() - started < 10
        holder.rollback()
    with writer.transaction(), pytest.raises(sa.exc.TimeoutError, match="another thread"), writer.transaction():
        pass
    writer.close()
    other.dispose()


def test_events_leave_the_same_behind_by_sqlalchemy_alone(tmp_path: Path) -> None:
    def taken(name: str) -> tuple[list[intake.Receipt], dict[str, bytes], list[list[Any]]]:
        engine = sa.create_engine(f"sqlite:///{tmp_path / name}.db").execution_options(onestory_secret=lambda: b"key")
        database.metadata.create_all(engine)
        engine.dialect.name = name  # of a database that `driver` does not know, everything goes by SQLAlchemy
        online = Online()
        taker = intake.Intake(engine, online, NOTHING_SOLD)
        receipts = [receipt for some in (STORY[:4], STORY[4:], STORY[3:6]) for receipt in taker.many(some, NOW + 100)]
        with database.reading(engine) as connection:
            tables = [list(map(tuple, connection.execute(sa.select(each)))) for each in database.metadata.sorted_tables]
        engine.dispose()
        return receipts, online.rows, tables

    assert taken("other") == taken("sqlite")


@pytest.mark.parametrize(
    "statement",
    [
        *(events._new, profile_rows.keeping, signals._hearing, stock._counting),
        *(budgets._counting, budgets._marking),
    ],
)
def test_what_inserts_is_said_in_the_words_of_postgresql_too(statement: Any) -> None:
    text = str(statement("postgresql").compile(dialect=postgresql.dialect()))
    assert text.startswith("INSERT INTO")
    assert "ON CONFLICT" in text
    assert "%(" in text
