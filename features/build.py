"""All history in: the event log folded into Feast's offline files, and the online store brought level.

Replaying is the business of `history`, the files that of `offline`, what a profile is that of `profiles`.

Safe while the service runs: a customer's row is replaced under its lock, and where live intake has
taken in more meanwhile, the customer is folded anew from the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import sqlalchemy as sa

from features import database, history, last_seen, product_counts, profiles
from features.catalog import Catalog
from features.events import EventLog
from features.history import History
from features.intake import Intake
from features.learning import learn_from_log
from features.offline import PARTS, Mark, Part, alone, mark_of, part_of
from features.profile_now import StoreDown
from features.profiles import Profile
from features.signals import ABOUT_STOCK
from features.store import ProfileStore
from features.workspace import Workspace

AT_ONCE = 50
"""Customers read, and their rows replaced, in one go: bounds memory and how long live intake waits."""
STOCK_AT_ONCE = 1_000
WRITTEN_AT_ONCE = 250
LOOKED_AT = 20

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


def _untold(what: str, done: int, total: int) -> None:
    pass


@dataclass(slots=True)
class Summary:
    """What a build wrote."""

    parts: int = 0
    customers: int = 0
    moments: int = 0
    entries: int = 0
    stock: int = 0
    seconds: float = 0.0


def build(
    workspace: Workspace, progress: Progress = _untold, store: ProfileStore | None = None, whole: bool = False
) -> Summary:
    """`feast apply`; the rows of customers and shelves with news, offline and online. `whole`: of all, from the log."""
    store = store or ProfileStore(workspace)
    store.apply()
    lost = whole or _is_lost(workspace, store)
    summary = _build(workspace, progress, store, whole)
    _level_again(workspace, store, lost)
    _level_stock(workspace, store, lost, progress)
    store.record_materialisation()
    return summary


def level_lacking(workspace: Workspace, store: ProfileStore) -> None:
    """Put online what has never been there or is behind; what is there, right or wrong, is left as it is."""
    engine = database.connect(workspace)
    log, kept = database.events.c, database.profiles.c
    with database.reading(engine) as connection:
        known = sa.select(kept.customer_id).where(kept.customer_id == log.customer_id).exists()
        newest = sa.select(log.customer_id, sa.func.max(log.known_at).label("known_at"))
        rows = connection.execute(newest.where(log.customer_id.is_not(None), ~known).group_by(log.customer_id)).all()
    for start in range(0, len(rows), AT_ONCE):
        chunk = rows[start : start + AT_ONCE]
        _level(engine, store, [_Folded(row.customer_id, (-1, -1), 0, row.known_at, b"", b"") for row in chunk])
    Intake(engine, store, Catalog()).level_all()


def build_lacking(workspace: Workspace, progress: Progress = _untold) -> Summary:
    """Only the offline rows that are not made of today's log by today's code; nothing online is touched."""
    return _build(workspace, progress, None, False)


def _build(workspace: Workspace, progress: Progress, store: ProfileStore | None, whole: bool) -> Summary:
    started = time.perf_counter()
    summary = Summary()
    engine = database.connect(workspace)
    learn_from_log(engine)
    with alone(workspace):
        with database.reading(engine) as connection:
            today, work = _work(workspace, connection, whole, [] if store is None else history.outdated(connection))
        total = sum(len(customers) for customers, _ in work.values())
        for number, (customers, kept) in work.items():
            summary.parts += 1
            done = summary.customers
            for count in _part(workspace, store, number, customers, today.packed(), kept, summary):
                progress("profiles", done + count, total)
            summary.customers = done + len(customers)
        progress("profiles", total, total)
        _stock(workspace, today, whole, summary)
        product_counts.write(workspace, today.packed(), whole)
        if today.touched:
            with database.transaction(engine) as connection:  # every part knows of these by now
                connection.execute(sa.delete(database.touched).where(database.touched.c.number <= today.touched))
    summary.seconds = time.perf_counter() - started
    return summary


Work = dict[int, tuple[list[str], bool]]
"""Per part, which customers' rows are made anew, and whether the others' are kept as they are."""


def _work(workspace: Workspace, connection: sa.Connection, whole: bool, outdated: list[str]) -> tuple[Mark, Work]:
    """What the log holds today, and what has to be made for it, and for the customers whose profiles are `outdated`."""
    log, touched = database.events.c, database.touched.c
    seq, number = (connection.scalar(sa.select(sa.func.max(column))) for column in (log.seq, touched.number))
    today = Mark(seq or 0, number or 0)
    marks = {number: None if whole else mark_of(workspace, "profile", number) for number in range(PARTS)}
    work: Work = {number: ([], False) for number, mark in marks.items() if mark is None}
    if work:
        for customer_id in History(connection).customers():
            if part_of(customer_id) in work:
                work[part_of(customer_id)][0].append(customer_id)
    for customer_id in outdated:
        if marks[part_of(customer_id)] is not None:
            work.setdefault(part_of(customer_id), ([], True))[0].append(customer_id)
    for mark in {mark for mark in marks.values() if mark is not None and mark != today}:
        news = sa.union(
            sa.select(log.customer_id).where(log.seq > mark.seq, log.customer_id.is_not(None)),
            sa.select(touched.customer_id).where(touched.number > mark.touched),
        )
        for customer_id in sorted(connection.scalars(news)):
            number = part_of(customer_id)
            if marks[number] == mark and customer_id not in work.get(number, ([], True))[0]:
                work.setdefault(number, ([], True))[0].append(customer_id)
    return today, dict(sorted(work.items()))


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


def _part(
    workspace: Workspace,
    store: ProfileStore | None,
    number: int,
    ids: Sequence[str],
    mark: bytes,
    kept: bool,
    summary: Summary,
) -> Iterator[int]:
    """One part of the three customer views, and these customers' online rows; yields how many of them are done."""
    engine = database.connect(workspace)
    with ExitStack() as stack:
        # Closed in the other order: the profile comes last, its mark says that the part is whole.
        parts = {
            view: stack.enter_context(Part(workspace, view, number, mark))
            for view in ("profile", "last_seen", "last_seen_history")
        }
        if kept:
            for part in parts.values():
                part.keep(without=ids)
        past = History(stack.enter_context(database.reading(engine)))
        for start in range(0, len(ids), AT_ONCE):
            chunk = ids[start : start + AT_ONCE]
            folded = list(_folded(past, chunk, parts, summary))
            if store is not None and folded:
                _level(engine, store, folded)
            yield start + len(chunk)


