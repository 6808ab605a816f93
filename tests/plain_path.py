"""A whole decision once more, by the plainest way there is: what a tutorial would do, for what the engine answers.

The profile, its features and the stock are read by Feast's official `get_online_features`; the customer's events, the
feeds and the uses of budgets from the event log. `reference` applies the rules, `plain_scores` scores with LightGBM's
`Booster`, `plain_decision` puts it together. Contacts, and what another channel has shown, are known from the answers
that were told before. Of serving there are only records without behaviour (`Facts`), the rulebook's file as it is read,
and the texts of treatments, made anew each time. Nothing is kept from one decision for the next.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from plain_decision import Decision
from plain_scores import Entry, Model, entries_of, products_of
from reference import World

from features import database
from features.catalog import load_catalog
from features.events import EventLog
from features.profiles import FEATURES, Profile
from features.signals import Level
from features.vocabulary import DAY_S, OUTBOUND, Event, Offer
from features.workspace import Workspace
from serving import rulebook
from serving.facts import Carried, Contact, Contacts, Dismissal, Facts, Promised, Shop

TASKS = ("propensity", "churn", "returns")
STOCK = ("Stock Updated", "Stock Reserved", "Stock Released")


@dataclass(frozen=True)
class Answered:
    """A decision that was told: for whom, when, and since when its offers were shown in whatever channel."""

    customer_id: str
    at: float
    since: float
    decision_id: str
    channel: str
    kinds: tuple[str, ...]
    offers: tuple[Promised, ...]
    preview: bool


class Log:
    """What is to be known from the event log of everybody; read on before each decision."""

    def __init__(self, engine: sa.Engine):
        self.engine, self.seq = engine, -1
        self.logins: dict[str, str] = {}
        self.feeds: dict[tuple[str, str], float] = {}
        self.shelves: dict[tuple[str, str], tuple[float, str]] = {}
        self.taken_up: dict[tuple[str, str], int] = {}
        self.responses: list[tuple[Any, Mapping[str, Any]]] = []

    def read_on(self) -> None:
        with database.reading(self.engine) as connection:
            table = database.events
            for row in connection.execute(sa.select(table).where(table.c.seq > self.seq).order_by(table.c.seq)):
                self.seq = row.seq
                self._take(row)

    def _take(self, row: Any) -> None:
        said: list[tuple[str, str]] = [("profile", "")] if row.user_id or row.anonymous_id else []
        if row.name == "$identify" and row.user_id and row.anonymous_id:
            self.logins[row.anonymous_id] = row.user_id
        if row.name in STOCK or row.name == "Feed Alive":
            body = orjson.loads(row.body)
            place = body.get("location_id") or row.location_id
            if row.name == "Feed Alive":
                said.append((body["signal"], (place or "") if body["signal"] == "stock" else ""))
            else:
                said.append(("stock", place or "online"))
            if row.name == "Stock Updated":
                shelf = body["product_id"], place or "online"
                self.shelves[shelf] = max((row.occurred_at, row.message_id), self.shelves.get(shelf, (0.0, "")))
        if row.name.startswith("Support Case"):
            said.append(("cases", ""))
        if row.name == "Consent Updated":
            said.append(("consent", ""))
        if row.name == "Offer Responded":
            body = orjson.loads(row.body)
            self.responses.append((row, body))
            if body["response"] == "accepted":
                once, day = body.get("decision_id", row.message_id), math.floor(row.occurred_at / DAY_S)
                self.taken_up[body["offer_id"], once] = min(day, self.taken_up.get((body["offer_id"], once), day))
        for feed in said:
            self.feeds[feed] = max(row.occurred_at, self.feeds.get(feed, 0.0))

    def events(self, customer_id: str) -> list[Event]:
        with database.reading(self.engine) as connection:
            return EventLog().of_customer(connection, customer_id)

    def used(self, offer_id: str, day: int) -> tuple[int, int]:
        """In all, and on that day; what is said of one decision's offer again and again is one time, the first."""
        days = [each for (offer, _), each in self.taken_up.items() if offer == offer_id]
        return len(days), days.count(day)

    def heard(self, signal: str, place: str = "") -> float | None:
        return max((self.feeds[key] for key in {(signal, ""), (signal, place)} if key in self.feeds), default=None)


