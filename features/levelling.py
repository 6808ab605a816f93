"""Bringing Feast's online store level with our database: the second half of taking an event in.

Holding the rows' lock keeps an older write from winning, and who was erased meanwhile from coming back. What is
written is marked as such (`online_seq`), so that after a crash `everything` finds what is behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import sqlalchemy as sa

from features import database, driver


class OnlineStore(Protocol):
    """The part of `store.ProfileStore` that is written to while events come in."""

    @property
    def apart(self) -> bool: ...

    def write(self, rows: Iterable[tuple[str, int, float, bytes, bytes]], at_once: bool = False) -> None: ...

    def write_state(self, customer_id: str, seq: int, state: bytes, at_once: bool = False) -> bool: ...

    def write_stock(self, rows: Iterable[tuple[str, str, int, int]], at_once: bool = False) -> None: ...


class Levelling:
    """Of one workspace, in the turn of its writer."""

    def __init__(self, writer: driver.Writer, store: OnlineStore):
        self._writer, self._store = writer, store

    def everything(self, engine: sa.Engine) -> int:
        """Whatever is behind, as after a crash; how many rows that were."""
        table, shelf = database.profiles, database.stock
        with database.reading(engine) as connection:
            customers = connection.scalars(
                sa.select(table.c.customer_id).where(table.c.online_seq < table.c.seq).order_by(table.c.customer_id)
            ).all()
            behind = sa.select(shelf.c.product_id, shelf.c.location_id).where(shelf.c.online_seq < shelf.c.seq)
            shelves = [(row.product_id, row.location_id) for row in connection.execute(behind)]
        for some in database.chunks(customers):
            self.bring(some, [])
        for shelf_ids in database.chunks(shelves):
            self.bring([], shelf_ids)
        return len(customers) + len(shelves)

    def bring(
        self,
        customers: Sequence[str],
        shelves: Sequence[tuple[str, str]],
        seq: int = 0,
        states: Mapping[str, bytes] = MappingProxyType({}),
        at_once: bool = False,
    ) -> None:
        """Write online what is newer in our database; of `states`, profiles number `seq`, the entries are there."""
        if not (customers or shelves or states):
            return
        with self._writer.transaction(at_once) as connection:
            rest = [each for each, state in states.items() if not self._alone(connection, each, seq, state, at_once)]
            if rows := driver.of_ids(connection, _BEHIND, [*customers, *rest]):
                driver.each(connection, _LEVELLED, [{"customer": row[0]} for row in rows])
                self._store.write(rows, at_once)
            places = [{"product": product_id, "location": place} for product_id, place in shelves]
            if rows := driver.each(connection, _LEVEL_SHELF, places):
                self._store.write_stock(rows, at_once)

    def _alone(self, connection: sa.Connection, customer_id: str, seq: int, state: bytes, at_once: bool) -> bool:
        """Whether the customer's state could be written without the entries: nobody has changed the profile since."""
        if not driver.each(connection, _IS_STILL, [{"customer": customer_id, "now": seq}]):
            return False
        if not self._store.write_state(customer_id, seq, state, at_once):
            return False
        driver.each(connection, _LEVELLED, [{"customer": customer_id}])
        return True


# Made once, see `database.insert_of`.

_table, _shelf = database.profiles, database.stock
_ids: sa.BindParameter[list[str]] = sa.bindparam("ids", expanding=True)
_BEHIND = (
    sa.select(_table.c.customer_id, _table.c.seq, _table.c.known_at, _table.c.state, _table.c["items"])
    .where(_table.c.customer_id.in_(_ids), _table.c.online_seq < _table.c.seq)
    .with_for_update()
)
_IS_STILL = (
    sa.select(_table.c.seq)
    .where(_table.c.customer_id == sa.bindparam("customer"), _table.c.seq == sa.bindparam("now"))
    .with_for_update()
)
_LEVELLED = (  # a RETURNING here would cost SQLite four times as much: it then writes the whole row anew
    sa.update(_table).where(_table.c.customer_id == sa.bindparam("customer")).values(online_seq=_table.c.seq)
)
_LEVEL_SHELF = (
    sa.update(_shelf)
    .where(_shelf.c.product_id == sa.bindparam("product"), _shelf.c.location_id == sa.bindparam("location"))
    .values(online_seq=_shelf.c.seq)
    .returning(_shelf.c.product_id, _shelf.c.location_id, _shelf.c.quantity - _shelf.c.reserved, _shelf.c.seq)
)
