"""Customers whose profile lags behind the log, or online behind our database; folded and put online many at a time.

A history from a file folds nobody: its customers are noted here, in one transaction with its events, until their
profiles have been made of the whole log. So nobody is passed over, whatever the offline files hold by then, and live
events in between hide nothing. Events that come one by one are the business of `intake` and `levelling`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from features import database, history, profiles
from features.events import EventLog
from features.profile_now import StoreDown
from features.store import ProfileStore
from features.workspace import Workspace

AT_ONCE = 50
"""Customers read, and their rows replaced, in one go: bounds memory and how long live intake waits."""
WRITTEN_AT_ONCE = 250
LOOKED_AT = 20
_table = database.profiles


@dataclass(frozen=True, slots=True)
class Folded:
    """A customer after everything in the log, and how much of the log that was (events, highest seq)."""

    customer_id: str
    counted: tuple[int, int]
    seq: int
    known_at: float
    state: bytes
    items: bytes


def note(connection: sa.Connection, customer_ids: Collection[str]) -> None:
    """These customers' events are others now, and their profiles are not made of them yet."""
    rows = [{"customer_id": customer_id} for customer_id in sorted(customer_ids)]
    if rows:
        connection.execute(database.insert(connection, database.arrears).on_conflict_do_nothing(), rows)


def settle(workspace: Workspace, store: ProfileStore) -> int:
    """Fold from the log, and put online, whom it is ahead of, whatever the offline files hold; how many those were.

    Who is not in arrears is left alone: what the online store holds of them, right or wrong, stays.
    """
    engine = database.connect(workspace)
    with database.reading(engine) as connection:
        customers = _in_arrears(connection)
    for start in range(0, len(customers), AT_ONCE):
        chunk = customers[start : start + AT_ONCE]
        level(engine, store, [Folded(customer_id, (-1, -1), 0, 0.0, b"", b"") for customer_id in chunk])
    return len(customers)


def _in_arrears(connection: sa.Connection) -> list[str]:
    """Who was noted, who has no profile yet, and whose profile is older than an event, or of another version."""
    log, kept = database.events.c, _table.c
    known = sa.select(kept.customer_id).where(kept.customer_id == log.customer_id).exists()
    newer = sa.select(log.seq).where(log.customer_id == kept.customer_id, log.seq > kept.seq).exists()
    statements = (
        sa.select(database.arrears.c.customer_id),
        sa.select(log.customer_id).where(log.customer_id.is_not(None), ~known).distinct(),
        sa.select(kept.customer_id).where(newer),
    )
    found = {customer_id for each in statements for customer_id in connection.scalars(each)}
    return sorted(found.union(history.outdated(connection)))


def level(engine: sa.Engine, store: ProfileStore, folded: Sequence[Folded]) -> None:
    """Put profiles into our database and online; those of whom the log knows more, or less, by now are folded anew."""
    ids = [one.customer_id for one in folded]
    with database.transaction(engine) as connection:
        database.in_turn(connection)  # so that no file adds to the log between what is counted and what is noted
        lock = sa.select(_table.c.customer_id, _table.c.seq, _table.c.known_at).where(_table.c.customer_id.in_(ids))
        held = {row.customer_id: row for row in connection.execute(lock.with_for_update())}
        counts = history.counts(connection, ids)
        rows = []
        for one in folded:
            state, items, known_at = one.state, one.items, one.known_at
            count = counts.get(one.customer_id, (0, 0))
            seq = max(one.seq, count[1])
            if count != one.counted:
                events = EventLog().of_customer(connection, one.customer_id)
                state, items = profiles.pack(profiles.fold_all(events))
                known_at = max((event.known_at for event in events), default=known_at)
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
            statement = database.insert(connection, _table)
            new = {name: statement.excluded[name] for name in (*names[1:], "online_seq")}
            connection.execute(statement.on_conflict_do_update(index_elements=["customer_id"], set_=new), values)
        connection.execute(sa.delete(database.arrears).where(database.arrears.c.customer_id.in_(ids)))


def is_lost(workspace: Workspace, store: ProfileStore) -> bool:
    """Whether the online store lacks what our database says it holds, by a look at a few customers."""
    some = sa.select(_table.c.customer_id).where(_table.c.online_seq > 0).order_by(_table.c.customer_id)
    with database.reading(database.connect(workspace)) as connection:
        customers = connection.scalars(some.limit(LOOKED_AT)).all()
    try:
        return len(store.read_many(customers)) < len(customers)
    except StoreDown:  # it answers, but not with profiles
        return True


def level_again(workspace: Workspace, store: ProfileStore, all_of_them: bool) -> None:
    """Write online what our database holds of those who are behind there, or of everybody."""
    engine = database.connect(workspace)
    behind = sa.true() if all_of_them else _table.c.online_seq < _table.c.seq
    with database.reading(engine) as connection:
        waiting = connection.scalars(sa.select(_table.c.customer_id).where(behind).order_by(_table.c.customer_id)).all()
    for start in range(0, len(waiting), WRITTEN_AT_ONCE):
        chosen = _table.c.customer_id.in_(waiting[start : start + WRITTEN_AT_ONCE])
        with database.transaction(engine) as connection:
            rows = connection.execute(sa.select(_table).where(chosen).with_for_update()).all()
            store.write([(row.customer_id, row.seq, row.known_at, row.state, row.items) for row in rows])
            connection.execute(sa.update(_table).where(chosen).values(online_seq=_table.c.seq))
