"""A history into the event log, in bulk: appended, its links learnt, its stock and feed times taken in.

Unlike `intake`, nothing is folded and nothing is written online: `build` does both once for everybody, and until
then `arrears` holds who is waiting for it.
Appending the same history again stores nothing. The events come checked, in any order, as a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa

from features import arrears, budgets, database, erased, identity, signals, stock
from features.events import EventLog
from features.links import links_of, whose
from features.vocabulary import Event

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
    database.in_turn(connection)
    log = EventLog()
    gone = erased.messages(connection, (event.message_id for event in batch))
    batch = [event for event in batch if event.message_id not in gone]
    newest = connection.scalar(sa.select(sa.func.max(database.events.c.seq))) or 0
    rows = list(_resolved(connection, batch))
    stored = set[str]()
    for counted, run in _runs(rows):
        if counted:  # a reservation adds up, and so does an offer taken up: only a new one may be taken in
            for event, customer_id in run:
                seq = log.append(connection, event, customer_id)
                if seq is not None:
                    stored.add(event.message_id)
                    if event.name == "Offer Responded":
                        budgets.note(connection, event, seq)
                    else:
                        stock.take(connection, event, seq)
        else:
            new = log.append_many(connection, run)
            stored.update(new)
            _counted(connection, [event for event, _ in run if event.name == stock.UPDATED], new)
    _feeds(connection, rows)
    learnt = identity.learn(connection, list(_linking(connection, batch, newest)))
    theirs = {customer_id for event, customer_id in rows if customer_id and event.message_id in stored}
    arrears.note(connection, theirs | learnt.customers)
    return len(stored)


def _resolved(connection: sa.Connection, batch: Sequence[Event]) -> Iterator[tuple[Event, str | None]]:
    """Each event with whose it is; one look-up for every id of the batch."""
    nodes = [whose(event.user_id, event.anonymous_id) for event in batch]
    owners = identity.owners_of(connection, {node for node in nodes if node})
    return ((event, owners[node] if node else None) for event, node in zip(batch, nodes, strict=True))


def _linking(connection: sa.Connection, batch: Sequence[Event], newest: int) -> Iterator[tuple[Event, int]]:
    """The events of the batch that may say which ids belong together, as far as they were new, with their seq.

    Of a login that names no other id one event is enough: the earliest known one.
    """
    first: dict[str, Event] = {}
    for event in batch:
        first.setdefault(event.message_id, event)  # a message that comes twice counts as it came first
    chosen: dict[str, Event] = {}
    for event in sorted(first.values(), key=lambda event: (event.known_at, event.message_id)):
        if links_of(event, 0):
            chosen.setdefault(event.message_id, event)
        elif event.user_id:
            chosen.setdefault(f"user:{event.user_id}", event)
    seqs = _seqs(connection, [event.message_id for event in chosen.values()])
    for event in chosen.values():
        if seqs.get(event.message_id, 0) > newest:
            yield event, seqs[event.message_id]


def _seqs(connection: sa.Connection, message_ids: Sequence[str]) -> dict[str, int]:
    log = database.events.c
    found: dict[str, int] = {}
    for start in range(0, len(message_ids), 500):
        chunk = message_ids[start : start + 500]
        rows = connection.execute(sa.select(log.message_id, log.seq).where(log.message_id.in_(chunk)))
        found.update((row.message_id, row.seq) for row in rows)
    return found


def _runs(rows: Sequence[tuple[Event, str | None]]) -> Iterator[tuple[bool, list[tuple[Event, str | None]]]]:
    """The batch cut where what adds up begins and ends: reservations of stock, offers taken up."""
    run: list[tuple[Event, str | None]] = []
    counted = False
    for row in rows:
        this = row[0].name in stock.MOVES or budgets.counts(row[0])
        if run and this != counted:
            yield counted, run
            run = []
        counted = this
        run.append(row)
    if run:
        yield counted, run


def _counted(connection: sa.Connection, counts: Sequence[Event], seqs: Mapping[str, int]) -> None:
    """Take in those counts of stock that are new, of each product and location the latest: it holds the others."""
    first: dict[str, Event] = {}
    for event in counts:
        if event.message_id in seqs:
            first.setdefault(event.message_id, event)
    latest: dict[stock.Shelf, Event] = {}
    for event in first.values():
        shelf = stock.shelf_of(event)
        latest[shelf] = max(event, latest.get(shelf, event), key=lambda one: one.key)
    for event in latest.values():
        stock.take(connection, event, seqs[event.message_id])


def _feeds(connection: sa.Connection, rows: Sequence[tuple[Event, str | None]]) -> None:
    """Note how far each feed has come."""
    last: dict[tuple[str, str], float] = {}
    for event, customer_id in rows:
        for feed in signals.feeds_of(event, customer_id):
            last[feed] = max(last.get(feed, 0.0), event.occurred_at)
    signals.heard(connection, last)
