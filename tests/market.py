"""A small made-up market for tests of training: customers with habits, campaigns, and who redeemed what."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from features import build, database
from features.catalog import Catalog
from features.events import EventLog
from features.vocabulary import DAY_S, Event, Offer, Product
from features.workspace import Workspace

BEGIN = 1_750_000_000.0
DAYS = 330
END = BEGIN + DAYS * DAY_S
CUSTOMERS = 60
CATEGORIES = ("bread", "cheese", "tea", "soap")
PRODUCTS = {
    f"{category}-{number}": Product(
        f"{category}-{number}",
        category,
        category,
        "food",
        2.0 + number,
        manufacturer=f"maker {number % 2}",
        brand="own",
    )
    for category in CATEGORIES
    for number in range(4)
}
CAMPAIGN_DAYS = (80, 130, 180, 230)
CAMPAIGN_LENGTH = 30


def offers() -> dict[str, Offer]:
    """Per campaign one coupon for each category, over two of its products."""
    found = {}
    for day in CAMPAIGN_DAYS:
        for category in CATEGORIES:
            offer_id = f"campaign-{day}-{category}"
            found[offer_id] = Offer(
                offer_id,
                "promotion",
                (f"{category}-0", f"{category}-1"),
                group=f"campaign-{day}",
                valid_from=BEGIN + day * DAY_S,
                valid_until=BEGIN + (day + CAMPAIGN_LENGTH) * DAY_S,
            )
    return dict(sorted(found.items()))


def catalog() -> Catalog:
    return Catalog(PRODUCTS, {}, offers())


def history(seed: int = 1) -> Iterator[Event]:
    """Everybody has a favourite category and a rhythm; a third drifts away; coupons go to the favourite mostly."""
    draw = random.Random(seed)
    for number in range(CUSTOMERS):
        customer = f"c{number:03}"
        favourite, every = draw.choice(CATEGORIES), draw.choice((4, 8, 16))
        leaves = draw.uniform(120, 320) if number % 3 == 0 else DAYS
        day, orders = draw.uniform(0, every), 0
        while day < leaves:
            yield _order(customer, orders, day, favourite if draw.random() < 0.7 else draw.choice(CATEGORIES), draw)
            day, orders = day + draw.uniform(0.5, 1.5) * every, orders + 1
        for sent in CAMPAIGN_DAYS:
            at = BEGIN + sent * DAY_S
            yield Event(
                f"sent-{sent}-{customer}", "Campaign Sent", at, at, customer, body={"group": f"campaign-{sent}"}
            )
            if sent < leaves and draw.random() < 0.5:
                offer_id = f"campaign-{sent}-{favourite if draw.random() < 0.85 else draw.choice(CATEGORIES)}"
                body = {"offer_id": offer_id, "offer_kind": "promotion", "response": "accepted"}
                used = at + draw.uniform(1, CAMPAIGN_LENGTH - 1) * DAY_S
                yield Event(f"used-{sent}-{customer}", "Offer Responded", used, used, customer, body=body)


def _order(customer: str, number: int, day: float, category: str, draw: random.Random) -> Event:
    product = f"{category}-{draw.randrange(4)}"
    line = {"product_id": product, "quantity": 1, "price": PRODUCTS[product].price, "category": category}
    at = BEGIN + day * DAY_S
    body = {"order_id": f"{customer}-{number}", "products": [line]}
    return Event(f"order-{customer}-{number}", "Order Completed", at, at, customer, channel="store", body=body)


def fill(workspace: Workspace, until: float = END) -> None:
    """The catalog files and everything known by `until` into the event log."""
    lines = ["product_id,name,category,department,price,manufacturer,brand"]
    lines += [f"{p.product_id},{p.name},{p.category},food,{p.price},{p.manufacturer},own" for p in PRODUCTS.values()]
    (workspace.home / "products.csv").write_text("\n".join(lines) + "\n")
    (workspace.home / "offers.yaml").write_text("offers:\n" + "".join(map(_entry, offers().values())))
    with database.transaction(database.connect(workspace)) as connection:
        EventLog().append_many(connection, [(e, e.user_id) for e in history() if e.known_at <= until])


def _entry(offer: Offer) -> str:
    products = ", ".join(offer.product_ids)
    return (
        f"- {{offer_id: {offer.offer_id}, kind: promotion, group: {offer.group}, product_ids: [{products}], "
        f"valid_from: '{_when(offer.valid_from)}', valid_until: '{_when(offer.valid_until)}'}}\n"
    )


def _when(moment: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment, UTC).isoformat()


def made(home: Path, until: float = END) -> Workspace:
    """The market in a workspace of its own, built."""
    workspace = Workspace(home)
    home.mkdir(parents=True)
    fill(workspace, until)
    build.build(workspace)
    return workspace
