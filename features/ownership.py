"""Whose each id is, and the links it rests on, as they lie in our database. Statements only; no rule is here.

`owners` holds the ids that are another customer's than their own; an id that is not there is a customer itself.
What the links mean is said by `partition`; that both agree is the business of `learning`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import sqlalchemy as sa

from features import database, driver
from features.links import ALIAS, DEVICE, KEYS, USER, Link, Pair, node_of, owned_by, whose

MOST_READ = 1_000
"""So many links of one e-mail, phone, card or device are read at most; by then it is known to join nobody."""

_table, _owners = database.links, database.owners
_ids: sa.BindParameter[list[str]] = sa.bindparam("ids", expanding=True)
# Made once, see `database.insert_of`.
_OWNERS_OF = sa.select(_owners.c.id, _owners.c.customer_id).where(_owners.c.id.in_(_ids))
OWNED_BY = sa.select(_owners).where(_owners.c.customer_id.in_(_ids)).order_by(_owners.c.id)
"""The ids that are these customers' beside their own."""
_LINKS_AT = sa.select(_table).where((_table.c.one == sa.bindparam("node")) | (_table.c.other == sa.bindparam("node")))
_SHARED_AT = _LINKS_AT.order_by(_table.c.one.desc()).limit(MOST_READ)
ALIASED = sa.select(_table.c.other).where(_table.c.other.in_(_ids), _table.c.kind == ALIAS)
"""Those of `ids` that an alias names as a previous id."""


def customer_of(connection: sa.Connection, user_id: str | None, anonymous_id: str | None) -> str | None:
    """The customer whom these ids mean now; None when there are none."""
    node = whose(user_id, anonymous_id)
    return None if node is None else owners_of(connection, [node])[node]


def owners_of(connection: sa.Connection, nodes: Iterable[str]) -> dict[str, str]:
    """The customer of each login and anonymous id."""
    found = {node: owned_by(node) for node in nodes}
    found.update(driver.of_ids(connection, _OWNERS_OF, list(found)))
    return found


class Resolver:
    """The hot path's way from an id to its customer: one indexed read, which sees every commit at once."""

    def __init__(self, engine: sa.Engine):
        self._lock = threading.Lock()
        self._reader = database.watching(engine)
        owner = sa.select(_owners.c.customer_id).where(_owners.c.id == sa.bindparam("node"))
        self._owner = driver.again_and_again(self._reader, owner)

    def close(self) -> None:
        self._reader.close()

    def customer(self, customer_id: str | None, anonymous_id: str | None = None) -> str:
        """The customer of a login or of what an answer called a customer; else of an anonymous id."""
        node = node_of(customer_id) if customer_id else whose(None, anonymous_id) or ""
        with self._lock:
            row = self._owner(node=node)
        return row[0] if row is not None else owned_by(node)


def give(connection: sa.Connection, node: str, before: str, after: str) -> int:
    """Make an id another customer's, and its events; how many those are."""
    table, log = database.owners, database.events
    if after == owned_by(node):
        connection.execute(sa.delete(table).where(table.c.id == node))
    else:
        statement = database.insert(connection, table).values(id=node, customer_id=after)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_={"customer_id": statement.excluded.customer_id})
        )
    return connection.execute(sa.update(log).where(*events_of(node, before)).values(customer_id=after)).rowcount


def events_of(node: str, customer_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    """What picks the events of an id that is this customer's, by an index."""
    log = database.events.c
    if node.startswith(USER):
        return log.customer_id == customer_id, log.user_id == node.removeprefix(USER)
    return log.anonymous_id == node.partition(":")[2], log.user_id.is_(None), log.customer_id == customer_id


def links_at(connection: sa.Connection, node: str) -> list[Link]:
    """The links of one id; of what many share the first so many, logins before anonymous ids."""
    statement = _SHARED_AT if node.partition(":")[0] in (*KEYS, DEVICE) else _LINKS_AT
    return [link_of(row) for row in connection.execute(statement, {"node": node})]


def link_of(row: sa.Row[tuple[object, ...]]) -> Link:
    pair = Pair(row.kind, row.one, row.other)
    return Link(pair, row.occurred_at, row.message_id, row.known_at, row.seq, row.undone)


def touch(connection: sa.Connection, customers: Iterable[str]) -> None:
    """Note that the past of these customers must be built anew."""
    rows = [{"customer_id": customer_id} for customer_id in sorted(customers)]
    if rows:
        connection.execute(sa.insert(database.touched), rows)