def _folded(past: History, ids: Sequence[str], parts: dict[str, Part], summary: Summary) -> Iterator[_Folded]:
    """Replay customers into their offline rows; yields what each came to."""
    counted = history.counts(past.connection, ids)
    for customer_id, spans in past.spans(ids).items():
        change = None
        for change in history.replay(spans):
            state, _ = profiles.pack(Profile(change.profile.state))
            parts["profile"].add((customer_id, change.moment, state, change.seq))
            for item, entry in change.entries.items():
                parts["last_seen_history"].add(last_seen.row_of(customer_id, item, change.moment, entry))
            summary.moments += 1
            summary.entries += len(change.entries)
        if change is not None:
            state, items = profiles.pack(change.profile)
            parts["last_seen"].add((customer_id, change.moment, items, change.seq))
            yield _Folded(customer_id, counted.get(customer_id, (0, 0)), change.seq, change.moment / 1e6, state, items)


def _level(engine: sa.Engine, store: ProfileStore, folded: Sequence[_Folded]) -> None:
    """Put profiles into our database and online, unless live intake knows more by now."""
    table = database.profiles
    with database.transaction(engine) as connection:
        ids = [one.customer_id for one in folded]
        lock = sa.select(table.c.customer_id, table.c.seq, table.c.known_at).where(table.c.customer_id.in_(ids))
        held = {row.customer_id: row for row in connection.execute(lock.with_for_update())}
        counts = history.counts(connection, ids)
        rows = []
        for one in folded:
            state, items, seq, known_at = one.state, one.items, one.seq, one.known_at
            count = counts.get(one.customer_id, (0, 0))
            if count != one.counted:
                events = EventLog().of_customer(connection, one.customer_id)
                state, items = profiles.pack(profiles.fold_all(events))
                seq = max(seq, count[1])
            if one.customer_id in held:
                row = held[one.customer_id]
                seq, known_at = max(seq, row.seq), max(known_at, row.known_at)
            elif not count[0]:
                continue  # an anonymous customer who has since become a known one
            rows.append((one.customer_id, seq, known_at, state, items))
        store.write(rows)
        names = ("customer_id", "seq", "known_at", "state", "items")
        values = [{**dict(zip(names, row, strict=True)), "online_seq": row[1]} for row in rows]
        if values:
            statement = database.insert(connection, table)
            new = {name: statement.excluded[name] for name in (*names[1:], "online_seq")}
            connection.execute(statement.on_conflict_do_update(index_elements=["customer_id"], set_=new), values)


