"""Our own SQL database: its tables and the way to open it. The only place that builds an engine.

SQLite in WAL mode by default, PostgreSQL by `ONESTORY_DATABASE_URL`. Every statement elsewhere goes
through SQLAlchemy Core over the tables below. A commit survives `kill -9` of the process at once; to
survive a power cut too on SQLite, set `ONESTORY_SQLITE_SYNCHRONOUS=FULL` (3 ms a commit instead of 0.1).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from features.workspace import Workspace

BUSY_MS = 30_000
"""How long a connection waits for SQLite's write lock."""
TRUNCATE_TRIES = 5
AT_MOST = 500
"""Values that one statement lists."""
metadata = sa.MetaData()
_WRITERS = 4_201_077  # any number that is ours alone
T = TypeVar("T")
_Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True, doc="order of arrival"),
    sa.Column("message_id", sa.String, nullable=False, unique=True),
    sa.Column("customer_id", sa.String, index=True, doc="who it is about as resolved by identity; null: nobody"),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("occurred_at", sa.Double, nullable=False),
    sa.Column("known_at", sa.Double, nullable=False),
    sa.Column("user_id", sa.String),
    sa.Column("anonymous_id", sa.String, index=True),
    sa.Column("channel", sa.String),
    sa.Column("location_id", sa.String),
    sa.Column("body", sa.LargeBinary, nullable=False, doc="JSON"),
    sqlite_autoincrement=True,
)
links = sa.Table(
    "links",
    metadata,
    sa.Column("one", sa.String, primary_key=True, doc="an id with its kind, such as `user:1042`"),
    sa.Column("other", sa.String, primary_key=True, index=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("message_id", sa.String, primary_key=True),
    sa.Column("occurred_at", sa.Double, nullable=False),
    sa.Column("known_at", sa.Double, nullable=False, index=True),
    sa.Column("seq", sa.BigInteger, nullable=False, doc="of the message in the log"),
    sa.Column("undone", sa.Boolean, nullable=False, doc="takes back what was said of the two until then"),
)
owners = sa.Table(
    "owners",
    metadata,
    sa.Column("id", sa.String, primary_key=True, doc="a login or anonymous id that is not a customer of its own"),
    sa.Column("customer_id", sa.String, nullable=False, index=True),
)
touched = sa.Table(
    "touched",
    metadata,
    sa.Column("number", _Serial, primary_key=True, autoincrement=True),
    sa.Column("customer_id", sa.String, nullable=False, doc="whose past changed otherwise than by a new event"),
    sqlite_autoincrement=True,
)
profiles = sa.Table(
    "profiles",
    metadata,
    sa.Column("customer_id", sa.String, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False, doc="rises with every change of the profile"),
    sa.Column("online_seq", sa.BigInteger, nullable=False, doc="what Feast's online store holds"),
    sa.Column("known_at", sa.Double, nullable=False, doc="of the newest event folded in"),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("items", sa.LargeBinary, nullable=False),
)
arrears = sa.Table(
    "arrears",
    metadata,
    sa.Column("customer_id", sa.String, primary_key=True, doc="whose events a file changed; the profile is older yet"),
)
stock = sa.Table(
    "stock",
    metadata,
    sa.Column("product_id", sa.String, primary_key=True),
    sa.Column("location_id", sa.String, primary_key=True),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("reserved", sa.Integer, nullable=False, default=0),
    sa.Column("occurred_at", sa.Double, nullable=False),
    sa.Column("message_id", sa.String, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False, index=True, doc="of the event that wrote it"),
    sa.Column("online_seq", sa.BigInteger, nullable=False, default=0),
)
stock_moves = sa.Table(
    "stock_moves",
    metadata,
    sa.Column("product_id", sa.String, primary_key=True),
    sa.Column("location_id", sa.String, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, doc="of the event; kept until a count as late is known"),
    sa.Column("occurred_at", sa.Double, nullable=False),
    sa.Column("amount", sa.Integer, nullable=False, doc="how many fewer can be sold since"),
)
feeds = sa.Table(
    "feeds",
    metadata,
    sa.Column("signal", sa.String, primary_key=True),
    sa.Column("location_id", sa.String, primary_key=True, doc="'' for the whole signal"),
    sa.Column("last_at", sa.Double, nullable=False),
)
offer_uses = sa.Table(
    "offer_uses",
    metadata,
    sa.Column("offer_id", sa.String, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False, doc="days since 1970-01-01, UTC"),
    sa.Column("uses", sa.Integer, nullable=False, doc="how often it was accepted on that day, by anybody"),
    sa.Column("seq", sa.BigInteger, nullable=False, index=True, doc="of the event counted last"),
)
acceptances = sa.Table(
    "acceptances",
    metadata,
    sa.Column("mark", sa.LargeBinary, primary_key=True, doc="HMAC of a decision and its offer taken up: counted once"),
    sa.Column("day", sa.Integer, nullable=False, doc="of `offer_uses` for which it is counted"),
)
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("customer_id", sa.String, primary_key=True),
    sa.Column("request_id", sa.String, primary_key=True),
    sa.Column("requested_at", sa.Double, nullable=False),
    sa.Column("content", sa.String, nullable=False, doc="hash of what was asked"),
    sa.Column("decision_id", sa.String, nullable=False),
)
erasing = sa.Table(
    "erasing",
    metadata,
    sa.Column("customer_id", sa.String, primary_key=True, doc="whose erasure is under way; the row goes with its end"),
    sa.Column("ids", sa.LargeBinary, nullable=False, doc="JSON: every id that meant this customer"),
    sa.Column("counts", sa.LargeBinary, nullable=False, doc="JSON: what went so far, by store"),
)
erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("mark", sa.LargeBinary, primary_key=True, doc="HMAC of an id of somebody who was erased"),
    sa.Column("erased_at", sa.Double, nullable=False),
)
erased_messages = sa.Table(
    "erased_messages",
    metadata,
    sa.Column("mark", sa.LargeBinary, primary_key=True, doc="HMAC of a message id: a retry must not come back"),
)
reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("decision_id", sa.String, primary_key=True, doc="the outbound decision that takes a contact"),
    sa.Column("customer_id", sa.String, nullable=False, index=True, doc="as known at the decision"),
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("kinds", sa.String, nullable=False, doc="of its offers, separated by commas"),
    sa.Column("at", sa.Double, nullable=False, doc="when it was taken; once shown, when it was handed to the sender"),
    sa.Column("until", sa.Double, doc="when it is given back; null once shown"),
)
dismissals = sa.Table(
    "dismissals",
    metadata,
    sa.Column("message_id", sa.String, primary_key=True),
    sa.Column("customer_id", sa.String, nullable=False, index=True, doc="as the message names them"),
    sa.Column("at", sa.Double, nullable=False),
)