class Shelf(dict[str, "Level | None"]):
    """The stock of one place; the quantities by Feast, and the message that said so from the log."""

    def __init__(self, plain: Plain, place: str | None):
        self._plain, self._place = plain, place

    def get(self, product_id: str, default: Any = None) -> Any:
        if product_id not in self:
            self.ask([product_id])
        return self[product_id]

    def ask(self, products: Iterable[str]) -> None:
        missing = [each for each in dict.fromkeys(products) if each not in self] if self._place else []
        if not missing:
            return
        rows = [{"product_id": each, "location_id": self._place} for each in missing]
        found = self._plain.feast.get_online_features(features=["stock:quantity"], entity_rows=rows).to_dict()
        for product_id, quantity in zip(missing, found["quantity"], strict=True):
            known = self._plain.log.shelves.get((product_id, self._place or ""))
            self[product_id] = None if quantity is None or known is None else Level(quantity, *known)


class Shops(dict[str, Shop]):
    def __init__(self, plain: Plain):
        self._plain = plain

    def get(self, place: str, default: Any = None) -> Any:
        return self.setdefault(place, Shop(self._plain.log.heard("stock", place), Shelf(self._plain, place)))


class Plain:
    """The plain path over a workspace, as its files are now. `log` and what was `told` go on from one to the next."""

    def __init__(self, workspace: Workspace, log: Log, told: list[Answered]):
        from feast import FeatureStore

        self.feast = FeatureStore(repo_path=str(Path(rulebook.__file__).parent.parent / "features"))
        self.catalog, path = load_catalog(workspace), workspace.file("rulebook.yaml")
        self.book = rulebook.load(path)
        self.products = {each.offer_id: products_of(self.catalog, each) for each in self.catalog.offers.values()}
        self.log, self.told = log, told
        pointers = {task: workspace.champions / f"{task}.json" for task in TASKS}
        found = {task: orjson.loads(path.read_bytes()) for task, path in pointers.items() if path.exists()}
        models = workspace.home / "bentoml" / "models"
        self.models = {task: Model(models / each["tag"].replace(":", "/")) for task, each in found.items()}
        counts = workspace.home / "product_counts.json"
        self.counts = orjson.loads(counts.read_bytes()) if counts.exists() else None
        self.versions = {
            "rulebook": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
            "catalog": self.catalog.version,
            **{task: found[task]["version"] if task in found else None for task in TASKS},
        }

    def customer(self, ask: Any) -> str:
        """A login; an anonymous id whose login is known is that one's."""
        return ask.customer_id or self.log.logins.get(ask.anonymous_id, f"anonymous:{ask.anonymous_id}")

    def owner(self, customer_id: str) -> str:
        return self.log.logins.get(customer_id.removeprefix("anonymous:"), customer_id)

    def answer(self, ask: Any, now: float, seed: str, decision_id: str) -> dict[str, Any]:
        """What must be answered to `ask`; the seed of its draws, and its id, are the engine's own to choose."""
        self.log.read_on()
        return Decision(self, *self._world(ask, now, seed)).answer(decision_id)

    def note(self, ask: Any, answer: Mapping[str, Any], now: float) -> None:
        """This was told."""
        offers = tuple(
            Promised(
                each["offer_id"], each["product_id"], self._offer(each).value.discount, self._offer(each).valid_until
            )
            for each in answer["offers"]
        )
        before = next((each for each in self.told if each.decision_id == answer["continued_from"]), None)
        since = now
        if before and {each.offer_id for each in before.offers} & {each.offer_id for each in offers}:
            since = now if ask.continue_from else before.since
        kinds = tuple(sorted({each["kind"] for each in answer["offers"]}))
        who = answer["customer_id"], now, since, answer["decision_id"], answer["channel"]
        self.told.append(Answered(*who, kinds, offers, ask.preview))

    def _offer(self, shown: Mapping[str, Any]) -> Offer:
        return self.catalog.offers[shown["offer_id"]]

    def _world(self, ask: Any, now: float, seed: str) -> tuple[World, dict[str, Entry] | None]:
        customer_id = self.customer(ask)
        row = self.feast.get_online_features(
            features=self.feast.get_feature_service("decision"),
            entity_rows=[{"customer_id": customer_id, "as_of": now}],
        ).to_dict()
        state, items = row["state"][0], row["items"][0]
        location_id = ask.location_id or (None if ask.channel == "store" else "online")
        place = self.catalog.locations.get(location_id or "")
        facts = Facts(
            decision_id="",
            now=now,
            customer_id=customer_id,
            channel=ask.channel,
            placement=ask.placement,
            limit=ask.limit,
            location_id=location_id,
            market=place.market if place else None,
            product_id=ask.product_id,
            cart=tuple(ask.cart),
            profile=Profile(orjson.loads(state)) if state else None,
            stock=Shelf(self, location_id),
            feeds={
                **{signal: self.log.heard(signal) for signal in ("profile", "cases", "consent")},
                "stock": self.log.heard("stock", location_id) if location_id else None,
            },
            contacts=self._contacts(customer_id, now) if ask.channel in OUTBOUND else Contacts(),
            carried=self._carried(ask, customer_id, now),
            shops=Shops(self),
            used={each: self.log.used(each, math.floor(now / DAY_S)) for each in self.catalog.offers},
            seed=seed,
        )
        features = {name: math.nan if row[name][0] is None else row[name][0] for name in FEATURES}
        world = World(facts, self.log.events(customer_id), self.book, self.catalog, features)
        return world, entries_of(items) if facts.known else None

    def _contacts(self, customer_id: str, now: float) -> Contacts:
        """Outbound decisions with an offer hold a contact for a while, and have made one when it was shown."""
        mine = {e.decision_id: e for e in self.told if self.owner(e.customer_id) == customer_id and e.offers}
        made, waved = {}, []
        for each in mine.values():
            if each.channel in OUTBOUND and not each.preview:
                until = round(each.at + self.book.contact_policy.reserved_minutes * 60, 3)
                made[each.decision_id] = Contact(each.decision_id, each.channel, each.kinds, each.at, until)
        for row, body in self.log.responses:
            decided = mine.get(body.get("decision_id"))
            if decided and body["response"] == "dismissed":
                waved.append(Dismissal(row.message_id, row.occurred_at))
            elif decided and body["response"] == "shown" and decided.channel in OUTBOUND:
                held = made.get(decided.decision_id)
                if held is None or held.until is not None:
                    told = decided.decision_id, decided.channel, decided.kinds, row.occurred_at
                    made[decided.decision_id] = Contact(*told, None)
        return Contacts(tuple(made.values()), tuple(waved))

    def _carried(self, ask: Any, customer_id: str, now: float) -> Carried | None:
        """What the caller names, else what another channel has last shown this customer within some minutes."""
        if ask.continue_from is not None:
            named = next(each for each in self.told if each.decision_id == ask.continue_from)
            return Carried(named.decision_id, now, named.offers)
        last: dict[str, Answered] = {}
        for each in self.told:
            if self.owner(each.customer_id) == customer_id and each.offers and not each.preview:
                last[each.channel] = each
        within = self.book.continuity.minutes * 60
        found = [e for e in last.values() if e.channel != ask.channel and now < round(e.since + within, 3)]
        newest = max(found, key=lambda each: (each.at, each.decision_id), default=None)
        if newest is None:
            return None
        return Carried(newest.decision_id, newest.since, newest.offers, round(newest.since + within, 3))
