"""Lines of orders, for return risk: what became of each, and what was known of customer and product just before it.

A question is a customer, a product and a moment; the answer is made of what we had heard *before* that
moment, so that a line is never part of its own history. The customer's features come from Feast's
point-in-time join, those of the product from one pass of `features.product_history` over the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features import database
from features.events import event_of
from features.history import whose_at
from features.offer_index import Floats
from features.product_history import HEARD, LINE_FEATURES, ProductHistory, standing
from features.store import ProfileStore
from features.vocabulary import Event
from features.workspace import Workspace
from training.datasets import Dataset, NoLabels, Progress, customer_features, segment_of
from training.labels import return_labels

JUST_BEFORE_S = 1e-3
"""Events are dated to the millisecond: this much earlier, the event of that very moment is not yet known."""
Heard = tuple[str, Event]


def heard(workspace: Workspace, as_of: float) -> Iterator[Heard]:
    """Everybody's orders, refunds and cancellations known by `as_of`, with whose they are, in the order of knowing."""
    columns = database.events.c
    chosen = columns.name.in_(HEARD) & columns.customer_id.is_not(None) & (columns.known_at <= as_of)
    query = sa.select(database.events).where(chosen).order_by(columns.known_at, columns.seq)
    with database.reading(database.connect(workspace)) as connection:
        then = whose_at(connection, as_of)
        for row in connection.execute(query.execution_options(yield_per=5_000)):
            yield then(row), event_of(row)


def facts(events: Iterable[Heard]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The frames that `return_labels` takes: lines that stand as bought, as they were ordered; and what came back."""
    orders: dict[tuple[str, str], list[Event]] = {}
    for customer_id, event in events:
        if event.body.get("order_id"):
            orders.setdefault((customer_id, event.body["order_id"]), []).append(event)
    lines: list[tuple[object, ...]] = []
    back: list[tuple[object, ...]] = []
    for (customer_id, order_id), theirs in orders.items():
        bought, refunds = standing(theirs)
        for product_id, found in refunds.items():
            back += [(customer_id, order_id, product_id, event.occurred_at, event.known_at) for event in found]
        for event in theirs:
            if event.name == "Order Completed":
                who = (customer_id, order_id, event.occurred_at, event.known_at)
                lines += [
                    (*who, line["product_id"], line.get("quantity", 1), line.get("price"))
                    for line in event.body.get("products") or []
                    if line["product_id"] in bought
                ]
    names = ["customer_id", "order_id", "at", "known_at", "product_id", "quantity", "price"]
    numbers = {"at": float, "known_at": float, "quantity": float, "price": float}
    returned = pd.DataFrame(back, columns=["customer_id", "order_id", "product_id", "at", "known_at"])
    return (
        pd.DataFrame(lines, columns=names).astype(numbers),
        returned.astype({"at": float, "known_at": float}),
    )


def returns_dataset(
    workspace: Workspace,
    store: ProfileStore,
    as_of: float,
    columns: Sequence[str],
    service: str = "returns",
    progress: Progress = lambda *_: None,
) -> Dataset:
    """Every line whose 60 days have passed, with label and features as known just before it was bought."""
    events = list(heard(workspace, as_of))
    frame = return_labels(*facts(events), as_of)
    if not frame["label"].nunique() == 2:
        raise NoLabels(
            "returns needs orders that are 60 days old by --as-of, some of whose products were refunded within them; "
            f"found {len(frame)} lines with {int(frame['label'].sum())} returned"
        )
    rows, segments = line_features(store, events, frame, columns, service, progress)
    return Dataset(frame.assign(segment=segments), rows, tuple(columns))


def line_features(
    store: ProfileStore,
    events: Sequence[Heard],
    lines: pd.DataFrame,
    columns: Sequence[str],
    service: str = "returns",
    progress: Progress = lambda *_: None,
) -> tuple[Floats, list[str]]:
    """The features of `lines` (customer_id, product_id, as_of, quantity, price), and the segment of each customer.

    `events` in the order of knowing. Of a customer of whom nothing was known the customer's features are NaN.
    """
    before = lines["as_of"].to_numpy() - JUST_BEFORE_S
    progress("lines as known then", 0, 2)
    made = dict(zip(LINE_FEATURES, _of_product(events, lines, before).T, strict=True))
    progress("lines as known then", 1, 2)
    theirs = [name for name in columns if name not in made]
    moments = pd.DataFrame({"customer_id": lines["customer_id"].to_numpy(), "as_of": before})
    of_line = moments.groupby(["customer_id", "as_of"], sort=False).ngroup().to_numpy()
    names = ("orders", "days_since_order", *theirs)
    found = customer_features(store, moments.drop_duplicates(ignore_index=True), names, service)
    segments = [segment_of(*values) for values in found[:, :2]]
    made |= {name: found[of_line, place] for place, name in enumerate(theirs, start=2)}
    progress("lines as known then", 2, 2)
    return np.column_stack([made[name] for name in columns]), [segments[place] for place in of_line]


def _of_product(events: Sequence[Heard], lines: pd.DataFrame, before: Floats) -> Floats:
    """LINE_FEATURES of each line after all events known at `before`, in one pass."""
    history, added = ProductHistory(), 0
    rows = np.empty((len(lines), len(LINE_FEATURES)))
    asked = [lines[name].tolist() for name in ("customer_id", "product_id", "quantity", "price")]
    for row in np.argsort(before, kind="stable").tolist():
        while added < len(events) and events[added][1].known_at <= before[row]:
            customer_id, event = events[added]
            history.add(event, customer_id)
            added += 1
        rows[row] = history.line(*(column[row] for column in asked))
    return rows
