"""What responses mean for contacts: what was handed to the sender, and what customers waved away.

Counted is what the event log has, never what a message says: a refused message counts nothing, and a message id that
comes again with another content counts as what was stored under it. So counting comes after the storing, and for
duplicates as well. Killed between the two, we have told nobody that the message was taken: it is sent again, is a
duplicate by then, and is counted. The other way round a message that is refused in the end would have counted. Whatever
comes more often counts once.

What the limits on contacts are is the business of `contact`, how contacts are kept that of `reservations`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from features import database, identity
from features.events import event_of
from features.intake import Receipt
from features.links import owned_by, whose
from features.vocabulary import OUTBOUND, Event
from serving import reservations
from serving.door import Door
from serving.facts import Contact, Dismissal
from serving.responses import Known

Record = Mapping[str, Any]
_log, _dismissals = database.events, database.dismissals
_STORED = sa.select(_log).where(_log.c.message_id.in_(sa.bindparam("ids", expanding=True)))
_WAVED = (
    sa.select(_log.c.message_id, _log.c.body)
    .join(_dismissals, _dismissals.c.message_id == _log.c.message_id)
    .where(_dismissals.c.customer_id.in_(sa.bindparam("ids", expanding=True)))
)


class Tally:
    """One worker's way to count responses. Safe to use from several threads."""

    def __init__(self, engine: sa.Engine, door: Door):
        self._engine, self._door = engine, door

    def count(self, records: Iterable[Any], receipts: Iterable[Receipt], known: Known) -> None:
        """Count what was stored of these messages, now or before. Behind the door, so that nobody is erased meanwhile
        whose response is counted; who was erased has none in the log."""
        told = {
            receipt.message_id: None
            for record, receipt in zip(records, receipts, strict=True)
            if receipt.problem is None and _may_count(record)
        }
        if not told:
            return
        with self._door.inside(), database.transaction(self._engine) as connection:
            database.in_turn(connection)
            waved = _Waved(connection, known)
            for event in _stored(connection, list(told)):
                record = known.decision(event.body.get("decision_id"), event)
                if event.body["response"] == "dismissed":
                    waved.note(event, record)
                elif record is not None and record["answer"]["offers"] and record["answer"]["channel"] in OUTBOUND:
                    _shown(connection, event, record)


def _may_count(record: Mapping[str, Any]) -> bool:
    body = record["body"] or {}
    if record["name"] != "Offer Responded":
        return False
    return body["response"] == "dismissed" or (body["response"] == "shown" and body.get("decision_id") is not None)


def _stored(connection: sa.Connection, message_ids: Sequence[str]) -> Iterable[Event]:
    """What the log has under these ids, as far as it counts, in the order of the messages."""
    place = {message_id: number for number, message_id in enumerate(message_ids)}
    rows = (row for ids in database.chunks(message_ids) for row in connection.execute(_STORED, {"ids": ids}))
    events = sorted(map(event_of, rows), key=lambda event: place[event.message_id])
    return (each for each in events if _may_count({"name": each.name, "body": each.body}))


def _shown(connection: sa.Connection, event: Event, record: Record) -> None:
    kinds = tuple(sorted({offer["kind"] for offer in record["answer"]["offers"]}))
    sent = Contact(record["decision_id"], record["answer"]["channel"], kinds, _at(event, record))
    reservations.shown(connection, record["answer"]["customer_id"], sent)


class _Waved:
    """What customers have waved away by now, looked up once for each of them."""

    def __init__(self, connection: sa.Connection, known: Known):
        self._connection, self._known = connection, known
        self._by: dict[str, dict[tuple[Any, Any], str]] = {}

    def note(self, event: Event, record: Record | None) -> None:
        """Kept under the id that the message names, of whom it is about; a decision that is not theirs tells nothing.

        One offer of one decision waved away is one dismissal, by the message that told it first.
        """
        node = whose(event.user_id, event.anonymous_id)
        if node is None:
            return
        said = event.body.get("decision_id"), event.body.get("offer_id")
        if record is not None and self._of(event, node).setdefault(said, event.message_id) != event.message_id:
            return
        reservations.dismissed(self._connection, owned_by(node), Dismissal(event.message_id, _at(event, record)))

    def _of(self, event: Event, node: str) -> dict[tuple[Any, Any], str]:
        """By decision and offer the message that said so of this customer."""
        customer_id = self._known.customer_of(event.user_id, event.anonymous_id)
        if customer_id not in self._by:
            ids = {owned_by(node), *identity.ids_of_many(self._connection, [customer_id])[customer_id]}
            found = self._by[customer_id] = {}
            for chunk in database.chunks(list(ids)):
                for row in self._connection.execute(_WAVED, {"ids": chunk}):
                    body = orjson.loads(row.body)
                    found.setdefault((body.get("decision_id"), body.get("offer_id")), row.message_id)
        return self._by[customer_id]


def _at(event: Event, record: Record | None) -> float:
    """When it happened: no response comes before its decision, whatever the sender's clock says."""
    return event.occurred_at if record is None else max(event.occurred_at, record["facts"]["now"])
