"""Scores once more, as plainly as they can be said: entry by entry, offer by offer, row by row, nothing kept.

Sums run in the order of the entries' marks, as the definition says, so they are equal to the last bit. `exp2`, `exp`,
`log` and `log1p` are NumPy's here too, of one number at a time: the C library's may differ in the last bit. The trees
are scored by LightGBM's own `Booster`.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import orjson

from features.catalog import Catalog
from features.vocabulary import CHANNELS, DAY_S, OFFER_KINDS, PLACEMENTS, Offer, Product

Row = Mapping[str, float]


class Entry(NamedTuple):
    """What is known of a customer and a product (`p:…`) or category (`c:…`); 0: never."""

    last: float
    first: float
    trips: float
    decayed_trips: float
    decayed_spend: float
    returned: float


def entries_of(packed: bytes) -> dict[str, Entry]:
    """The entries of a profile as Feast gives them, in the order of their marks."""
    count, keys = struct.unpack_from("<I4xQ", packed)
    numbers = [struct.unpack_from(f"<{count}d", packed, 24 + 8 * count * row) for row in range(1, 7)]
    begin = 24 + 56 * count
    return dict(zip(orjson.loads(packed[begin : begin + keys]), map(Entry, *numbers), strict=True))


def products_of(catalog: Catalog, offer: Offer) -> list[str]:
    own = [p.product_id for p in catalog.products.values() if p.category == offer.category] if offer.category else []
    return list(dict.fromkeys(offer.product_ids or own))


class Affinity:
    """One customer against any offers. `orders_90d` is Feast's feature of that name."""

    def __init__(self, entries: Mapping[str, Entry], catalog: Catalog, orders_90d: float, as_of: float):
        self.catalog, self.as_of, self.orders = catalog, as_of, orders_90d
        self.entries = {key: entry for key, entry in entries.items() if key[:2] == "p:"}
        self.weights = {key: float(np.exp2(min(e.last - as_of, 0.0) / (90 * DAY_S))) for key, e in entries.items()}
        self.groups: dict[tuple[str | None, ...], list[float]] = {}
        self.every = 0.0
        listed = {each for offer in catalog.offers.values() for each in offer.product_ids}
        for key, entry in entries.items():
            trips, spend = self._now(key, entry)
            if key[:2] == "c:":
                self._add(("category", key[2:]), entry.last, trips, spend)
            elif key[2:] in catalog.products or key[2:] in listed:
                self.every += trips
                for group in groups_of(self.product(key[2:])) - {("category", self.product(key[2:]).category)}:
                    self._add(group, entry.last, trips, spend)

    def product(self, product_id: str) -> Product:
        return self.catalog.products.get(product_id) or Product(product_id, product_id)

    def _now(self, key: str, entry: Entry) -> tuple[float, float]:
        return entry.decayed_trips * self.weights[key], entry.decayed_spend * self.weights[key]

    def _add(self, group: tuple[str | None, ...], last: float, trips: float, spend: float) -> None:
        found = self.groups.setdefault(group, [0.0, 0.0, 0.0])
        found[0], found[1], found[2] = max(found[0], last), found[1] + trips, found[2] + spend

    def bought_of(self, products: Sequence[str]) -> list[tuple[str, Entry]]:
        mine = set(products)
        return [(key, entry) for key, entry in self.entries.items() if key[2:] in mine]

    def best_products(self, products: Sequence[str]) -> list[str]:
        """Those bought before by decayed trips, then the others as the offer lists them."""
        trips = {key[2:]: self._now(key, entry)[0] for key, entry in self.bought_of(products)}
        first = sorted((p for p in trips if trips[p] > 0.0), key=lambda p: (-trips[p], p))
        return [*first, *(p for p in products if p not in set(first))]

    def columns(self, products: Sequence[str]) -> Row:
        """The customer × offer features of an offer over these products."""
        counted = own = top = own_spend = bought = latest = 0.0
        for key, entry in self.bought_of(products):
            trips, spend = self._now(key, entry)
            counted, own, top, own_spend = counted + entry.trips, own + trips, max(top, trips), own_spend + spend
            bought, latest = bought + (trips > 0.0), max(latest, entry.last)
        about = [groups_of(self.product(each)) for each in products]
        met: dict[str, tuple[float, float, float]] = {}
        for kind in ("category", "manufacturer", "kin", "brand"):
            last = trips = spend = 0.0
            for group in sorted({each for groups in about for each in groups if each[0] == kind}):
                share = sum(group in groups for groups in about) / len(products) if kind == "brand" else 1.0
                seen = self.groups.get(group, [0.0, 0.0, 0.0])
                last, trips, spend = max(last, seen[0]), trips + seen[1] * share, spend + seen[2]
            met[kind] = last, trips, spend
        (category_last, category, category_spend), (_, maker, _) = met["category"], met["manufacturer"]
        (kin_last, kin, _), (_, brand, _) = met["kin"], met["brand"]
        return {
            "own_trips": counted,
            "own_trips_90d": own,
            "own_trips_top": top,
            "own_spend_90d": own_spend,
            "own_products": bought,
            "own_days_since": self._days(latest),
            "own_share": share_of(own, self.orders),
            "category_trips_90d": category,
            "category_spend_90d": category_spend,
            "category_days_since": self._days(category_last),
            "category_share": share_of(category, self.orders),
            "category_own": share_of(own_spend, category_spend),
            "manufacturer_trips_90d": maker,
            "manufacturer_share": share_of(maker, self.every),
            "kin_trips_90d": kin,
            "kin_days_since": self._days(kin_last),
            "brand_fit": share_of(brand, self.every),
        }

    def _days(self, latest: float) -> float:
        return max(self.as_of - latest, 0.0) / DAY_S if latest > 0.0 else math.nan


