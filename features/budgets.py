"""How often each offer has been accepted by all customers together, per day: what its budget is held against.

Counted in the transaction that stores the response, so a repeated message counts once and two workers never
lose one. One decision's offer is taken up once, whatever says so and how often (a coupon, the order, `/respond`):
on the first day that any of them names. What names none of our decisions counts by itself. What was accepted on a day
that is over counts for that day, whenever we hear of it. A day is UTC's. Whether a budget is spent is the business of
a rule.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import sqlalchemy as sa

from features import database, driver, erased
from features.vocabulary import DAY_S, Event

_OURS = re.compile(r"\d{8}-[0-9a-f]+-[0-9a-f]+-[0-9a-f]{8}")
"""An id of a decision."""


class Used(NamedTuple):
    """Times accepted: ever, and on the day asked about."""

    total: int = 0
    today: int = 0


class Uses:
    """The counts of a workspace as of the last `refresh`."""

    def __init__(self, connection: sa.Connection) -> None:
        """Over a `watching` connection."""
        self._seq = -1
        self._by_day: dict[str, dict[int, int]] = {}
        self._total: dict[str, int] = {}
        self._new = driver.rows_again(connection, _NEW)

    def refresh(self) -> None:
        """Take in what was counted since the last call."""
        for offer_id, day, uses, seq in self._new(after=self._seq):
            days = self._by_day.setdefault(offer_id, {})
            self._total[offer_id] = self._total.get(offer_id, 0) + uses - days.get(day, 0)
            days[day] = uses
            self._seq = seq

    def of(self, offer_id: str, at: float) -> Used:
        return Used(self._total.get(offer_id, 0), self._by_day.get(offer_id, {}).get(day_of(at), 0))


def day_of(at: float) -> int:
    return int(at // DAY_S)


def counts(event: Event) -> bool:
    """Whether the event is an offer taken up."""
    return event.name == "Offer Responded" and event.body.get("response") == "accepted"


def note(connection: sa.Connection, event: Event, seq: int) -> None:
    """Count a new event of the log if it is an offer taken up that was not counted yet."""
    if not counts(event):
        return
    day = day_of(event.occurred_at)
    before = _counted_for(connection, event, day)
    if before is not None and before <= day:
        return
    uses = [(day, 1)] if before is None else [(before, -1), (day, 1)]
    values = [{"offer_id": event.body["offer_id"], "day": each, "uses": more, "seq": seq} for each, more in uses]
    driver.each(connection, _counting(connection.dialect.name), values)


def _counted_for(connection: sa.Connection, event: Event, day: int) -> int | None:
    """The day for which this offer of this decision was counted, None if it was not; from now on the earlier one.

    What is kept of the two is a mark, which tells of nobody: it stays when the customer is erased, as the count does.
    """
    decision_id = event.body.get("decision_id")
    if not isinstance(decision_id, str) or not _OURS.fullmatch(decision_id):  # anything may stand there
        return None
    mark = erased.mark(connection, "acceptance", f"{decision_id}\0{event.body['offer_id']}")
    found = driver.each(connection, _BEFORE, [{"of": mark}])
    before: int | None = found[0][0] if found else None
    if before is None or day < before:
        driver.each(connection, _marking(connection.dialect.name), [{"mark": mark, "day": day}])
    return before


@cache
def _counting(dialect: str) -> sa.Insert:
    """Made once, see `database.insert_of`."""
    table = database.offer_uses
    new = database.insert_of(dialect, table).values(database.by_name("offer_id", "day", "uses", "seq"))
    more = {"uses": table.c.uses + new.excluded.uses, "seq": new.excluded.seq}
    return new.on_conflict_do_update(index_elements=["offer_id", "day"], set_=more)


@cache
def _marking(dialect: str) -> sa.Insert:
    new = database.insert_of(dialect, database.acceptances).values(database.by_name("mark", "day"))
    return new.on_conflict_do_update(index_elements=["mark"], set_={"day": new.excluded.day})


_BEFORE = sa.select(database.acceptances.c.day).where(database.acceptances.c.mark == sa.bindparam("of"))
_table = database.offer_uses
_NEW = (
    sa.select(_table.c.offer_id, _table.c.day, _table.c.uses, _table.c.seq)
    .where(_table.c.seq > sa.bindparam("after"))
    .order_by(_table.c.seq)
)
