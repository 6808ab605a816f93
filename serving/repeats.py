"""The same `request_id` again within a day: the same decision, and nothing spent twice.

A question counts as the same by all that it asks for (`asked`), also where its customer has become another one's
since, as by a login. The row is written in the transaction that makes
the decision count, so two callers at once agree on one decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from features import database, identity
from features.vocabulary import DAY_S
from serving.decision_log import DecisionLog
from serving.problems import bad_input
from serving.question import Ask

_table = database.requests


def asked(ask: Ask) -> dict[str, Any]:
    """The question as a record keeps it."""
    return {
        "customer_id": ask.customer_id,
        "anonymous_id": ask.anonymous_id,
        "channel": ask.channel,
        "placement": ask.placement,
        "limit": ask.limit,
        "location_id": ask.location_id,
        "product_id": ask.product_id,
        "cart": list(ask.cart),
        "continue_from": ask.continue_from,
        "preview": ask.preview,
    }


def answered(
    connection: sa.Connection, log: DecisionLog, ask: Ask, customer_id: str, now: float
) -> Mapping[str, Any] | None:
    """The decision that this `request_id` was answered with; None if it is new. Raises Problem for another question."""
    if ask.request_id is None:
        return None
    same = sa.select(_table).where(_table.c.request_id == ask.request_id, now - _table.c.requested_at < DAY_S)
    rows = connection.execute(same.where(_table.c.customer_id == customer_id)).all()
    if not rows:  # or asked before a login, or under an id that has proved to be this customer's
        names = identity.names_of(connection, customer_id)
        rows = connection.execute(same.where(_table.c.customer_id.in_(names))).all()
    if not rows:
        return None
    row = next((each for each in rows if each.content == _content(ask)), None)
    if row is None:
        raise bad_input(
            "request_id", f"`{ask.request_id}` was used for another question within a day; expected a new one"
        )
    record = log.find(row.decision_id)
    return None if record is None else record["answer"]


def remember(connection: sa.Connection, ask: Ask, customer_id: str, now: float, decision_id: str) -> None:
    """From now on this `request_id` means that decision."""
    if ask.request_id is None:
        return
    values = {"requested_at": now, "content": _content(ask), "decision_id": decision_id}
    statement = database.insert(connection, _table)
    statement = statement.values(customer_id=customer_id, request_id=ask.request_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["customer_id", "request_id"], set_=values))


def prune(connection: sa.Connection, now: float) -> int:
    """Delete what is older than a day; how many rows went."""
    return connection.execute(sa.delete(_table).where(_table.c.requested_at < now - DAY_S)).rowcount


def _content(ask: Ask) -> str:
    return hashlib.sha256(orjson.dumps(asked(ask))).hexdigest()
