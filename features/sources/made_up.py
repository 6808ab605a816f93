"""What Complete Journey lacks and the demo needs. Made up, all of it, from what was sold; nothing real is changed.

- value: an offer earns a quarter of its products' median price; a coupon gives away what the store
  itself added to coupons on its products (the maker refunds the rest);
- locations: a shop's place within one region by the hash of its id, and the market that the place lies in;
- stock: twice the units sold a week over the last eight weeks, at least 3; online sums up all shops;
- `cross_sell` offers: 120 best sellers of the last eight weeks, one product each, at most 2 a category;
- the wording of all treatments, the names of products (from type and size), and which are `replenishable`:
  those of categories in which a household buys the same product again within 35 days (see there).

Treatments, names of shops and the head of offers.yaml say that they are made up.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from statistics import median

import pandas as pd

from features.sources.journey import ZONE, Journey
from features.vocabulary import DAY_S, ONLINE, Event, Offer, Value

__all__ = [
    "CROSS_SELLS",
    "best_sellers",
    "cross_sell",
    "cross_sells",
    "locations",
    "offers",
    "open_at_the_end",
    "products",
    "readable",
    "stock_events",
    "stock_levels",
]

MARGIN = 0.25
WEEKS = 8
CROSS_SELLS = 120
PER_CATEGORY = 2
HALF_YEAR_DAYS = 182
REPLENISHED_WITHIN_DAYS = 35
REPEATS = 100
REPEAT_SHARE = 1 / 3
MARKETS = {(True, False): "north-west", (True, True): "north-east", (False, False): "south-west"}
NOT_ADVERTISED = frozenset(
    {"CIGARETTES", "TOBACCO OTHER", "BEERS/ALES", "DOMESTIC WINE", "IMPORTED WINE", "MISC WINE", "LIQUOR", "NEWSPAPER"}
)
NO_GOODS = frozenset({"COUPON", "MISCELLANEOUS", "SPIRITS", "CNTRL/STORE SUP", "POSTAL CENTER", "TRAVEL & LEISURE"})
SPELT_OUT = {
    "frzn": "frozen", "refrgratd": "refrigerated", "veg": "vegetables", "drnks": "drinks", "drnk": "drink",
    "prod": "products", "prods": "products", "brkfst": "breakfast", "whlsm": "wholesome", "pwdr": "powder",
    "crystl": "crystal", "bn": "beans", "fd": "food", "hh": "household", "pnt": "peanut", "btr": "butter",
    "sald": "salad", "drsng": "dressing", "sndwch": "sandwich", "sprd": "spread", "mxs": "mixes", "dsh": "dishes",
    "wtr": "water", "sply": "supplies", "cleang": "cleaning", "sweetners": "sweeteners", "misc": "various",
    "saus": "sausage", "pkg": "packaged", "grnd": "ground", "cntrl": "control", "beeralemalt": "beer, ale, malt",
    "dnrs": "dinners", "trsh": "trash", "bg": "bags", "tiss": "tissues", "dnr": "dinner", "sherbts": "sherbets",
    "flvrd": "flavoured",
}  # fmt: skip


def readable(text: str) -> str:
    """A till's abbreviation in words: `FRZN MEAT/MEAT DINNERS` becomes `frozen meat, meat dinners`."""
    words = re.sub(r"\s*[/:;]\s*", ", ", re.sub(r"\(.*", "", text).lower()).replace(" - ", ", ")
    return " ".join(re.sub(r"\w+", lambda word: SPELT_OUT.get(word[0], word[0]), words).split()).strip(" ,.-")


def named(kind: str | None, category: str | None) -> str:
    """What a product is in words: its type, and its category where one word of type does not say it."""
    if not isinstance(kind, str):
        return readable(category) if isinstance(category, str) else ""
    what = readable(kind)
    about = readable(category) if isinstance(category, str) else ""
    return f"{what} ({about})" if about and " " not in what and what[:4] not in about else what


# ----------------------------------------------------------------------------------------- products