class DatabaseProblem(ValueError):
    """A database that cannot be opened, in one sentence without the address, which may hold a password."""


@cache
def connect(workspace: Workspace) -> sa.Engine:
    """The engine of this workspace's database, its tables made if absent. One per process."""
    is_sqlite = workspace.database_url.startswith("sqlite")
    try:
        engine = sa.create_engine(workspace.database_url, pool_pre_ping=not is_sqlite)
        engine.update_execution_options(onestory_secret=workspace.secret)
        if is_sqlite:
            sa.event.listen(engine, "connect", _on_sqlite_connect)
            sa.event.listen(engine, "begin", _begin_immediate)
        metadata.create_all(engine, checkfirst=True)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, sa.exc.DatabaseError, ImportError) as error:
        said = str(error).splitlines()[0]
        raise DatabaseProblem(
            f"database: cannot be opened ({said}); expected ONESTORY_DATABASE_URL as SQLAlchemy takes it, or none"
        ) from None
    return engine


def wait_at_most(engine: sa.Engine, seconds: float) -> None:
    """From now on wait no longer than that for a lock, then fail: for callers who would rather try again later."""
    is_sqlite, wait_ms = engine.dialect.name == "sqlite", round(seconds * 1000)

    def on_connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={wait_ms}" if is_sqlite else f"SET lock_timeout = {wait_ms}")
        cursor.close()
        connection.commit()

    sa.event.listen(engine, "connect", on_connect)
    engine.update_execution_options(onestory_wait_s=seconds)
    engine.dispose()  # connections that are in use stay as they are, new ones obey


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One write transaction: all of it is kept, or none."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that takes no write lock."""
    with engine.connect().execution_options(onestory_begin="BEGIN") as connection:
        yield connection


def longest_wait_s(engine: sa.Engine) -> float:
    """How long this engine's connections wait for a lock."""
    waits: float = engine.get_execution_options().get("onestory_wait_s", BUSY_MS / 1000)
    return waits


def in_turn(connection: sa.Connection) -> None:
    """Let one writer of events at a time into the log, so that sequence numbers are committed in their order and no
    two learn links at once. SQLite does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS)))


def watching(engine: sa.Engine) -> sa.Connection:
    """A connection for one who looks again and again: it sees each commit at once and holds no lock."""
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT", onestory_begin=None)


def without_leftovers(engine: sa.Engine, table: sa.Table | None = None) -> bool:
    """Whether what was deleted (in `table`) is gone from the files, too. PostgreSQL's VACUUM sees to its own."""
    if engine.dialect.name != "sqlite":
        return True
    with watching(engine) as connection:
        return scoured(connection.exec_driver_sql, "" if table is None else table.name)


def scoured(execute: Callable[[str], Any], table: str = "") -> bool:
    """Whether nothing deleted is left in a SQLite file: neither old keys between those of its indices, which
    `secure_delete` does not reach, nor old pages in its write-ahead log. Not while somebody reads on from before."""
    execute(f"REINDEX {table}")
    (waits_ms,) = execute("PRAGMA busy_timeout").fetchone()
    try:
        execute("PRAGMA busy_timeout=1000")  # writers wait meanwhile
        return any(not execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] for _ in range(TRUNCATE_TRIES))
    finally:
        execute(f"PRAGMA busy_timeout={waits_ms}")


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """The dialect's INSERT, for ON CONFLICT."""
    return insert_of(connection.dialect.name, table)


def insert_of(dialect: str, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """The same for a statement made once: SQLAlchemy takes longer to put one together than SQLite to run it."""
    return (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values, as many at a time as one statement takes."""
    return (values[start : start + AT_MOST] for start in range(0, len(values), AT_MOST))


def by_name(*columns: str) -> dict[str, sa.BindParameter[Any]]:
    """Values of an INSERT that is made once: a parameter for each column, called like it."""
    return {name: sa.bindparam(name) for name in columns}


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin_immediate
    for pragma in (
        "journal_mode=WAL",
        f"synchronous={os.environ.get('ONESTORY_SQLITE_SYNCHRONOUS', 'NORMAL')}",
        f"busy_timeout={BUSY_MS}",
        "secure_delete=ON",  # what is deleted is overwritten: an erased customer is not left in free pages
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    """Take SQLite's write lock at the start, so that what is read inside is what is changed."""
    begin = connection.get_execution_options().get("onestory_begin", "BEGIN IMMEDIATE")
    if begin is not None:
        connection.exec_driver_sql(begin)
