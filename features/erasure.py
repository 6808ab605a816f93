"""A customer taken out of our database, so that the rest is as if the messages had never come.

`begin` deletes what the log, the links, the profiles and the tables of decisions hold, and notes that the erasure
is under way; `drop_online` empties the online store; `finish` closes it. Between them other stores are
emptied by their own rooms. Whoever is killed in between leaves the note, so that the next one goes on.

What stays: that somebody with this id was erased, and which messages must not come back, both as HMACs under the
workspace's key; and what the customer's messages said of shelves (`Stock Reserved` …), without who said it.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from features import database, erased, identity, profiles
from features.events import EventLog, event_of
from features.links import UNLINK, node_of
from features.signals import ABOUT_STOCK
from features.vocabulary import ANONYMOUS, Event

_OF_DECISIONS = (database.requests, database.reservations, database.dismissals)
_OF_A_SHELF = ("product_id", "location_id", "quantity")


@dataclass(frozen=True, slots=True)
class Erasing:
    """An erasure under way: who, by all ids, and what went so far, by store."""

    customer_id: str
    ids: tuple[str, ...]
    counts: Counter[str]


def unfinished(connection: sa.Connection) -> list[str]:
    """Who is to be erased and is not, wholly, yet."""
    return list(connection.scalars(sa.select(database.erasing.c.customer_id)))


def begin(connection: sa.Connection, customer_id: str, now: float) -> Erasing:
    """Delete everything of the customer in our database. Whoever had begun before is gone on with."""
    database.in_turn(connection)
    begun = _begun(connection, customer_id)
    name, *others = identity.names_of(connection, customer_id)
    ids = sorted({name, *others, *(begun.ids if begun else ())})
    counts = begun.counts if begun else Counter[str]()
    counts += _events(connection, ids)
    counts["identities"] += _links(connection, name, ids, now)
    counts += _rows(connection, (database.profiles, *_OF_DECISIONS), ids)
    erasing = Erasing(begun.customer_id if begun else customer_id, tuple(ids), counts)
    note(connection, erasing)
    return erasing


def note(connection: sa.Connection, erasing: Erasing) -> None:
    """Keep how far it has come."""
    values = {"ids": orjson.dumps(erasing.ids), "counts": orjson.dumps(dict(erasing.counts))}
    statement = database.insert(connection, database.erasing).values(customer_id=erasing.customer_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["customer_id"], set_=values))


def drop_granted(connection: sa.Connection, erasing: Erasing) -> Counter[str]:
    """Delete, while nobody decides, what decisions that were under way kept since `begin`; how many rows, by store."""
    return _rows(connection, _OF_DECISIONS, erasing.ids)


def drop_online(connection: sa.Connection, store: Any, erasing: Erasing) -> int:
    """Empty the online store of the customer, and put back who has come anew since; how many values went."""
    table = database.profiles
    count: int = store.forget(erasing.ids)
    anew = connection.execute(sa.select(table).where(table.c.customer_id.in_(erasing.ids)).with_for_update()).all()
    store.write([(row.customer_id, row.seq, row.known_at, row.state, row.items) for row in anew])
    return count


def finish(connection: sa.Connection, erasing: Erasing, at: float | None) -> None:
    """Everything is gone: keep no id in clear, and the marks; `at` is None for somebody who never was here."""
    connection.execute(sa.delete(database.erasing).where(database.erasing.c.customer_id == erasing.customer_id))
    for table in (database.touched, database.arrears):
        connection.execute(sa.delete(table).where(table.c.customer_id.in_(erasing.ids)))
    if at is None:
        return
    statement = database.insert(connection, database.erasures).values(erased_at=at)
    statement = statement.on_conflict_do_update(index_elements=["mark"], set_={"erased_at": at})
    connection.execute(statement, [{"mark": erased.mark(connection, "id", each)} for each in erasing.ids])


def _begun(connection: sa.Connection, customer_id: str) -> Erasing | None:
    for row in connection.execute(sa.select(database.erasing)):
        ids = orjson.loads(row.ids)
        if customer_id in ids:
            return Erasing(row.customer_id, tuple(ids), Counter(orjson.loads(row.counts)))
    return None


def _rows(connection: sa.Connection, tables: Sequence[sa.Table], ids: Sequence[str]) -> Counter[str]:
    counts = Counter[str]()
    for table in tables:
        for chunk in database.chunks(ids):
            gone = connection.execute(sa.delete(table).where(table.c.customer_id.in_(chunk)))
            counts[str(table.name)] += gone.rowcount
    return counts


def _events(connection: sa.Connection, ids: Sequence[str]) -> Counter[str]:
    """Delete the customer's events; what they said of shelves stays, said by nobody."""
    table, counts = database.events, Counter[str]()
    columns = (table.c.seq, table.c.message_id, table.c.name, table.c.body)
    rows = [
        row
        for chunk in database.chunks(ids)
        for row in connection.execute(sa.select(*columns).where(table.c.customer_id.in_(chunk)))
    ]
    for row in rows:
        if row.name in ABOUT_STOCK:
            said = orjson.loads(row.body)
            body = orjson.dumps({key: said[key] for key in _OF_A_SHELF if key in said})
            nobody = {"customer_id": None, "user_id": None, "anonymous_id": None, "body": body}
            connection.execute(sa.update(table).where(table.c.seq == row.seq).values(**nobody))
        counts["stock_messages" if row.name in ABOUT_STOCK else "events"] += 1
        counts["responses"] += row.name == "Offer Responded"
    for chunk in database.chunks([row.message_id for row in rows if row.name not in ABOUT_STOCK]):
        marks = [{"mark": erased.mark(connection, "message", each)} for each in chunk]
        connection.execute(database.insert(connection, database.erased_messages).on_conflict_do_nothing(), marks)
        connection.execute(sa.delete(table).where(table.c.message_id.in_(chunk)))
    return counts