def groups_of(p: Product) -> set[tuple[str | None, ...]]:
    found = {("category", p.category), ("manufacturer", p.manufacturer), ("brand", p.brand)}
    kin = {("kin", p.category, p.manufacturer)} if p.category and p.manufacturer else set()
    return {each for each in found if each[1]} | kin


def share_of(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else 0.0


def offer_columns(catalog: Catalog, offer: Offer, products: Sequence[str], channel: str, placement: str) -> Row:
    """What the offer is like apart from any customer, and where it is to be shown."""
    known = [catalog.products[each] for each in products if each in catalog.products]
    price = math.fsum(each.price for each in known) / len(known) if known else 0.0
    categories = {each.category for each in known if each.category} or {offer.category} - {None}
    alike = [each for each in catalog.offers.values() if offer.group and each.group == offer.group]
    return {
        "offer_products": math.log1p(len(products)),
        "offer_categories": math.log1p(len(categories)),
        "offer_group_size": math.log1p(len(alike) or 1),
        "offer_price": math.log1p(price),
        "offer_discount": offer.value.discount / price if price > 0.0 else 0.0,
        "offer_days": math.log1p(max(0.0, offer.valid_until - offer.valid_from) / DAY_S),
        **{f"offer_is_{kind}": float(offer.kind == kind) for kind in OFFER_KINDS},
        **{f"channel_{name}": float(name == channel) for name in CHANNELS},
        **{f"placement_{name}": float(name == placement) for name in PLACEMENTS},
    }


class Model:
    """A promoted model, from its folder."""

    def __init__(self, folder: Path):
        self.content = orjson.loads((folder / "model.json").read_bytes())
        self.population: float = self.content["population"]
        trees = folder / "booster.txt"
        self.booster = lightgbm.Booster(model_file=str(trees)) if trees.exists() else None

    def predict(self, rows: Sequence[Row]) -> list[float]:
        if not rows:
            return []
        matrix = np.array([[row[name] for name in self.content["columns"]] for row in rows], np.float64)
        trees = [math.nan] * len(rows)
        if self.booster is not None:
            trees = self.booster.predict(matrix, num_threads=1).tolist()
        return [self._calibrated(self._raw(row, score)) for row, score in zip(matrix.tolist(), trees, strict=True)]

    def _raw(self, row: Sequence[float], trees: float) -> float:
        family, weight = self.content["family"], self.content.get("blend_weight", 0.5)
        if family == "constant":
            return self.population
        if family == "lightgbm":
            return trees
        linear = self._log_odds(row)
        return sigmoid(linear if family == "logistic" else weight * logit(trees) + (1.0 - weight) * linear)

    def _log_odds(self, row: Sequence[float]) -> float:
        part = self.content["logistic"]
        total: float = part["intercept"]
        columns = (part[name] for name in ("transform", "impute", "mean", "scale", "coef"))
        for value, transform, impute, mean, scale, coef in zip(row, *columns, strict=True):
            if coef:
                told = float(np.log1p(max(value, 0.0))) if transform == "log1p" and value == value else value
                total += ((told if told == told else impute) - mean) / scale * coef
        return total

    def _calibrated(self, p: float) -> float:
        by: Any = self.content["calibration"]
        if by is None:
            return p
        if by["kind"] == "beta":
            p = min(max(p, 1e-12), 1.0 - 1e-12)
            return sigmoid(float(by["a"] * np.log(p) - by["b"] * np.log1p(-p) + by["c"]))
        x, y = by["x"], by["y"]
        right = min(max(bisect_right(x, p), 1), len(x) - 1)
        if len(x) == 1:
            return y[0]
        share = min(max((p - x[right - 1]) / (x[right] - x[right - 1]), 0.0), 1.0)
        return y[right - 1] + share * (y[right] - y[right - 1])


def sigmoid(log_odds: float) -> float:
    return float(1.0 / (1.0 + np.exp(-min(max(log_odds, -700.0), 700.0))))


def logit(p: float) -> float:
    p = min(max(p, 1e-12), 1.0 - 1e-12)
    return float(np.log(p) - np.log1p(-p))


def line_columns(counts: Mapping[str, Any], product_id: str, entries: Mapping[str, Entry] | None, features: Row) -> Row:
    """What a line of this product would be, bought now: by the counts of the last build and the customer's own."""
    lines, _, back = counts["all"]
    mean = (back + 1.0) / (lines + 30.0)
    of_product = counts["products"].get(product_id, [0, 0, 0, None])
    bought = [e for key, e in (entries or {}).items() if key.startswith("p:")]
    mine = int(sum(e.trips for e in bought)), sum(e.returned > 0 for e in bought)
    own = (entries or {}).get(f"p:{product_id}")
    quantity = of_product[1] / of_product[0] if of_product[0] else 1.0
    if entries is not None and features["lines_365d"] > 0.0:
        quantity = features["units_365d"] / features["lines_365d"]
    price = math.nan if of_product[3] is None else of_product[3]
    return {
        "product_return_rate": (of_product[2] + 30.0 * mean) / (of_product[0] + 30.0),
        "product_lines": float(of_product[0]),
        "customer_line_return_rate": (mine[1] + 30.0 * mean) / (mine[0] + 30.0),
        "customer_lines": float(mine[0]),
        "own_lines": float(own.trips) if own else 0.0,
        "own_returned": float(own.returned > 0) if own else 0.0,
        "line_quantity": quantity,
        "line_price": price,
        "line_value": quantity * price,
    }
