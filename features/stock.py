"""What a message about stock does to the level of its product and location, in whatever order the messages come.

A `Stock Updated` counts what is sellable at its moment; of the counts the latest holds. A `Stock Reserved` or `Stock
Released` moves the level from its own moment on. So moves are kept until a count that is as late or later is known:
one that comes late, from before them, takes them with it. Levels are read in `signals`.
"""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from features import database, driver
from features.vocabulary import ONLINE, Event

UPDATED = "Stock Updated"
MOVES = frozenset({"Stock Reserved", "Stock Released"})
Shelf = tuple[str, str]
"""A product and a location."""


def shelf_of(event: Event) -> Shelf:
    """The product and the location that a message about stock is about."""
    return event.body["product_id"], event.body.get("location_id") or event.location_id or ONLINE


def amount_of(event: Event) -> int:
    """How many fewer can be sold after a move; negative where they are more."""
    quantity: int = event.body["quantity"]
    return quantity if event.name == "Stock Reserved" else -quantity


def take(connection: sa.Connection, event: Event, seq: int) -> bool:
    """Take in a new message; False where it changes no level: a later count includes it, or there is none yet."""
    return _count(connection, event, seq) if event.name == UPDATED else _move(connection, event, seq)


def _count(connection: sa.Connection, event: Event, seq: int) -> bool:
    product_id, location_id = shelf_of(event)
    level = {
        "product_id": product_id,
        "location_id": location_id,
        "quantity": event.body["quantity"],
        "reserved": 0,
        "occurred_at": event.occurred_at,
        "message_id": event.message_id,
        "seq": seq,
        "online_seq": 0,
    }
    if not driver.each(connection, _counting(connection.dialect.name), [level]):
        return False
    shelf = {"product": product_id, "location": location_id}
    driver.each(connection, _COUNTED, [{**shelf, "at": event.occurred_at}])
    driver.each(connection, _MOVED_SINCE, [shelf])
    return True


def _move(connection: sa.Connection, event: Event, seq: int) -> bool:
    product_id, location_id = shelf_of(event)
    move = {"occurred_at": event.occurred_at, "amount": amount_of(event)}
    kept = {"product_id": product_id, "location_id": location_id, "seq": seq, **move}
    driver.each(connection, _KEEPING, [kept])
    values = {"product": product_id, "location": location_id, "now": seq, "at": event.occurred_at}
    return bool(driver.each(connection, _MOVING, [{**values, "by": move["amount"]}]))


# Made once, see `database.insert_of`.

_level, _moves = database.stock, database.stock_moves


@cache
def _counting(dialect: str) -> sa.sql.dml.ReturningInsert[tuple[int]]:
    names = ("quantity", "reserved", "occurred_at", "message_id", "seq", "online_seq")
    new = database.insert_of(dialect, _level).values(database.by_name("product_id", "location_id", *names))
    newer = sa.tuple_(_level.c.occurred_at, _level.c.message_id) < sa.tuple_(
        new.excluded.occurred_at, new.excluded.message_id
    )
    changes = {name: new.excluded[name] for name in names}
    return new.on_conflict_do_update(index_elements=["product_id", "location_id"], set_=changes, where=newer).returning(
        _level.c.seq
    )


def _of_shelf(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.product_id == sa.bindparam("product"), table.c.location_id == sa.bindparam("location"))


_KEEPING = sa.insert(_moves).values(database.by_name("product_id", "location_id", "seq", "occurred_at", "amount"))
_COUNTED = sa.delete(_moves).where(_of_shelf(_moves), _moves.c.occurred_at <= sa.bindparam("at"))
_MOVED_SINCE = (
    sa.update(_level)
    .where(_of_shelf(_level), sa.exists().where(_of_shelf(_moves)))
    .values(reserved=sa.select(sa.func.sum(_moves.c.amount)).where(_of_shelf(_moves)).scalar_subquery())
)
_MOVING = (
    sa.update(_level)
    .where(_of_shelf(_level), _level.c.occurred_at < sa.bindparam("at"))
    .values(reserved=_level.c.reserved + sa.bindparam("by"), seq=sa.bindparam("now"), online_seq=0)
    .returning(_level.c.seq)
)
