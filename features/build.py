"""All history in: the event log folded into Feast's offline files, and the online store brought level.

The offline files of a view are parts by customer (`part_of`), each replaced as a whole by a rename, so
that memory stays flat, a reader never sees half a file, and `parity` need build only what changed: a part
carries the fingerprint of the events and of the code that it was made from. Replaying is the business
of `history`; what a profile is, of `profiles`.

Safe while the service runs: a customer's row is replaced under its lock, and where live intake has
taken in more meanwhile, the customer is folded anew from the log.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from features import database, history, last_seen, profiles
from features.events import EventLog
from features.history import History
from features.intake import ABOUT_STOCK
from features.moments import PARTS, part_of, part_path
from features.profiles import Profile
from features.store import ProfileStore
from features.workspace import Workspace

AT_ONCE = 50
"""Customers read, and their rows replaced, in one go: bounds memory and how long live intake waits."""
STOCK_AT_ONCE = 1_000
GROUP_ROWS = 100_000
_STAMP = pa.timestamp("us", tz="UTC")
_FINGERPRINT = b"onestory"

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

SCHEMAS = {
    "profile": pa.schema(
        [("customer_id", pa.string()), ("event_timestamp", _STAMP), ("state", pa.binary()), ("seq", pa.int64())]
    ),
    "last_seen": pa.schema(
        [("customer_id", pa.string()), ("event_timestamp", _STAMP), ("items", pa.binary()), ("items_seq", pa.int64())]
    ),
    "last_seen_history": last_seen.SCHEMA,
    "stock": pa.schema(
        [
            ("product_id", pa.string()),
            ("location_id", pa.string()),
            ("event_timestamp", _STAMP),
            ("quantity", pa.int64()),
        ]
    ),
}


@dataclass(slots=True)
class Summary:
    """What a build did."""

    parts: int = 0
    customers: int = 0
    moments: int = 0
    entries: int = 0
    stock: int = 0
    seconds: float = 0.0


def build(
    workspace: Workspace,
    progress: Progress = lambda what, done, total: None,
    store: ProfileStore | None = None,
    lacking_only: bool = False,
) -> Summary:
    """`feast apply`, then every offline file and every online row from the event log.

    `lacking_only` leaves alone the parts that were made from the same events by the same code.
    """
    started = time.perf_counter()
    summary = Summary()
    store = store or ProfileStore(workspace)
    store.apply()
    with _alone(workspace.offline):
        with database.reading(database.connect(workspace)) as connection:
            customers = History(connection).customers()
        shares: list[dict[str, tuple[int, int]]] = [{} for _ in range(PARTS)]
        for customer_id in sorted(customers):
            shares[part_of(customer_id)][customer_id] = customers[customer_id]
        done = 0
        for number, share in enumerate(shares):
            made_of = _fingerprint(sorted(share.items()))
            if not (lacking_only and made_of == _made_of(part_path(workspace, "profile", number))):
                summary.parts += 1
                for count in _customers(workspace, store, number, list(share), made_of, summary):
                    progress("profiles", done + count, len(customers))
            done += len(share)
            progress("profiles", done, len(customers))
        _stock(workspace, lacking_only, summary)
        _level_stock(workspace, store, progress)
        store.record_materialisation()
    summary.seconds = time.perf_counter() - started
    return summary


# -------------------------------------------------------------------------------------------- customers


@dataclass(frozen=True, slots=True)
class _Folded:
    """A customer after everything in the log, and how much of the log that was."""

    customer_id: str
    counted: tuple[int, int]
    seq: int
    known_at: float
    state: bytes
    items: bytes


def _customers(
    workspace: Workspace, store: ProfileStore, number: int, ids: Sequence[str], made_of: bytes, summary: Summary
) -> Iterator[int]:
    """One part of the three customer views, and its online rows; yields how many customers are done."""
    engine = database.connect(workspace)
    with ExitStack() as stack:
        # Closed in the other order: the profile comes last, its fingerprint says that the part is whole.
        profile, seen, entries = (
            stack.enter_context(_Part(part_path(workspace, view, number), SCHEMAS[view], made_of))
            for view in ("profile", "last_seen", "last_seen_history")
        )
        for start in range(0, len(ids), AT_ONCE):
            folded = []
            with database.reading(engine) as connection:
                past = History(connection)
                counted = past.customers(ids[start : start + AT_ONCE])
                for customer_id, spans in past.spans(list(counted)).items():
                    change = None
                    for change in history.replay(spans):
                        state, _ = profiles.pack(Profile(change.profile.state))
                        profile.add((customer_id, change.moment, state, change.seq))
                        for item, entry in change.entries.items():
                            entries.add(last_seen.row_of(customer_id, item, change.moment, entry))
                        summary.moments += 1
                        summary.entries += len(change.entries)
                    if change is not None:
                        state, items = profiles.pack(change.profile)
                        seen.add((customer_id, change.moment, items, change.seq))
                        known_at = change.moment / 1e6
                        folded.append(_Folded(customer_id, counted[customer_id], change.seq, known_at, state, items))
            _level(engine, store, folded)
            summary.customers += len(folded)
            yield start + len(counted)


def _level(engine: sa.Engine, store: ProfileStore, folded: Sequence[_Folded]) -> None:
    """Put profiles into our database and online, unless live intake knows more by now."""
    table = database.profiles
    with database.transaction(engine) as connection:
        ids = [one.customer_id for one in folded]
        lock = sa.select(table.c.customer_id, table.c.seq, table.c.known_at).where(table.c.customer_id.in_(ids))
        held = {row.customer_id: row for row in connection.execute(lock.with_for_update())}
        counts = History(connection).customers(ids)
        rows = []
        for one in folded:
            state, items, seq, known_at = one.state, one.items, one.seq, one.known_at
            if counts[one.customer_id] != one.counted:
                events = EventLog().of_customer(connection, one.customer_id)
                state, items = profiles.pack(profiles.fold_all(events))
                seq = max(seq, counts[one.customer_id][1])
            if one.customer_id in held:
                row = held[one.customer_id]
                seq, known_at = max(seq, row.seq), max(known_at, row.known_at)
            elif not counts[one.customer_id][0]:
                continue  # an anonymous customer who has since become a known one
            rows.append((one.customer_id, seq, known_at, state, items))
        if not rows:
            return
        statement = database.insert(connection, table)
        names = ("seq", "online_seq", "state", "items", "known_at")
        statement = statement.on_conflict_do_update(
            index_elements=["customer_id"], set_={name: statement.excluded[name] for name in names}
        )
        store.write(rows)
        connection.execute(
            statement,
            [
                {"customer_id": c, "seq": seq, "online_seq": seq, "known_at": known_at, "state": state, "items": items}
                for c, seq, known_at, state, items in rows
            ],
        )


# ------------------------------------------------------------------------------------------------ stock


def _stock(workspace: Workspace, lacking_only: bool, summary: Summary) -> None:
    columns = database.events.c
    about_stock = columns.name.in_(sorted(ABOUT_STOCK))
    path = part_path(workspace, "stock", 0)
    with database.reading(database.connect(workspace)) as connection:
        counted = sa.select(sa.func.count(), sa.func.max(columns.seq)).where(about_stock)
        made_of = _fingerprint(tuple(connection.execute(counted).one()))
        if lacking_only and made_of == _made_of(path):
            return
        statement = sa.select(database.events).where(about_stock).order_by(columns.known_at, columns.seq)
        with _Part(path, SCHEMAS["stock"], made_of) as part:
            for row in history.shelf_changes(connection.execute(statement.execution_options(yield_per=5_000))):
                part.add(row)
                summary.stock += 1


def _level_stock(workspace: Workspace, store: ProfileStore, progress: Progress) -> None:
    """Online, write the stock that our database holds newer."""
    table = database.stock
    engine = database.connect(workspace)
    with database.reading(engine) as connection:
        behind = sa.select(table.c.product_id, table.c.location_id).where(table.c.online_seq < table.c.seq)
        shelves = [tuple(row) for row in connection.execute(behind)]
    for start in range(0, len(shelves), STOCK_AT_ONCE):
        with database.transaction(engine) as connection:
            key = sa.tuple_(table.c.product_id, table.c.location_id)
            chosen = key.in_(shelves[start : start + STOCK_AT_ONCE])
            rows = connection.execute(sa.select(table).where(chosen).with_for_update()).all()
            store.write_stock((r.product_id, r.location_id, r.quantity - r.reserved, r.occurred_at) for r in rows)
            connection.execute(sa.update(table).where(chosen).values(online_seq=table.c.seq))
        progress("stock", start + len(rows), len(shelves))


# ------------------------------------------------------------------------------------------------ files


class _Part:
    """One parquet file in the making: rows are added in any number, the file appears when it is whole."""

    def __init__(self, path: Path, schema: pa.Schema, made_of: bytes):
        self._path, self._draft = path, path.parent.with_name(f".{path.parent.stem}-{path.name}")  # out of Feast's sight
        self._schema = schema.with_metadata({_FINGERPRINT: made_of})
        self._rows: list[tuple[Any, ...]] = []

    def __enter__(self) -> _Part:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._draft, self._schema, compression="zstd")
        return self

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=self._schema))
        self._rows.clear()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._draft.replace(self._path)
        else:
            self._draft.unlink()


def _fingerprint(counted: object) -> bytes:
    """What a part is made of: how much of the log, by which code."""
    return hashlib.sha256(_code() + repr(counted).encode()).hexdigest().encode()


@cache
def _code() -> bytes:
    return b"".join(Path(module.__file__ or "").read_bytes() for module in (profiles, history, last_seen))


def _made_of(path: Path) -> bytes | None:
    try:
        return (pq.read_schema(path).metadata or {}).get(_FINGERPRINT)
    except (OSError, pa.ArrowInvalid):
        return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build at a time in a workspace; a second one waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
