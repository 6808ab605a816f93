"""What the shared signals say now: stock per product and location, uses of offers, and how old each feed is.

Every worker keeps them in memory and reloads what changed before it decides, so that an event
acknowledged by one worker is seen by the next decision of any other. On SQLite `PRAGMA data_version`
tells at a cost of microseconds whether another connection has committed; elsewhere the highest sequence does. While
events come in that is before nearly every decision, so only what an event changed is read again: levels and uses by
their sequence, the feeds of places where their times add up to something else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from features import budgets, database, driver, stock
from features.budgets import Used
from features.vocabulary import ONLINE, Event

ABOUT_STOCK = frozenset({stock.UPDATED, *stock.MOVES})
_ABOUT = {"Support Case Opened": "cases", "Support Case Resolved": "cases", "Consent Updated": "consent"}


MOST_PLACES = 1_000


@dataclass(frozen=True, slots=True)
class Level:
    """The sellable stock of one product at one location, and the message that said so."""

    quantity: int
    occurred_at: float
    message_id: str


class Signals:
    """Stock and feed times of a workspace, as of the last `refresh`."""

    def __init__(self, engine: sa.Engine):
        self._engine = engine
        self._lock = threading.Lock()
        self._reader = database.watching(engine)
        self._version: object = None
        highest = sa.select(sa.func.max(database.events.c.seq))
        watched = "PRAGMA data_version" if engine.dialect.name == "sqlite" else highest
        self._changed = driver.again_and_again(self._reader, watched)
        self._new_levels = driver.rows_again(self._reader, _NEW_LEVELS)
        self._whole_feeds = driver.rows_again(self._reader, _WHOLE_FEEDS)
        self._placed_feeds = driver.rows_again(self._reader, _PLACED_FEEDS)
        self._places_heard = driver.again_and_again(self._reader, _PLACES_HEARD)
        self._seq = -1
        self._stock: dict[str, dict[str, Level]] = {}
        self._feeds: dict[tuple[str, str], float] = {}
        self._places: tuple[int, int] | None = None
        self._heard: dict[tuple[tuple[str, ...], str | None], dict[str, float | None]] = {}
        self._uses = budgets.Uses(self._reader)
        self.refresh()

    def close(self) -> None:
        self._reader.close()

    def refresh(self) -> None:
        """Take in what was committed since the last call, by whomever."""
        with self._lock:
            version = self._changed()[0]
            if version == self._version:
                return
            for product_id, location_id, sellable, occurred_at, message_id, seq in self._new_levels(after=self._seq):
                self._stock.setdefault(location_id, {})[product_id] = Level(sellable, occurred_at, message_id)
                self._seq = seq
            self._refresh_feeds()
            self._uses.refresh()
            self._version = version

    def _refresh_feeds(self) -> None:
        """Those of a place only where one of them was heard of: there are as many as shops."""
        feeds = {(signal, ""): last_at for signal, last_at in self._whole_feeds()}
        places = tuple(self._places_heard())
        if places != self._places:
            feeds |= {(signal, place): last_at for signal, place, last_at in self._placed_feeds()}
            self._places, self._feeds = places, feeds
        else:
            self._feeds = {**self._feeds, **feeds}
        self._heard = {}

    def stock_at(self, location_id: str) -> Mapping[str, Level]:
        """The levels known at one location, by product."""
        return self._stock.get(location_id, {})

    def used(self, offer_id: str, at: float) -> Used:
        """How often the offer has been accepted, ever and on the day of `at`."""
        return self._uses.of(offer_id, at)

    def last_at(self, signal: str, location_id: str = "") -> float | None:
        """When the feed of `signal` (at that location, or as a whole) last said anything; None if never."""
        times = [t for t in (self._feeds.get((signal, "")), self._feeds.get((signal, location_id))) if t is not None]
        return max(times, default=None)

    def heard(self, signals: tuple[str, ...], location_id: str | None) -> Mapping[str, float | None]:
        """When each of these feeds was last heard of, that of stock for one location. Told alike until a `refresh`."""
        memory = self._heard  # before it is read what belongs there: another thread may refresh meanwhile
        found = memory.get((signals, location_id))
        if found is None:
            found = {signal: self.last_at(signal) for signal in signals}
            found["stock"] = self.last_at("stock", location_id) if location_id else None
            if len(memory) < MOST_PLACES:  # a caller may name any
                memory[signals, location_id] = found
        return found


def feeds_of(event: Event, customer_id: str | None) -> Iterator[tuple[str, str]]:
    """The feeds that an event is a word of, each as `(signal, location_id)`; '' stands for all locations."""
    place = event.body.get("location_id") or event.location_id
    if event.name == "Feed Alive":
        signal = event.body["signal"]
        yield signal, (place or "") if signal == "stock" else ""  # the others are of no place
    elif event.name in ABOUT_STOCK:
        yield "stock", place or ONLINE
    if customer_id is not None:
        yield "profile", ""
        if event.name in _ABOUT:
            yield _ABOUT[event.name], ""


def heard(connection: sa.Connection, feeds: Mapping[tuple[str, str], float]) -> None:
    """Note that the feed of each `(signal, location_id)` was alive at that moment."""
    rows = [{"signal": s, "location_id": place, "last_at": at} for (s, place), at in sorted(feeds.items())]
    driver.each(connection, _hearing(connection.dialect.name), rows)


@cache
def _hearing(dialect: str) -> sa.Insert:
    new = database.insert_of(dialect, database.feeds).values(database.by_name("signal", "location_id", "last_at"))
    last_at = new.excluded.last_at
    newer = database.feeds.c.last_at < last_at
    return new.on_conflict_do_update(index_elements=["signal", "location_id"], set_={"last_at": last_at}, where=newer)


_table, _heard_of = database.stock, database.feeds
_NEW_LEVELS = (
    sa.select(
        _table.c.product_id,
        _table.c.location_id,
        _table.c.quantity - _table.c.reserved,
        _table.c.occurred_at,
        _table.c.message_id,
        _table.c.seq,
    )
    .where(_table.c.seq > sa.bindparam("after"))
    .order_by(_table.c.seq)
)
_WHOLE_FEEDS = sa.select(_heard_of.c.signal, _heard_of.c.last_at).where(_heard_of.c.location_id == "")
_PLACED_FEEDS = sa.select(_heard_of.c.signal, _heard_of.c.location_id, _heard_of.c.last_at).where(
    _heard_of.c.location_id != ""
)
_PLACES_HEARD = (  # the times only rise: where their sum, in milliseconds, is the same, so is each of them
    sa.select(sa.func.count(), sa.func.sum(sa.cast(sa.func.round(_heard_of.c.last_at * 1000), sa.BigInteger))).where(
        _heard_of.c.location_id != ""
    )
)
