"""One event: checked, then appended to the log that is the system of record.

`check` turns a raw record into an `Event` or says which field is wrong; `EventLog` appends, ignores
duplicates by `message_id`, and reads back. Who an event is about is decided in `identity`; what it
means for a profile in `profiles`; what a property of a commerce event may be in `commerce`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa

from features import commerce, database, driver, erased
from features.commerce import LONGEST_ID
from features.vocabulary import ANONYMOUS, CHANNELS, Event, EventProblem

__all__ = ["EventLog", "EventProblem", "check", "event_of"]

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
SKEW_S = 300.0
"""How far ahead of our clock a message may be dated; within it, it is taken to be of now."""


def check(record: Mapping[str, Any], known_at: float) -> Event:
    """The event that `record` describes, known to us at `known_at` (epoch seconds).

    `record` has message_id, name, occurred_at (epoch seconds), body, and optionally user_id,
    anonymous_id, channel, location_id. Raises EventProblem for the first field that is wrong.
    """
    occurred_at = record.get("occurred_at")
    if not isinstance(occurred_at, int | float) or occurred_at != occurred_at:
        raise EventProblem("timestamp", f"`{occurred_at}` is no time; expected RFC 3339 such as 2026-11-20T10:00:00Z")
    if occurred_at > known_at + SKEW_S:
        raise EventProblem(
            "timestamp", f"`{_when(occurred_at)}` lies in the future; expected at most {_when(known_at + SKEW_S)}"
        )
    if occurred_at < EARLIEST:
        raise EventProblem("timestamp", f"`{_when(occurred_at)}` lies before 1990; expected 1990-01-01 or later")
    name = _id(record, "name", "event", required=True)
    channel = record.get("channel")
    body = record.get("body") or {}
    if not isinstance(body, Mapping):
        raise EventProblem("properties", f"`{str(body)[:40]}` is no object; expected {{…}}")
    if str(record.get("user_id") or "").startswith(ANONYMOUS):
        raise EventProblem(
            "userId", f"begins with `{ANONYMOUS}`, the mark of who has not logged in; expected another id"
        )
    return Event(
        message_id=_id(record, "message_id", "messageId", required=True) or "",
        name=name or "",
        occurred_at=round(float(min(occurred_at, known_at)), 3),  # to the millisecond, as it is told
        known_at=float(known_at),
        user_id=_id(record, "user_id", "userId"),
        anonymous_id=_id(record, "anonymous_id", "anonymousId"),
        channel=channel if channel in CHANNELS else None,
        location_id=_id(record, "location_id", "context.location_id"),
        body=commerce.checked_body(name or "", body),
    )


def _id(record: Mapping[str, Any], key: str, field: str, required: bool = False) -> str | None:
    value = record.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        if required:
            raise EventProblem(field, "is missing; expected a text of 1 to 255 characters")
        return None
    if not isinstance(value, str):
        raise EventProblem(field, f"`{str(value)[:40]}` is no text; expected 1 to 255 characters")
    if len(value) > LONGEST_ID:
        raise EventProblem(field, f"`{value[:40]}…` has {len(value)} characters; expected at most {LONGEST_ID}")
    if found := commerce.CONTROL.search(value):
        place = f"character U+{ord(found[0]):04X} at position {found.start()}"
        raise EventProblem(field, f"holds the control {place}; expected a text without control characters")
    return value


def _when(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return str(moment)


class EventLog:
    """The append-only table of events. Methods take the caller's transaction."""

    table = database.events

    def append(self, connection: sa.Connection, event: Event, customer_id: str | None) -> int | None:
        """Store `event` for `customer_id`; its sequence number, or None where the message is already there."""
        return self.append_many(connection, [(event, customer_id)]).get(event.message_id)

    def append_many(self, connection: sa.Connection, events: Sequence[tuple[Event, str | None]]) -> dict[str, int]:
        """Store `(event, customer_id)`s in their order; the sequence number of each new one by its message id.

        An erased message is none: sent again, it is a duplicate.
        """
        if not events:
            return {}
        statement = _new(connection.dialect.name)
        gone = erased.messages(connection, (event.message_id for event, _ in events))
        rows = [_row(event, customer_id) for event, customer_id in events if event.message_id not in gone]
        return {message_id: seq for seq, message_id in driver.each(connection, statement, rows)}

    def of_customer(self, connection: sa.Connection, customer_id: str) -> list[Event]:
        """Everything known of one customer, in the order of the fold."""
        columns = self.table.c
        rows = connection.execute(sa.select(self.table).where(columns.customer_id == customer_id))
        return sorted((event_of(row) for row in rows), key=lambda event: event.key)

    def known_before(self, connection: sa.Connection, customer_ids: Iterable[str], seq: int) -> set[str]:
        """Those of the customers that the log knew before that number, as from a file that is not built yet."""
        asked = [{"customer": customer_id, "seq": seq} for customer_id in customer_ids]
        return {row[0] for row in driver.each(connection, _KNOWN_BEFORE, asked)}

    def all_by_customer(self, connection: sa.Connection) -> Iterator[tuple[str, list[tuple[int, Event]]]]:
        """Every customer with `(seq, event)` in the order of knowing, one customer in memory at a time."""
        columns = self.table.c
        statement = (
            sa.select(self.table)
            .where(columns.customer_id.is_not(None))
            .order_by(columns.customer_id, columns.known_at, columns.seq)
            .execution_options(yield_per=5_000)
        )
        current: str | None = None
        found: list[tuple[int, Event]] = []
        for row in connection.execute(statement):
            if row.customer_id != current:
                if current is not None:
                    yield current, found
                current, found = row.customer_id, []
            found.append((row.seq, event_of(row)))
        if current is not None:
            yield current, found


def event_of(row: Any) -> Event:
    """The event of one row of the log."""
    return Event(
        message_id=row.message_id,
        name=row.name,
        occurred_at=row.occurred_at,
        known_at=row.known_at,
        user_id=row.user_id,
        anonymous_id=row.anonymous_id,
        channel=row.channel,
        location_id=row.location_id,
        body=orjson.loads(row.body),
    )


def _row(event: Event, customer_id: str | None) -> dict[str, Any]:
    return {
        "message_id": event.message_id,
        "customer_id": customer_id,
        "name": event.name,
        "occurred_at": event.occurred_at,
        "known_at": event.known_at,
        "user_id": event.user_id,
        "anonymous_id": event.anonymous_id,
        "channel": event.channel,
        "location_id": event.location_id,
        "body": orjson.dumps(event.body),
    }


@cache
def _new(dialect: str) -> sa.sql.dml.ReturningInsert[tuple[int, str]]:
    """Append what is not there yet; gives the sequence number and message id of just those."""
    table = database.events
    names = (column.name for column in table.columns if column is not table.c.seq)
    statement = database.insert_of(dialect, table).values(database.by_name(*names))
    statement = statement.on_conflict_do_nothing(index_elements=["message_id"])
    return statement.returning(table.c.seq, table.c.message_id)


_KNOWN_BEFORE = (
    sa.select(database.events.c.customer_id)
    .where(database.events.c.customer_id == sa.bindparam("customer"), database.events.c.seq < sa.bindparam("seq"))
    .limit(1)
)
