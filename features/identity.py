"""Which ids are the same customer.

A login id (`user_id`) is a customer of its own. What an anonymous id did before its first login becomes
that customer's; until then it is the customer `anonymous:<id>`. A second login on the same device never
takes over what the first one did: `join` keeps the earliest login that is known.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from features import database
from features.database import batched
from features.vocabulary import ANONYMOUS, Event

AT_ONCE = 500
_JOINED = sa.select(database.identities).where(
    database.identities.c.customer_id.in_(sa.bindparam("ids", expanding=True))
)


def customer_of(connection: sa.Connection, user_id: str | None, anonymous_id: str | None) -> str | None:
    """The customer whom these ids mean now; None when there are none."""
    if user_id:
        return user_id
    if not anonymous_id:
        return None
    known = connection.execute(
        sa.select(database.identities.c.customer_id).where(database.identities.c.anonymous_id == anonymous_id)
    ).scalar_one_or_none()
    return known or ANONYMOUS + anonymous_id


def join(connection: sa.Connection, event: Event) -> set[str]:
    """Learn from a message that carries both ids; the customers whose history changed by it.

    Of several logins on one anonymous id the earliest by `(occurred_at, message_id)` is the one that
    its anonymous history belongs to, in whatever order the messages arrive.
    """
    if not (event.user_id and event.anonymous_id):
        return set()
    table = database.identities
    known = connection.execute(sa.select(table).where(table.c.anonymous_id == event.anonymous_id)).one_or_none()
    if known is not None and (known.occurred_at, known.message_id) <= event.key:
        return set()
    before = known.customer_id if known else ANONYMOUS + event.anonymous_id
    values = {"customer_id": event.user_id, "occurred_at": event.occurred_at, "message_id": event.message_id}
    statement = database.insert(connection, table).values(anonymous_id=event.anonymous_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["anonymous_id"], set_=values))
    if before == event.user_id:
        return set()
    log = database.events
    moved = connection.execute(
        sa.update(log)
        .where(log.c.anonymous_id == event.anonymous_id, log.c.user_id.is_(None), log.c.customer_id == before)
        .values(customer_id=event.user_id)
    ).rowcount
    return {before, event.user_id} if moved else set()


def ids_of_many(connection: sa.Connection, customer_ids: Collection[str]) -> dict[str, list[str]]:
    """Per customer every id that means this customer, the one asked for first."""
    found = {customer_id: [customer_id] for customer_id in customer_ids}
    for chunk in batched(found, AT_ONCE):
        for row in connection.execute(_JOINED, {"ids": chunk}):
            if ANONYMOUS + row.anonymous_id != row.customer_id:
                found[row.customer_id].append(ANONYMOUS + row.anonymous_id)
    return found