def _is_lost(workspace: Workspace, store: ProfileStore) -> bool:
    """Whether the online store lacks what our database says it holds, by a look at a few customers."""
    table = database.profiles.c
    some = sa.select(table.customer_id).where(table.online_seq > 0).order_by(table.customer_id).limit(LOOKED_AT)
    with database.reading(database.connect(workspace)) as connection:
        customers = connection.scalars(some).all()
    try:
        return len(store.read_many(customers)) < len(customers)
    except StoreDown:  # it answers, but not with profiles
        return True


def _level_again(workspace: Workspace, store: ProfileStore, all_of_them: bool) -> None:
    """Write online what our database holds of those who are behind there, or of everybody."""
    table, engine = database.profiles, database.connect(workspace)
    behind = sa.true() if all_of_them else table.c.online_seq < table.c.seq
    with database.reading(engine) as connection:
        waiting = connection.scalars(sa.select(table.c.customer_id).where(behind).order_by(table.c.customer_id)).all()
    for start in range(0, len(waiting), WRITTEN_AT_ONCE):
        chosen = table.c.customer_id.in_(waiting[start : start + WRITTEN_AT_ONCE])
        with database.transaction(engine) as connection:
            rows = connection.execute(sa.select(table).where(chosen).with_for_update()).all()
            store.write([(row.customer_id, row.seq, row.known_at, row.state, row.items) for row in rows])
            connection.execute(sa.update(table).where(chosen).values(online_seq=table.c.seq))


# ------------------------------------------------------------------------------------------------ stock


def _stock(workspace: Workspace, today: Mark, whole: bool, summary: Summary) -> None:
    """The offline file of stock, made anew where there is any news of stock."""
    columns = database.events.c
    about_stock = columns.name.in_(sorted(ABOUT_STOCK))
    made = None if whole else mark_of(workspace, "stock", 0)
    with database.reading(database.connect(workspace)) as connection:
        if made is not None:
            news = sa.exists().where(columns.seq > made.seq, about_stock)
            if not connection.scalar(sa.select(news)):
                return
        summary.parts += 1
        statement = sa.select(database.events).where(about_stock).order_by(columns.known_at, columns.seq)
        with Part(workspace, "stock", 0, today.packed()) as part:
            for row in history.shelf_changes(connection.execute(statement.execution_options(yield_per=5_000))):
                part.add(row)
                summary.stock += 1


def _level_stock(workspace: Workspace, store: ProfileStore, all_of_it: bool, progress: Progress) -> None:
    """Put online the stock that is behind there, or all that our database holds."""
    table = database.stock
    engine = database.connect(workspace)
    key = sa.tuple_(table.c.product_id, table.c.location_id)
    with database.reading(engine) as connection:
        statement = sa.select(table.c.product_id, table.c.location_id).order_by(*table.primary_key.columns)
        statement = statement if all_of_it else statement.where(table.c.online_seq < table.c.seq)
        shelves = [tuple(row) for row in connection.execute(statement)]
    for start in range(0, len(shelves), STOCK_AT_ONCE):
        chosen = key.in_(shelves[start : start + STOCK_AT_ONCE])
        with database.transaction(engine) as connection:
            rows = connection.execute(sa.select(table).where(chosen).with_for_update()).all()
            store.write_stock((r.product_id, r.location_id, r.quantity - r.reserved, r.seq) for r in rows)
            connection.execute(sa.update(table).where(chosen).values(online_seq=table.c.seq))
        progress("stock", start + len(rows), len(shelves))