def products(journey: Journey) -> pd.DataFrame:
    """The rows of products.parquet; category, department, brand, maker and price are real."""
    frame = journey.products
    kinds, categories = frame["product_type"], frame["product_category"]
    pairs = list(zip(kinds, categories, strict=True))
    spelt = {pair: named(*pair).capitalize() for pair in set(pairs)}
    sizes = frame["package_size"].fillna("").str.strip().str.lower()
    names = [
        f"{spelt[pair]} {size}".strip() if spelt[pair] else f"Product {product_id}"
        for product_id, pair, size in zip(frame.index, pairs, sizes, strict=True)
    ]
    rows = pd.DataFrame(
        {
            "product_id": frame.index.astype(str),
            "name": names,
            "category": categories,
            "department": frame["department"],
            "price": frame["price"],
            "margin": (frame["price"] * MARGIN).round(2),
            "replenishable": categories.isin(replenished(journey.lines)),
            "brand": frame["brand"],
            "manufacturer": frame["manufacturer_id"].astype(str),
        }
    )
    return rows.reset_index(drop=True).sort_values("product_id", ignore_index=True)


def replenished(lines: pd.DataFrame) -> set[str]:
    """The categories whose products are used up and bought again.

    The median time between two trips of a household for the same product is at most 35 days, seen at
    least 100 times, and at least a third of all trips for such a product are repeats: milk, bread and
    eggs are; cheese just is; party supplies, spices and shampoo are not.
    """
    days = lines["at"] // int(DAY_S)
    trips = lines[["household_id", "product_id", "category"]].assign(day=days).dropna(subset=["category"])
    trips["pair"] = trips["household_id"] * (trips["product_id"].max() + 1) + trips["product_id"]
    trips = trips[["pair", "day", "category"]].sort_values(["pair", "day"])
    trips["gap"] = trips["day"].diff().where(trips["pair"].eq(trips["pair"].shift()))
    trips = trips[trips["gap"] != 0]  # a day is one trip
    by_category = trips.groupby("category")["gap"].agg(["size", "count", "median"])
    often = (by_category["count"] >= REPEATS) & (by_category["count"] >= REPEAT_SHARE * by_category["size"])
    return set(by_category.index[often & (by_category["median"] <= REPLENISHED_WITHIN_DAYS)])


# -------------------------------------------------------------------------------------------- offers


def offers(journey: Journey) -> list[Offer]:
    """Every coupon of every campaign, and the cross-sells; times are the data's own."""
    return _promotions(journey) + cross_sells(journey)


def open_at_the_end(journey: Journey, found: list[Offer]) -> list[Offer]:
    return [offer for offer in found if offer.valid_from <= journey.ends_at <= offer.valid_until]


def _promotions(journey: Journey) -> list[Offer]:
    """The coupons over real products, as `promotion`, with their campaign as `group`."""
    validity = {row.campaign_id: (row.valid_from, row.valid_until) for row in journey.campaigns.itertuples()}
    used = journey.lines[journey.lines["coupon"]].groupby("product_id")["coupon_match_disc"].agg(["sum", "count"])
    coupons = journey.coupons.join(journey.products[["price", "product_category"]], on="product_id")
    coupons = coupons.join(used, on="product_id").fillna({"sum": 0.0, "count": 0})
    columns = ["campaign_id", "coupon_upc", "product_id", "price", "product_category", "sum", "count"]
    rows = zip(*(coupons[column].tolist() for column in columns), strict=True)
    found = []
    for (campaign, coupon), group in groupby(rows, key=itemgetter(0, 1)):
        ids, prices, categories, given, uses = list(zip(*group, strict=True))[2:]
        sold = [price for price in prices if price > 0]
        what = next((readable(name) for name in categories if isinstance(name, str)), "selected products")
        about = f"Coupon {coupon} of campaign {campaign}, on {len(ids)} product{'s' if len(ids) > 1 else ''}."
        found.append(
            Offer(
                offer_id=f"campaign-{campaign}-coupon-{coupon}",
                kind="promotion",
                group=f"campaign-{campaign}",
                product_ids=tuple(map(str, ids)),
                valid_from=float(validity[campaign][0]),
                valid_until=float(validity[campaign][1]),
                value=Value(
                    margin=round(MARGIN * median(sold), 2) if sold else 0.0,
                    discount=round(sum(given) / sum(uses), 2) if sum(uses) else 0.0,
                ),
                treatments=_treatments(f"Save on {what}", f"{about} Wording and value are made up."),
            )
        )
    return found


def cross_sells(journey: Journey) -> list[Offer]:
    """The best sellers of the last weeks, one product each, spread over categories."""
    about = journey.products[["price", "product_category", "product_type", "department"]]
    sold = best_sellers(journey.lines, "basket_id", journey.ends_at)
    sold = sold.join(about, on="product_id").dropna(subset=["product_category"])
    sold = sold[~sold["product_category"].isin(NOT_ADVERTISED) & ~sold["department"].isin(NO_GOODS)]
    best = sold[sold["price"] > 0].groupby("product_category", sort=False).head(PER_CATEGORY).head(CROSS_SELLS)
    return [
        cross_sell(str(row.product_id), named(row.product_type, row.product_category), row.price, journey.ends_at)
        for row in best.itertuples(index=False)
    ]


