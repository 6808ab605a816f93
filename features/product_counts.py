"""What became of each product as of the last build: the part of return risk that is about nobody in particular.

`build` writes the counts of `product_history` for the whole log into one file; serving reads it where a model of
return risk is at work, beside what the customer's own profile says. Nothing is written where nothing was ever sent
back: there is no such model either. What a single customer alone has bought is left out: it would be about
somebody, and so few lines say nothing of the product.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import sqlalchemy as sa

from features import database
from features.columns import columns_of
from features.events import event_of
from features.product_history import HEARD, Counts, ProductHistory, line_values
from features.profiles import RETURNED, TRIPS, Profile
from features.workspace import Workspace

_NONE = Counts()


@dataclass(frozen=True, slots=True)
class ProductCounts:
    """Lines bought and sent back: of all products together and of each; `prices` are those last sold at."""

    everything: Counts
    products: Mapping[str, Counts]
    prices: Mapping[str, float]

    def only(self, product_ids: Iterable[str]) -> ProductCounts:
        """The same of these products alone."""
        wanted = sorted(set(product_ids) & self.products.keys())
        prices = {each: self.prices[each] for each in wanted if each in self.prices}
        return ProductCounts(self.everything, {each: self.products[each] for each in wanted}, prices)

    def line(self, product_id: str, customer: Counts, own: Counts, quantity: float | None) -> tuple[float, ...]:
        """The values of `LINE_FEATURES` if the product were bought now, by a customer of these counts."""
        product, price = self.products.get(product_id, _NONE), self.prices.get(product_id, math.nan)
        return line_values(self.everything, product, customer, own, quantity, price)

    def as_json(self) -> dict[str, Any]:
        lines = {
            product_id: [*_plain(counts), self.prices.get(product_id)] for product_id, counts in self.products.items()
        }
        return {"all": _plain(self.everything), "products": lines}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProductCounts:
        products = content["products"]
        prices = {product_id: price for product_id, (*_, price) in products.items() if price is not None}
        return cls(Counts(*content["all"]), {key: Counts(*counts) for key, (*counts, _) in products.items()}, prices)


def of_customer(profile: Profile | None) -> Counts:
    """The customer's own lines in 730 days, as the profile knows them: a product sent back twice counts once."""
    if profile is None:
        return Counts()
    entries = columns_of(profile.items)
    of_products = np.fromiter((key.startswith("p:") for key in entries.keys), np.bool_, len(entries.keys))
    trips, back = entries.of(TRIPS)[of_products], entries.of(RETURNED)[of_products]
    return Counts(int(trips.sum()), returned=int(np.count_nonzero(back)))


def of_pair(profile: Profile | None, product_id: str) -> Counts:
    """The same of one product."""
    entry = profile.items.get("p:" + product_id) if profile is not None else None
    return _NONE if entry is None else Counts(entry[TRIPS], returned=int(bool(entry[RETURNED])))


def path_of(workspace: Workspace) -> Path:
    return workspace.home / "product_counts.json"


def load(workspace: Workspace) -> ProductCounts | None:
    """What the last build counted; None where it counted nothing."""
    try:
        return ProductCounts.from_json(orjson.loads(path_of(workspace).read_bytes()))
    except FileNotFoundError:
        return None


def write(workspace: Workspace, made_of: bytes, whole: bool = False) -> None:
    """Count the whole log, unless the file was `made_of` the same already, or there is no news that counts since."""
    path, mark = path_of(workspace), made_of.decode()
    if not whole and path.exists() and not _news(workspace, orjson.loads(path.read_bytes())["made_of"], mark):
        return
    log = database.events
    refunded = sa.exists().where(log.c.name == "Order Refunded", log.c.customer_id.is_not(None))
    chosen = log.c.name.in_(HEARD) & log.c.customer_id.is_not(None)
    with database.reading(database.connect(workspace)) as connection:
        if not connection.scalar(sa.select(refunded)):
            path.unlink(missing_ok=True)
            return
        history = ProductHistory(of_people=False)
        rows = connection.execute(
            sa.select(log).where(chosen).order_by(log.c.known_at, log.c.seq).execution_options(yield_per=5_000)
        )
        first: dict[str, str] = {}
        shared: set[str] = set()
        for row in rows:
            event = event_of(row)
            history.add(event, row.customer_id)
            named = {line["product_id"] for line in event.body.get("products") or []}
            shared |= {each for each in named if first.setdefault(each, row.customer_id) != row.customer_id}
    products = {each: counts for each, counts in sorted(history.products.items()) if each in shared}
    counted = ProductCounts(history.all, products, history.prices)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(orjson.dumps({"made_of": mark, **counted.as_json()}))
    draft.replace(path)


def _news(workspace: Workspace, was: str, mark: str) -> bool:
    """Whether the log says more of purchases and returns than at the mark that `was`, or another code counts."""
    *others_then, seq = _parts(was)
    *others_now, _ = _parts(mark)
    if others_then != others_now:
        return True
    log = database.events.c
    heard = sa.exists().where(log.seq > int(seq), log.name.in_(HEARD), log.customer_id.is_not(None))
    with database.reading(database.connect(workspace)) as connection:
        return bool(connection.scalar(sa.select(heard)))


def _parts(mark: str) -> tuple[str, str, str]:
    """Of a mark (`offline.Mark`): the code, the changes of past moments, the log's last number."""
    code, seq, touched = mark.split(" ")
    return code, touched, seq


def _plain(counts: Counts) -> list[int]:
    return [counts.lines, counts.units, counts.returned]
