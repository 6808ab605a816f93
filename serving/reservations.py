"""Contacts as our database keeps them: taken, handed over, given back; and what customers waved away.

An outbound decision takes its contact in the transaction in which its limits are checked (`outbound`). A row
stays under the id that the customer had then; who is the same customer now is asked of `identity` when rows
are read, so that a merge needs no move and can be undone. What the limits are is the business of `contact`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from features import database, identity
from features.vocabulary import DAY_S, KEEP_DAYS
from serving.facts import Contact, Contacts, Dismissal

UNSENT_KEPT_S = 30 * DAY_S
_contacts, _dismissals = database.reservations, database.dismissals
_IDS: sa.BindParameter[str] = sa.bindparam("ids", expanding=True)
_SINCE: sa.BindParameter[float] = sa.bindparam("since")
_MADE = sa.select(_contacts).where(
    _contacts.c.customer_id.in_(_IDS),
    _contacts.c.at > _SINCE,
    _contacts.c.until.is_(None) | (_contacts.c.until > sa.bindparam("now")),
)
_WAVED = sa.select(_dismissals).where(_dismissals.c.customer_id.in_(_IDS), _dismissals.c.at > _SINCE)


def lock(connection: sa.Connection, customer_ids: Collection[str]) -> None:
    """Let nobody else grant these customers anything until the transaction ends. SQLite locks all of itself anyway."""
    if connection.dialect.name == "postgresql":
        for key in sorted(_key(customer_id) for customer_id in set(customer_ids)):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _key(customer_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(customer_id.encode(), digest_size=8).digest(), "big", signed=True)


def contacts_of(
    connection: sa.Connection, customer_ids: Collection[str], now: float, days: float
) -> dict[str, Contacts]:
    """Per customer, by all their ids, what counts now or may still: contacts of the last `days`, and dismissals."""
    owner = {
        each: customer_id for customer_id, ids in identity.ids_of_many(connection, customer_ids).items() for each in ids
    }
    since = now - days * DAY_S - 1.0  # what exactly counts is said by `contact`
    made: dict[str, list[Contact]] = {}
    dismissed: dict[str, list[Dismissal]] = {}
    for chunk in database.chunks(list(owner)):
        for row in connection.execute(_MADE, {"ids": chunk, "since": since, "now": now}):
            made.setdefault(owner[row.customer_id], []).append(_contact(row))
        for row in connection.execute(_WAVED, {"ids": chunk, "since": since}):
            dismissed.setdefault(owner[row.customer_id], []).append(Dismissal(row.message_id, row.at))
    return {
        customer_id: Contacts(
            tuple(sorted(made.get(customer_id, ()), key=lambda each: (each.at, each.decision_id))),
            tuple(sorted(dismissed.get(customer_id, ()), key=lambda each: (each.at, each.message_id))),
        )
        for customer_id in customer_ids
    }


def _contact(row: Any) -> Contact:
    return Contact(row.decision_id, row.channel, tuple(row.kinds.split(",")), row.at, row.until)


def take(connection: sa.Connection, taken: Sequence[tuple[str, Contact]]) -> None:
    """Take contacts of `(customer id, contact)`; one that its decision holds, not handed over yet, is taken anew."""
    if taken:
        statement = database.insert(connection, _contacts)
        changes = {name: statement.excluded[name] for name in ("channel", "kinds", "at", "until")}
        unsent = _contacts.c.until.is_not(None)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["decision_id"], set_=changes, where=unsent),
            [
                {
                    "decision_id": each.decision_id,
                    "customer_id": customer_id,
                    "channel": each.channel,
                    "kinds": ",".join(each.kinds),
                    "at": each.at,
                    "until": each.until,
                }
                for customer_id, each in taken
            ],
        )


def held_by(connection: sa.Connection, decision_id: str) -> Contact | None:
    """The contact that this decision took, whether or not it has been given back by time; None if there is none."""
    row = connection.execute(sa.select(_contacts).where(_contacts.c.decision_id == decision_id)).one_or_none()
    return None if row is None else _contact(row)


def give_back(connection: sa.Connection, decision_id: str) -> None:
    """The decision will not be sent: its contact is free again. One that was handed over stays."""
    mine = _contacts.c.decision_id == decision_id
    connection.execute(sa.delete(_contacts).where(mine, _contacts.c.until.is_not(None)))


def shown(connection: sa.Connection, customer_id: str, contact: Contact) -> None:
    """It was handed to the sender: it counts from then on, whatever had become of its reservation. Once is enough."""
    take(connection, [(customer_id, contact)])


def dismissed(connection: sa.Connection, customer_id: str, dismissal: Dismissal) -> None:
    """The customer waved an offer away; the same message counts once."""
    statement = database.insert(connection, _dismissals)
    values = {"message_id": dismissal.message_id, "customer_id": customer_id, "at": dismissal.at}
    connection.execute(statement.values(**values).on_conflict_do_nothing())


def prune(connection: sa.Connection, now: float) -> int:
    """Delete what no limit can ask for any more; how many rows went."""
    oldest = now - KEEP_DAYS * DAY_S
    gone = (
        sa.delete(_contacts).where((_contacts.c.at < oldest) | (_contacts.c.until < now - UNSENT_KEPT_S)),
        sa.delete(_dismissals).where(_dismissals.c.at < oldest),
    )
    return sum(connection.execute(each).rowcount for each in gone)