def _links(connection: sa.Connection, name: str, ids: Sequence[str], now: float) -> int:
    """Unlearn what joined the ids; what others say of their devices, and crowded keys, may count from now on."""
    nodes = [node_of(each) for each in ids]
    table, log = database.links.c, database.events.c
    count = sum(
        connection.scalar(sa.select(sa.func.count()).where(table.one.in_(chunk) | table.other.in_(chunk))) or 0
        for chunk in database.chunks(nodes)
    )
    _untold(connection, set(nodes))
    changed = identity.forget(connection, name).customers
    devices = [node.removeprefix(ANONYMOUS) for node in nodes if node.startswith(ANONYMOUS)]
    for chunk in database.chunks(devices):
        rows = connection.execute(sa.select(database.events).where(log.anonymous_id.in_(chunk))).all()
        changed |= identity.learn(connection, [(event_of(row), row.seq) for row in rows]).customers
    _fold_anew(connection, changed - set(ids), now)
    return count


def _untold(connection: sa.Connection, nodes: set[str]) -> None:
    """Take the ids out of the messages that parted them from others; those are about nobody."""
    table = database.events
    for row in connection.execute(sa.select(table.c.seq, table.c.body).where(table.c.name == UNLINK)).all():
        body = orjson.loads(row.body)
        left = [pair for pair in body["links"] if not nodes & set(pair[1:])]
        if not left:
            connection.execute(sa.delete(table).where(table.c.seq == row.seq))
        elif len(left) < len(body["links"]):
            said = orjson.dumps({**body, "links": left})
            connection.execute(sa.update(table).where(table.c.seq == row.seq).values(body=said))


def _fold_anew(connection: sa.Connection, customer_ids: Collection[str], now: float) -> None:
    """Profiles of others whose events changed, under a sequence number that no event will have."""
    log, table = EventLog(), database.profiles
    for customer_id in sorted(customer_ids):
        seq = log.append(connection, Event(f"erasure-{secrets.token_hex(16)}", "$erased", now, now), None) or 0
        connection.execute(sa.delete(database.events).where(database.events.c.seq == seq))
        state, items = profiles.pack(profiles.fold_all(log.of_customer(connection, customer_id)))
        values = {"seq": seq, "known_at": now, "state": state, "items": items}
        statement = database.insert(connection, table).values(customer_id=customer_id, online_seq=0, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["customer_id"], set_=values))
