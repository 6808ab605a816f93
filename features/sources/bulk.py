"""A history into the event log, in bulk: appended, its identities learnt, its stock and feed times taken in.

Unlike `intake`, nothing is folded and nothing is written online: `build` does both once for everybody.
Appending the same history again stores nothing. The events come checked, in any order, as a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa

from features import budgets, database, identity, signals
from features.events import EventLog
from features.vocabulary import ONLINE, Event

AT_ONCE = 5_000
"""Events a transaction: large enough for speed, small enough to hold in memory and to let others write between."""


@dataclass(slots=True)
class Counts:
    """What became of a history's events."""

    stored: int = 0
    duplicates: int = 0


def append_history(
    engine: sa.Engine,
    events: Iterable[Event],
    advance: Callable[[int], None] = lambda _: None,
    at_once: int = AT_ONCE,
) -> Counts:
    """Store `events`; those whose message is already there change nothing. `advance` hears of every batch."""
    counts, stream = Counts(), iter(events)
    while batch := list(islice(stream, at_once)):
        with database.transaction(engine) as connection:
            stored = _append(connection, batch)
        counts.stored += stored
        counts.duplicates += len(batch) - stored
        advance(len(batch))
    return counts


def _append(connection: sa.Connection, batch: Sequence[Event]) -> int:
    log = EventLog()
    for event in batch:
        if event.user_id and event.anonymous_id:
            identity.join(connection, event)
    rows = list(_resolved(connection, batch))
    stored = 0
    for counted, run in _runs(rows):
        if counted:  # a reservation adds up, and so does an offer taken up: only a new one may be taken in
            for event, customer_id in run:
                seq = log.append(connection, event, customer_id)
                if seq is not None:
                    stored += 1
                    if event.name == "Offer Responded":
                        budgets.note(connection, event, seq)
                    else:
                        signals.reserve_stock(connection, event, seq)
        else:
            stored += log.append_many(connection, run)
            _stock(connection, [event for event, _ in run if event.name == "Stock Updated"])
    _feeds(connection, rows)
    return stored


def _resolved(connection: sa.Connection, batch: Sequence[Event]) -> Iterator[tuple[Event, str | None]]:
    """Each event with whose it is; one look-up for every device of the batch."""
    known: dict[str, str | None] = {}
    for event in batch:
        if event.user_id:
            yield event, event.user_id
        elif event.anonymous_id:
            if event.anonymous_id not in known:
                known[event.anonymous_id] = identity.customer_of(connection, None, event.anonymous_id)
            yield event, known[event.anonymous_id]
        else:
            yield event, None


def _runs(rows: Sequence[tuple[Event, str | None]]) -> Iterator[tuple[bool, list[tuple[Event, str | None]]]]:
    """The batch cut where what adds up begins and ends: reservations of stock, offers taken up."""
    run: list[tuple[Event, str | None]] = []
    counted = False
    for row in rows:
        this = row[0].name in ("Stock Reserved", "Stock Released") or budgets.counts(row[0])
        if run and this != counted:
            yield counted, run
            run = []
        counted = this
        run.append(row)
    if run:
        yield counted, run


def _stock(connection: sa.Connection, levels: Sequence[Event]) -> None:
    """Take in many `Stock Updated` at once; a newer level that is already known stays."""
    if not levels:
        return
    log, table = database.events, database.stock
    seqs: dict[str, int] = {}
    for start in range(0, len(levels), 500):
        ids = [event.message_id for event in levels[start : start + 500]]
        found = connection.execute(sa.select(log.c.message_id, log.c.seq).where(log.c.message_id.in_(ids)))
        seqs.update((row.message_id, row.seq) for row in found)
    statement = database.insert(connection, table)
    new = statement.excluded
    newer = sa.tuple_(table.c.occurred_at, table.c.message_id) < sa.tuple_(new.occurred_at, new.message_id)
    changes = {name: new[name] for name in ("quantity", "reserved", "occurred_at", "message_id", "seq", "online_seq")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["product_id", "location_id"], set_=changes, where=newer),
        [
            {
                "product_id": event.body["product_id"],
                "location_id": _place(event),
                "quantity": event.body["quantity"],
                "reserved": 0,
                "occurred_at": event.occurred_at,
                "message_id": event.message_id,
                "seq": seqs[event.message_id],
                "online_seq": 0,
            }
            for event in levels
        ],
    )


def _place(event: Event) -> str:
    return event.body.get("location_id") or event.location_id or ONLINE


def _feeds(connection: sa.Connection, rows: Sequence[tuple[Event, str | None]]) -> None:
    """Note how far each feed has come: a customer's event is the profile's, a level the stock's at its place."""
    last: dict[tuple[str, str], float] = {}
    for event, customer_id in rows:
        if event.name == "Feed Alive":
            feed = (event.body["signal"], event.body.get("location_id") or event.location_id or "")
        elif event.name.startswith("Stock "):
            feed = ("stock", _place(event))
        elif customer_id is not None:
            feed = ("profile", "")
        else:
            continue
        last[feed] = max(last.get(feed, 0.0), event.occurred_at)
    for (signal, location_id), at in last.items():
        signals.heard(connection, signal, location_id, at)
