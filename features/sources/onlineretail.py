"""UCI Online Retail into a workspace: a gift shop's invoices as events, its products and place as catalog files.

Real: one `Order Completed` an invoice, with its lines; cancellations, matched to what they take back (see
`cancellations`), one event per cancelling invoice and order: `Order Refunded` with the reason `return`, or
within 24 hours of the order with the reason `correction`, or `Order Cancelled` where nothing is left of it.
What goes back of no known order is a return under the cancelling invoice's own number. The shop sold
online alone, so orders have the channel web; how something came back nobody wrote down.

Made up: the `cross_sell` offers and their value, as `made_up` says. There are no categories, margins,
campaigns or stock in these data, and none are invented. The lines are cleaned in `retail`.

Doing it again stores nothing new and keeps the shift of times of the first time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from features import database
from features.sources import cancellations, files, made_up
from features.sources.bulk import append_history
from features.sources.retail import Retail, load, read
from features.vocabulary import DAY_S, ONLINE, Event, Offer
from features.workspace import Workspace

__all__ = ["events", "figures", "ingest"]

SOURCE = "onlineretail"
Progress = Callable[[str, int, int], None]

HEAD = """\
# Offers written by `python -m features ingest onlineretail`. All are made up: the best-selling products of the
# last eight weeks, at their real prices. Change what you like: a changed file is left alone from then on;
# delete it and ingest again to start over.
offers:
"""


def ingest(
    workspace: Workspace, path: Path, ending: float | None = None, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Store it all; `ending` shifts all times so that the last event is then. What was done, in figures."""
    progress("reading Online Retail", 0, 2)
    published = load(path)
    progress("reading Online Retail", 1, 2)
    retail = read(published)
    taken_back = cancellations.match(retail.sales, retail.cancelled)
    progress("reading Online Retail", 2, 2)
    before = files.remembered(workspace, SOURCE)
    shift_s = float(math.floor(ending - retail.ends_at)) if ending is not None else 0.0
    if before is not None:
        shift_s = before.shift_s  # events that are stored keep their times, and so must the offers

    progress("writing products, locations and offers", 0, 1)
    found = offers(retail)
    remaining = {offer.offer_id: offer.valid_until - retail.ends_at for offer in found}
    written = files.after(before, SOURCE, shift_s, remaining)
    contents = {
        "products.parquet": files.parquet(retail.products.assign(replenishable=False)),
        "locations.parquet": files.parquet(made_up.locations([])),
        files.OFFERS: files.renewed_text(files.offers_text(found, shift_s, HEAD), written).encode(),
    }
    theirs = files.write_ours(workspace, written, contents)
    progress("writing products, locations and offers", 1, 1)

    history = events(retail, taken_back, shift_s)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("appending events", done, len(history))

    progress("appending events", 0, len(history))
    counts = append_history(database.connect(workspace), history, advance)
    return {
        "source": SOURCE,
        "lines": {
            "published": retail.published,
            "kept": len(retail.sales) + len(retail.cancelled),
            "dropped": retail.dropped,
        },
        "cancelled_lines": {"all": len(retail.cancelled), **_meanings(taken_back)},
        "events": dict(Counter(event.name for event in history)),
        "stored": counts.stored,
        "duplicates": counts.duplicates,
        "customers": len({event.user_id for event in history}),
        "products": len(retail.products),
        "offers": len(found),
        "last_event_at": retail.ends_at + shift_s,
        "shift_s": shift_s,
        "shift_kept": before is not None,
        "left_alone": theirs,
    }


def _meanings(found: list[cancellations.Cancellation]) -> dict[str, int]:
    """How many lines (or parts of one, where it was split) were taken for what."""
    counts = {"returned": 0, "corrected": 0, "without_purchase": 0}
    for each in found:
        returned = "without_purchase" if each.order_id is None else "returned"
        counts[returned if each.meaning == cancellations.RETURNED else "corrected"] += len(each.lines)
    return counts


# -------------------------------------------------------------------------------------------- events


def events(retail: Retail, taken_back: list[cancellations.Cancellation], shift_s: float = 0.0) -> list[Event]:
    """Everything that happened, in the order of the fold, `shift_s` seconds later than it did."""
    found = _orders(retail.sales, shift_s) + [_taken_back(each, shift_s) for each in taken_back]
    return sorted(found, key=attrgetter("key"))


def _orders(sales: pd.DataFrame, shift_s: float) -> list[Event]:
    columns = ("order_id", "customer_id", "at", "product_id", "quantity", "price")
    rows = zip(*(sales[name].tolist() for name in columns), strict=True)
    return [
        Event(
            message_id=f"invoice-{order_id}",
            name="Order Completed",
            occurred_at=at + shift_s,
            known_at=at + shift_s,
            user_id=customer_id,
            channel="web",
            location_id=ONLINE,
            body={"order_id": order_id, "products": [_line(*row[3:]) for row in lines]},
        )
        for (order_id, customer_id, at), lines in groupby(rows, key=itemgetter(0, 1, 2))
    ]


def _line(product_id: str, quantity: int, price: float) -> dict[str, Any]:
    return {"product_id": product_id, "quantity": quantity, "price": price}


def _taken_back(each: cancellations.Cancellation, shift_s: float) -> Event:
    of = f"-of-{each.order_id}" if each.order_id else ""
    lines = [_line(line.product_id, line.quantity, line.price) for line in each.lines]
    return Event(
        message_id=f"invoice-{each.invoice}{of}",
        name="Order Cancelled" if each.meaning == cancellations.CANCELLED else "Order Refunded",
        occurred_at=each.at + shift_s,
        known_at=each.at + shift_s,
        user_id=each.customer_id,
        body={"order_id": each.order_id or each.invoice, "products": lines, "reason": each.meaning},
    )


# -------------------------------------------------------------------------------------------- offers


def offers(retail: Retail) -> list[Offer]:
    """The best sellers of the last weeks, one product each; times are the data's own."""
    best = made_up.best_sellers(retail.sales, "order_id", retail.ends_at).head(made_up.CROSS_SELLS)
    about = best.merge(retail.products, on="product_id")
    return [
        made_up.cross_sell(row.product_id, made_up.readable(row.name), row.price, retail.ends_at)
        for row in about.itertuples(index=False)
    ]


def figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary of `ingest` for a reader."""
    lines, back = summary["lines"], summary["cancelled_lines"]
    rows = [("lines published", lines["published"])]
    rows += [(f"dropped: {reason}", count) for reason, count in lines["dropped"].items()]
    rows += [("lines kept", lines["kept"]), ("of these cancelled", back["all"])]
    rows += [("returned", back["returned"]), ("corrected within 24 hours", back["corrected"])]
    rows += [("returned, purchase unknown", back["without_purchase"]), *summary["events"].items()]
    rows += [("events stored now", summary["stored"]), ("stored before", summary["duplicates"])]
    rows += [(name, summary[name]) for name in ("customers", "products", "offers")]
    shown = [(name, f"{count:,}") for name, count in rows]
    last = datetime.fromtimestamp(summary["last_event_at"], UTC)
    shown += [("last event", last.strftime("%Y-%m-%d %H:%M:%S UTC"))]
    if summary["shift_kept"]:
        shown += [("times shifted as the first time", f"{summary['shift_s'] / DAY_S:,.1f} days")]
    return shown + [("changed by somebody, left alone", name) for name in summary["left_alone"]]
