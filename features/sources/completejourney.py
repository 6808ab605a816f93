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
from itertools import chain, groupby
from operator import itemgetter
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

SOURCE = "completejourney"
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
    before = files.remembered(workspace, SOURCE)
    shift_s = float(math.floor(ending - journey.ends_at)) if ending is not None else 0.0
    if before is not None:
        shift_s = before.shift_s  # events that are stored keep their times, and so must the offers

    progress("writing products, locations and offers", 0, 1)
    offers = made_up.offers(journey)
    still_open = made_up.open_at_the_end(journey, offers)
    remaining = {offer.offer_id: offer.valid_until - journey.ends_at for offer in still_open}
    written = files.after(before, SOURCE, shift_s, remaining)
    products, places = made_up.products(journey), made_up.locations(journey.stores)
    ended = [offer for offer in offers if offer.valid_until < journey.ends_at]
    current = [offer for offer in offers if offer.valid_until >= journey.ends_at]
    text = files.renewed_text(files.offers_text(current, shift_s), written)
    contents = {
        files.ENDED: files.offers_text(ended, shift_s, files.HEAD_ENDED).encode(),
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
        "source": SOURCE,
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
    ids = ("basket_id", "household_id", "store_id", "product_id")
    columns = [*(map(str, lines[name].tolist()) for name in ids)]
    columns += [lines[name].tolist() for name in ("at", "quantity", "price", "discount", "category", "coupon")]
    for basket_id, rows in groupby(zip(*columns, strict=True), key=itemgetter(0)):
        products: list[dict[str, Any]] = []
        for _, household_id, store_id, product_id, at, quantity, price, discount, category, coupon in rows:  # noqa: B007
            line = {"product_id": product_id, "quantity": quantity, "price": price}
            if discount:
                line["discount"] = discount
            if isinstance(category, str):
                line["category"] = category
            if coupon:
                line["coupon"] = True
            products.append(line)
        yield Event(
            message_id=f"basket-{basket_id}",
            name="Order Completed",
            occurred_at=at + shift_s,
            known_at=at + shift_s,
            user_id=household_id,
            channel="store",
            location_id=store_id,
            body={"order_id": basket_id, "products": products},
        )


def _sent(sends: pd.DataFrame, shift_s: float) -> Iterator[Event]:
    for row in sends.itertuples(index=False):
        moment, group = float(row.at + shift_s), f"campaign-{row.campaign_id}"
        message_id = f"{group}-sent-{row.household_id}"
        yield Event(message_id, "Campaign Sent", moment, moment, str(row.household_id), body={"group": group})


def _redeemed(redemptions: pd.DataFrame, shift_s: float) -> Iterator[Event]:
    """A household may redeem the same coupon on two days, so the day is part of the message's id."""
    for row in redemptions.itertuples(index=False):
        moment = float(row.at + shift_s)
        offer_id = f"campaign-{row.campaign_id}-coupon-{row.coupon_upc}"
        yield Event(
            message_id=f"redeemed-{offer_id}-{row.household_id}-{row.redemption_date:%Y%m%d}",
            name="Offer Responded",
            occurred_at=moment,
            known_at=moment,
            user_id=str(row.household_id),
            channel="store",
            body={"offer_id": offer_id, "offer_kind": "promotion", "response": "accepted"},
        )


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
