"""What the shop's pages know, read from the engine of this worker: customer, stock, orders, events, decisions.

Nothing is written here but what a decision writes itself, and every decision is a preview: the pages behind the counter
look on. What is shown to the customer is decided by the widget's own `/decide`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson
import sqlalchemy as sa

from features import database, habits
from features.catalog import Catalog
from features.events import event_of
from features.ownership import Resolver
from features.profile_now import ProfileNow, StoreDown
from features.profiles import Profile
from features.signals import Level, Signals
from features.vocabulary import ANONYMOUS, ONLINE, Event, Location
from serving.decide import Policy
from serving.ports import CustomerDesk
from serving.problems import not_now
from serving.question import Ask, Question
from serving.shop import orders
from serving.shop.aisles import Aisles
from serving.shop.told import Told, told
from serving.shop.window import Window

MOST_EVENTS = 12
MOST_ORDER_EVENTS = 200
PLACES = {"web": "home", "email": "newsletter", "call_centre": "agent", "store": "agent"}
"""The channels whose decisions the drawer shows, each with its placement."""


class Engine(Protocol):
    """What the shop needs of `serving.engine.Engine`."""

    resolver: Resolver
    signals: Signals
    database: sa.Engine
    store: Any
    customers: CustomerDesk

    @property
    def policy(self) -> Policy: ...
    def decision(self, ask: Ask, now: float) -> Mapping[str, Any]: ...


class Backroom:
    """One worker's view of the shop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._aisles: Aisles | None = None

    def aisles(self, engine: Engine) -> Aisles:
        """The shop's order of products: made anew with a new catalog, and when stock is first heard of."""
        engine.signals.refresh()
        catalog = engine.policy.catalog
        with self._lock:
            old = self._aisles
            if old is None or old.catalog is not catalog or not old.knows_stock:
                self._aisles = Aisles(catalog, _levels(engine.signals, catalog))
            assert self._aisles is not None
            return self._aisles


def _levels(signals: Signals, catalog: Catalog) -> dict[str, int]:
    """Per product the units online; 0 for what only a shop has."""
    found: dict[str, int] = {}
    for location_id in catalog.locations:
        for product_id, level in list(signals.stock_at(location_id).items()):
            online = level.quantity if location_id == ONLINE else 0
            found[product_id] = max(found.get(product_id, 0), online)
    return found


class Knowledge:
    """What is known at one moment about one customer, in one window."""

    def __init__(self, engine: Engine, window: Window, now: float, customer_id: str | None = None):
        self.engine, self.window, self.now = engine, window, now
        engine.signals.refresh()
        self.visitor_id = engine.resolver.customer(None, window.anonymous_id)
        self.customer_id = engine.resolver.customer(customer_id) if customer_id else self.visitor_id

    @property
    def catalog(self) -> Catalog:
        return self.engine.policy.catalog

    @property
    def signed_in(self) -> bool:
        return not self.customer_id.startswith(ANONYMOUS)

    def profile(self) -> Profile | None:
        try:
            seen: ProfileNow | None = self.engine.store.read(self.customer_id)
        except StoreDown:
            raise not_now("the profile store does not answer; try again in a second") from None
        return seen.profile if seen else None

    def home(self, profile: Profile | None) -> Location | None:
        """The customer's own store, as far as the catalog knows it."""
        found = habits.home(profile, self.now)
        return self.catalog.locations.get(found.location_id) if found else None

    def stores(self, home: Location | None) -> Sequence[Location]:
        """Two stores to visit: the customer's own, and the next one that keeps stock; else the two best stocked."""
        shops = [each for each in self.catalog.locations.values() if each.kind == "shop"]
        kept = {each.location_id: len(self.engine.signals.stock_at(each.location_id)) for each in shops}
        if home is not None:
            near = [place for _, place in self.catalog.shops_near(home.location_id) if kept[place]]
            chosen = [home.location_id, *(place for place in near if place != home.location_id)]
        else:
            chosen = []
        best = sorted(shops, key=lambda each: (-kept[each.location_id], each.location_id))
        ids = list(dict.fromkeys([*chosen, *(each.location_id for each in best)]))[:2]
        return [self.catalog.locations[each] for each in ids]

    def stock(self, product_id: str, location_id: str = ONLINE) -> int | None:
        level: Level | None = self.engine.signals.stock_at(location_id).get(product_id)
        return None if level is None else max(0, level.quantity)

    def decision(self, channel: str, location_id: str | None = None, limit: int = 3) -> Told:
        """What this channel would offer the customer now, and what it would not; nothing is spent by asking."""
        question = Question(
            self.customer_id, channel, PLACES[channel], limit, location_id=location_id, preview=True, explain=True
        )
        return told(self.engine.decision(question, self.now), self.catalog)

    def events(self, most: int = MOST_EVENTS) -> list[Event]:
        """The customer's latest events, the latest first."""
        table = database.events
        mine = sa.select(table).where(table.c.customer_id == self.customer_id)
        with database.reading(self.engine.database) as connection:
            rows = connection.execute(mine.order_by(table.c.seq.desc()).limit(most)).all()
        return [event_of(row) for row in rows]

    def sales(self) -> list[orders.Sale]:
        """The customer's latest orders."""
        table = database.events
        mine = sa.select(table).where(table.c.customer_id == self.customer_id, table.c.name.in_(orders.NAMES))
        with database.reading(self.engine.database) as connection:
            rows = connection.execute(mine.order_by(table.c.seq.desc()).limit(MOST_ORDER_EVENTS)).all()
        return orders.sales(event_of(row) for row in rows)

    def story(self, location_id: str | None = None) -> Mapping[str, Any] | None:
        """The answer of `GET /customers/…`."""
        raw = self.engine.customers.story(self.customer_id, self.now, "call_centre", location_id)
        return None if raw is None else orjson.loads(raw)

    def stamp(self) -> str:
        """Another one whenever the drawer may say something else: after events of the customer, stock, a new policy."""
        events, stock = database.events.c, database.stock.c
        last = sa.select(sa.func.max(events.seq)).where(events.customer_id == self.customer_id)
        with database.reading(self.engine.database) as connection:
            seqs = connection.scalar(last), connection.scalar(sa.select(sa.func.max(stock.seq)))
        version = str(self.engine.policy.versions.get("rulebook", ""))[-8:]
        return f"{self.customer_id}-{seqs[0] or 0}-{seqs[1] or 0}-{version}"