def best_sellers(lines: pd.DataFrame, order: str, ends_at: float) -> pd.DataFrame:
    """The products of the last weeks with the `trips` that they were bought on, the most first."""
    trips = _recent(lines, ends_at).groupby("product_id")[order].nunique().rename("trips").reset_index()
    return trips.sort_values(["trips", "product_id"], ascending=[False, True], ignore_index=True)


def cross_sell(product_id: str, what: str, price: float, ends_at: float) -> Offer:
    """A made-up offer of one product, open for half a year before and after the data's end."""
    return Offer(
        offer_id=f"cross-sell-{product_id}",
        kind="cross_sell",
        product_ids=(product_id,),
        valid_from=ends_at - HALF_YEAR_DAYS * DAY_S,
        valid_until=ends_at + HALF_YEAR_DAYS * DAY_S,
        value=Value(margin=round(MARGIN * price, 2)),
        treatments=_treatments(f"How about {what}?", "Often bought in these weeks. A made-up offer."),
    )


def _treatments(title: str, body: str) -> dict[str, dict[str, str]]:
    said = {"title": title, "body": body}
    aloud = {"title": title, "body": f"Mention it if it fits: {body[0].lower() + body[1:]}"}
    written = dict.fromkeys(("web", "app", "email", "sms", "push"), said)
    return {**written, **dict.fromkeys(("call_centre", "store"), aloud)}


# ------------------------------------------------------------------------------- locations and stock


def locations(stores: list[int]) -> pd.DataFrame:
    """The rows of locations.parquet: `online`, and every one of `stores` at a place of its own."""
    rows = [(ONLINE, "online", "Online", None, None, None, None), *map(_shop, stores)]
    columns = ["location_id", "kind", "name", "market", "latitude", "longitude", "timezone"]
    return pd.DataFrame(rows, columns=columns)


def _shop(store_id: int) -> tuple[str, str, str, str, float, float, str]:
    digest = hashlib.sha256(f"place of {store_id}".encode()).digest()
    across, up = (int.from_bytes(digest[start : start + 4], "big") / 2**32 for start in (0, 4))
    market = MARKETS.get((up >= 0.5, across >= 0.5), "south-east")
    place = (round(38.0 + 3.0 * up, 4), round(-86.0 + 4.0 * across, 4))
    return (str(store_id), "shop", f"Store {store_id} (place made up)", market, *place, ZONE)


def _recent(lines: pd.DataFrame, ends_at: float) -> pd.DataFrame:
    return lines[lines["at"] > ends_at - WEEKS * 7 * DAY_S]


@dataclass(frozen=True, slots=True)
class Shelf:
    """How much of one product lies at one location."""

    product_id: str
    location_id: str
    quantity: int


def stock_levels(journey: Journey, found: list[Offer]) -> list[Shelf]:
    """Online all that was sold lately or is on offer; in a shop what is on offer and was sold there lately."""
    lately = _recent(journey.lines, journey.ends_at)
    offered = {int(product_id) for offer in open_at_the_end(journey, found) for product_id in offer.product_ids}
    sold = set(journey.products.index[journey.products["baskets"] > 0])
    units = lately.groupby("product_id")["quantity"].sum().to_dict()
    online = sorted((offered | units.keys()) & sold)
    here = lately[lately["product_id"].isin(offered)].groupby(["store_id", "product_id"])["quantity"].sum()
    return [
        *(Shelf(str(product_id), ONLINE, _level(units.get(product_id, 0))) for product_id in online),
        *(Shelf(str(product_id), str(store_id), _level(count)) for (store_id, product_id), count in here.items()),
    ]


def _level(units: int) -> int:
    return max(3, -(-2 * int(units) // WEEKS))


def stock_events(shelves: list[Shelf], at: float) -> Iterator[Event]:
    for shelf in shelves:
        body = {"product_id": shelf.product_id, "location_id": shelf.location_id, "quantity": shelf.quantity}
        message_id = f"stock-{shelf.product_id}-{shelf.location_id}"
        yield Event(message_id, "Stock Updated", at, at, location_id=shelf.location_id, body=body)
