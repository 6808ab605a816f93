"""The Complete Journey into a workspace: its history as events, its products, stores and coupons as catalog files.

Kept as published: one `Order Completed` a basket, one `Campaign Sent` a household and campaign, one accepted
`Offer Responded` a redeemed coupon, every coupon of every campaign as an offer. Added in the open by
`made_up`: value, places, stock, `cross_sell` offers. The tables are cleaned in `journey`.

Doing it again stores nothing new and keeps the shift of times of the first time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pandas as pd

from features import database
from features.sources import files, made_up
from features.sources.bulk import append_history
from features.sources.files import renew
from features.sources.journey import Journey, load, read
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace

__all__ = ["count_events", "events", "ingest", "renew"]

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


def ingest(
    workspace: Workspace,
    ending: float | None = None,
    progress: Progress = lambda *_: None,
    tables: Callable[[], dict[str, pd.DataFrame]] = load,
) -> dict[str, Any]:
    """Store it all; `ending` shifts all times so that the last event is then. What was done, in figures."""
    progress("reading Complete Journey", 0, 2)
    published = tables()
    progress("reading Complete Journey", 1, 2)
    lines = len(published["transactions"])
    journey = read(published)
    del published
    progress("reading Complete Journey", 2, 2)
    before = files.remembered(workspace)
    shift_s = float(math.floor(ending - journey.ends_at)) if ending is not None else 0.0
    if before is not None:
        shift_s = before.shift_s  # events that are stored keep their times, and so must the offers

    progress("writing products, locations and offers", 0, 1)
    offers = made_up.offers(journey)
    still_open = made_up.open_at_the_end(journey, offers)
    remaining = {offer.offer_id: offer.valid_until - journey.ends_at for offer in still_open}
    written = files.Written(
        shift_s, before.sha256 if before else {}, remaining, before.renewed_at if before else None
    )
    products, places = made_up.products(journey), made_up.locations(journey.stores)
    text = files.renewed_text(files.offers_text(offers, shift_s), written)
    contents = {
        "products.parquet": files.parquet(products),
        "locations.parquet": files.parquet(places),
        files.OFFERS: text.encode(),
    }
    theirs = files.write_ours(workspace, written, contents)
    progress("writing products, locations and offers", 1, 1)

    shelves = made_up.stock_levels(journey, offers)
    named = {**count_events(journey), "Stock Updated": len(shelves)}
    total, done = sum(named.values()), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("appending events", done, total)

    progress("appending events", 0, total)
    ends_at = journey.ends_at + shift_s
    stream = chain(events(journey, shift_s), made_up.stock_events(shelves, ends_at))
    counts = append_history(database.connect(workspace), stream, advance)
    return {
        "source": "completejourney",
        "lines": {"published": lines, "kept": len(journey.lines), "dropped": journey.dropped},
        "events": named,
        "stored": counts.stored,
        "duplicates": counts.duplicates,
        "products": len(products),
        "replenishable": int(products["replenishable"].sum()),
        "locations": len(places),
        "offers": {"all": len(offers), "open": len(still_open)},
        "last_event_at": ends_at,
        "shift_s": shift_s,
        "shift_kept": before is not None,
        "left_alone": theirs,
    }


def count_events(journey: Journey) -> dict[str, int]:
    """How many events of each name `events` will give."""
    return {
        "Order Completed": int(journey.lines["basket_id"].nunique()),
        "Campaign Sent": len(journey.sends),
        "Offer Responded": len(journey.redemptions),
    }


def events(journey: Journey, shift_s: float) -> Iterator[Event]:
    """Everything that happened, in the order of time, `shift_s` seconds later than it did."""
    streams = (_orders(journey.lines, shift_s), _sent(journey.sends, shift_s), _redeemed(journey.redemptions, shift_s))
    return heapq.merge(*streams, key=lambda event: event.occurred_at)


def _orders(lines: pd.DataFrame, shift_s: float) -> Iterator[Event]:
    columns = ("basket_id", "household_id", "store_id", "at", "product_id", "quantity", "price", "discount")
    values = [lines[column].tolist() for column in (*columns, "category", "coupon")]
    last: tuple[str, str, str, int] | None = None
    products: list[dict[str, Any]] = []
    for basket, household, store, at, product_id, quantity, price, discount, category, coupon in zip(
        *values, strict=True
    ):
        if last is None or basket != last[0]:
            if last is not None:
                yield _order(last, products, shift_s)
            last, products = (basket, household, store, at), []
        line = {"product_id": product_id, "quantity": quantity, "price": price}
        if discount:
            line["discount"] = discount
        if isinstance(category, str):
            line["category"] = category
        if coupon:
            line["coupon"] = True
        products.append(line)
    if last is not None:
        yield _order(last, products, shift_s)


def _order(basket: tuple[str, str, str, int], products: list[dict[str, Any]], shift_s: float) -> Event:
    order_id, household_id, store_id, at = basket
    moment = at + shift_s
    body = {"order_id": order_id, "products": products}
    return Event(f"basket-{order_id}", "Order Completed", moment, moment, household_id, None, "store", store_id, body)


def _sent(sends: pd.DataFrame, shift_s: float) -> Iterator[Event]:
    for row in sends.itertuples(index=False):
        moment = row.at + shift_s
        message_id, body = f"campaign-{row.campaign_id}-sent-{row.household_id}", {"group": f"campaign-{row.campaign_id}"}
        yield Event(message_id, "Campaign Sent", moment, moment, row.household_id, body=body)


def _redeemed(redemptions: pd.DataFrame, shift_s: float) -> Iterator[Event]:
    """A household may redeem the same coupon on two days, so the day is part of the message's id."""
    for row in redemptions.itertuples(index=False):
        moment = float(row.at + shift_s)
        offer_id = f"campaign-{row.campaign_id}-coupon-{row.coupon_upc}"
        message_id = f"redeemed-{offer_id}-{row.household_id}-{row.day:%Y%m%d}"
        body = {"offer_id": offer_id, "offer_kind": "promotion", "response": "accepted"}
        yield Event(message_id, "Offer Responded", moment, moment, row.household_id, None, "store", None, body)


def figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary of `ingest` for a reader."""
    lines, offers = summary["lines"], summary["offers"]
    rows = [("lines published", lines["published"])]
    rows += [(f"dropped: {reason}", count) for reason, count in lines["dropped"].items()]
    rows += [("lines kept", lines["kept"]), *summary["events"].items()]
    rows += [("events stored now", summary["stored"]), ("stored before", summary["duplicates"])]
    rows += [("products", summary["products"]), ("of these replenishable", summary["replenishable"])]
    rows += [("locations", summary["locations"]), ("offers", offers["all"]), ("offers open", offers["open"])]
    shown = [(name, f"{count:,}") for name, count in rows]
    last = datetime.fromtimestamp(summary["last_event_at"], UTC)
    shown += [("last event", last.strftime("%Y-%m-%d %H:%M:%S UTC"))]
    if summary["shift_kept"]:
        shown += [("times shifted as the first time", f"{summary['shift_s'] / DAY_S:,.1f} days")]
    return shown + [("changed by somebody, left alone", name) for name in summary["left_alone"]]
