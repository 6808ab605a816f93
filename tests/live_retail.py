"""Online Retail's second half year as it would have come in live: history, offers, stock, messages, decisions.

The invoices are real. Made for the proof of suppression: the offers (a cross-sell for each best seller, one for each
family of products that share a style), the styles (codes that share their five digits, such as 85099B and 85099C), and
the stock, which the shop's data do not have: each product takes the hours of one product in one shop of FreshRetailNet
in which it was sold out, from the first day on, over again when its 90 days are over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import retail_messages

from features import build
from features.sources import cancellations, files, onlineretail, retail
from features.vocabulary import DAY_S, Event, Offer, Value
from features.workspace import Workspace
from serving.engine import Engine
from serving.question import Question

BEGAN = datetime(2011, 6, 1, tzinfo=UTC).timestamp()
"""Before it lies the history, from it on everything comes in live."""
STOCK = "fresh_retail_stock.parquet"
PULSE_S = 600.0
HOUR_S = 3_600.0
AT_ONCE = 500
HEAD = "# Made by the proof of suppression over Online Retail's best sellers.\noffers:\n"


@dataclass(frozen=True)
class Shop:
    """What there is to offer, and which products share a style."""

    offers: tuple[Offer, ...]
    styles: Mapping[str, str]

    @property
    def products(self) -> list[str]:
        """Everything on offer, in the order in which series of stock are given out."""
        return list(dict.fromkeys(product_id for offer in self.offers for product_id in offer.product_ids))


@dataclass(frozen=True)
class Arrival:
    """What came in at once: the messages of one invoice."""

    at: float
    invoice: str
    customer_id: str
    messages: list[dict[str, Any]]


@dataclass(frozen=True)
class Decided:
    """An answer with its trace, and the invoices of that very moment that had not come in yet."""

    now: float
    customer_id: str
    answer: Mapping[str, Any]
    unheard: frozenset[str]


def shop_of(cleaned: retail.Retail, singles: int, families: int) -> Shop:
    """The best sellers of the whole year, one offer each, and the best-selling families, one offer each."""
    invoices = cleaned.sales.groupby("product_id")["order_id"].nunique()
    about = cleaned.products.assign(style=cleaned.products["product_id"].str[:5])
    about = about.assign(
        invoices=about["product_id"].map(invoices).fillna(0),
        has_style=about.groupby("style")["product_id"].transform("size") > 1,
    ).sort_values(["invoices", "product_id"], ascending=[False, True])
    alone = [_offer(f"cross-sell-{row.product_id}", [row]) for row in about.head(singles).itertuples()]
    kin = about[about["has_style"] & (about["invoices"] > 0)]
    best = kin.groupby("style")["invoices"].sum().sort_values(ascending=False, kind="stable").head(families)
    together = [_offer(f"family-{style}", list(kin[kin["style"] == style].itertuples())) for style in best.index]
    styles = about[about["has_style"]].set_index("product_id")["style"].to_dict()
    return Shop((*alone, *together), styles)


def _offer(offer_id: str, rows: Sequence[Any]) -> Offer:
    return Offer(
        offer_id=offer_id,
        kind="cross_sell",
        product_ids=tuple(row.product_id for row in rows),
        valid_from=BEGAN - 365 * DAY_S,
        valid_until=BEGAN + 365 * DAY_S,
        value=Value(margin=round(rows[0].price / 4, 2)),
    )


def prepared(workspace: Workspace, published: pd.DataFrame, cleaned: retail.Retail, shop: Shop) -> None:
    """The first half year by `features ingest onlineretail` and `features build`, and the shop's own files."""
    first = workspace.home / "first.parquet"
    published[published["invoice_ts"] < pd.Timestamp(BEGAN, unit="s")].to_parquet(first)
    onlineretail.ingest(workspace, first)
    products = cleaned.products.assign(parent_id=cleaned.products["product_id"].map(shop.styles))
    products.to_parquet(workspace.home / "products.parquet")
    (workspace.home / files.OFFERS).write_text(files.offers_text(shop.offers, 0.0, HEAD))
    build.build(workspace)


def arrivals(cleaned: retail.Retail, until: float) -> list[Arrival]:
    """The second half year, an invoice at a time, in the order in which it happened."""
    events = onlineretail.events(cleaned, cancellations.match(cleaned.sales, cleaned.cancelled))
    live = [event for event in events if BEGAN <= event.occurred_at < until]

    def whole(event: Event) -> tuple[float, str, str]:
        return event.occurred_at, event.message_id.split("-")[1], event.user_id or ""

    return [Arrival(*key, [retail_messages.message(event) for event in some]) for key, some in groupby(live, key=whole)]


def stock_messages(path: Path, products: Sequence[str], until: float) -> Iterator[tuple[float, dict[str, Any]]]:
    """When a product sells out and when it is back, hour by hour; at first what each one's state is."""
    frame = pd.read_parquet(path, columns=["store_id", "product_id", "dt", "stockout_mask"])
    days = sorted(frame["dt"].unique())
    series = [rows.set_index("dt")["stockout_mask"] for _, rows in frame.groupby(["store_id", "product_id"], sort=True)]
    joined = {product_id: series[place % len(series)].to_dict() for place, product_id in enumerate(products)}
    was: dict[str, bool] = {}
    for number in range(int((until - BEGAN) // HOUR_S)):
        at, day = BEGAN + number * HOUR_S, days[number // 24 % len(days)]
        for product_id, masks in joined.items():
            gone = bool(masks[day] >> number % 24 & 1)
            if was.get(product_id) != gone:
                was[product_id] = gone
                properties = {"product_id": product_id, "location_id": "online", "quantity": 0 if gone else 5}
                yield at, _track(f"stock-{product_id}-{number}", "Stock Updated", at, properties)


def live(
    engine: Engine, coming: Sequence[Arrival], stock: Iterator[tuple[float, dict[str, Any]]], every: int
) -> Iterator[Decided]:
    """Everything through the service's own intake, by a clock that is told; a decision after each `every`th event."""
    heard, waiting = 0, next(stock, None)
    for place, arrival in enumerate(coming):
        shelves = []
        while waiting is not None and waiting[0] <= arrival.at:
            shelves.append(waiting[1])
            waiting = next(stock, None)
        for start in range(0, len(shelves), AT_ONCE):
            _taken(engine, shelves[start : start + AT_ONCE], arrival.at)
        _taken(engine, arrival.messages, arrival.at)
        heard, before = heard + len(arrival.messages), heard
        if heard // every > before // every:
            pulse = (
                arrival.at // PULSE_S * PULSE_S
            )  # the stock feed's last sign of life; the others would change nothing
            _taken(engine, [_track(f"pulse-{pulse}-{place}", "Feed Alive", pulse, {"signal": "stock"})], arrival.at)
            later = coming[place + 1 : place + 100]
            unheard = frozenset(
                each.invoice for each in later if (each.at, each.customer_id) == (arrival.at, arrival.customer_id)
            )
            answer = engine.decision(Question(arrival.customer_id, "web", "home"), arrival.at)
            yield Decided(arrival.at, arrival.customer_id, answer, unheard)


def _taken(engine: Engine, messages: Sequence[Mapping[str, Any]], at: float) -> None:
    receipts = engine.ingest(messages, at, None)
    assert all(each.stored for each in receipts), receipts


def _track(message_id: str, event: str, at: float, properties: Mapping[str, Any]) -> dict[str, Any]:
    timestamp = datetime.fromtimestamp(at, UTC).isoformat()
    return {"type": "track", "messageId": message_id, "event": event, "timestamp": timestamp, "properties": properties}
