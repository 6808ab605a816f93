"""All history in: the event log folded into Feast's offline files, and the online store brought level.

Replaying is the business of `history`, the files that of `offline`, what a profile is that of `profiles`, who is
behind that of `arrears`.

Safe while the service runs: a customer's row is replaced under its lock, and where live intake has
taken in more meanwhile, the customer is folded anew from the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import sqlalchemy as sa

from features import arrears, database, history, last_seen, product_counts, profiles
from features.arrears import AT_ONCE, Folded
from features.history import History
from features.learning import learn_from_log
from features.offline import PARTS, Mark, Part, alone, mark_of, part_of
from features.profiles import Profile
from features.signals import ABOUT_STOCK
from features.store import ProfileStore
from features.workspace import Workspace

STOCK_AT_ONCE = 1_000

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
    lost = whole or arrears.is_lost(workspace, store)
    summary = _build(workspace, progress, store, whole)
    summary.customers += arrears.settle(workspace, store)
    arrears.level_again(workspace, store, lost)
    _level_stock(workspace, store, lost, progress)
    store.record_materialisation()
    return summary


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
            today, work = _work(workspace, connection, whole)
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


def _work(workspace: Workspace, connection: sa.Connection, whole: bool) -> tuple[Mark, Work]:
    """What the log holds today, and what has to be made for it."""
    log, touched = database.events.c, database.touched.c
    seq, number = (connection.scalar(sa.select(sa.func.max(column))) for column in (log.seq, touched.number))
    today = Mark(seq or 0, number or 0)
    marks = {number: None if whole else mark_of(workspace, "profile", number) for number in range(PARTS)}
    work: Work = {number: ([], False) for number, mark in marks.items() if mark is None}
    if work:
        for customer_id in History(connection).customers():
            if part_of(customer_id) in work:
                work[part_of(customer_id)][0].append(customer_id)
    for mark in {mark for mark in marks.values() if mark is not None and mark != today}:
        news = sa.union(
            sa.select(log.customer_id).where(log.seq > mark.seq, log.customer_id.is_not(None)),
            sa.select(touched.customer_id).where(touched.number > mark.touched),
        )
        for customer_id in sorted(connection.scalars(news)):
            number = part_of(customer_id)
            if marks[number] == mark:
                work.setdefault(number, ([], True))[0].append(customer_id)
    return today, dict(sorted(work.items()))


# -------------------------------------------------------------------------------------------- customers


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
                arrears.level(engine, store, folded)
            yield start + len(chunk)


def _folded(past: History, ids: Sequence[str], parts: dict[str, Part], summary: Summary) -> Iterator[Folded]:
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
            yield Folded(customer_id, counted.get(customer_id, (0, 0)), change.seq, change.moment / 1e6, state, items)


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
