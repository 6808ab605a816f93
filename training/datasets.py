"""Labels joined to what was known then: the rows that models are trained on, and those they are asked to score.

Facts for the labels come from the event log, features from the feature store as known at each moment:
the customer's by Feast's point-in-time join of a feature service, the customer × offer ones from the
profile rebuilt for that moment. Nothing known after `as_of` is read into a dataset, not even that two customers
turned out to be one. No model here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pandas as pd
import sqlalchemy as sa

from features import database, profiles
from features.affinity import Affinity, index_of
from features.catalog import Catalog
from features.corrections import unbuys, void_since
from features.events import event_of
from features.history import whose_at
from features.offer_index import Floats
from features.offline import part_of
from features.pairs import PAIR_COLUMNS, pair_rows
from features.store import ProfileStore
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace
from training.labels import churn_cuts, churn_labels, propensity_labels

MOMENTS_AT_ONCE = 1_500
"""Profiles held in memory at a time: 60 kB each in a grocer's data."""
SILENCE_S = DAY_S
"""So long nothing at all was heard of anybody: then nobody listened."""

Progress = Callable[[str, int, int], None]
_IDS = (database.events.c.user_id, database.events.c.anonymous_id)
_RESPONSES = ("Campaign Sent", "Offer Responded")


class NoLabels(Exception):
    """Nothing to learn from at this moment, in one sentence."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled rows: `frame` says who, when and what became of it, `rows` holds the features in `columns`."""

    frame: pd.DataFrame  # customer_id as_of label segment; for pairs offer_id group channel placement kind too
    rows: Floats
    columns: tuple[str, ...]

    @property
    def label(self) -> Floats:
        return self.frame["label"].to_numpy(np.float64)

    def part(self, chosen: np.ndarray) -> Dataset:
        return Dataset(self.frame[chosen].reset_index(drop=True), self.rows[chosen], self.columns)

    def column(self, name: str) -> Floats:
        return self.rows[:, self.columns.index(name)]


# ------------------------------------------------------------------------------------- facts of the log


def orders(workspace: Workspace, as_of: float) -> pd.DataFrame:
    """Every order known by `as_of`: customer_id, at, known_at; void_at is when we heard that nothing is left of it, by
    cancellation or correction, infinite for one that stands at `as_of`.
    """
    columns = database.events.c
    known = columns.customer_id.is_not(None) & (columns.known_at <= as_of)
    query = sa.select(database.events).where(known).order_by(columns.seq).execution_options(yield_per=5_000)
    with database.reading(database.connect(workspace)) as connection:
        then = whose_at(connection, as_of)
        told: dict[str, list[Event]] = {}
        for row in connection.execute(query.where(columns.name.in_(("Order Cancelled", "Order Refunded")))):
            if unbuys(event := event_of(row)):
                told.setdefault(then(row), []).append(event)
        found: list[tuple[str, float, float, str]] = []
        for row in connection.execute(query.where(columns.name == "Order Completed")):
            customer_id, order_id = then(row), ""
            if customer_id in told:
                told[customer_id].append(event := event_of(row))
                order_id = event.body.get("order_id") or ""
            found.append((customer_id, row.occurred_at, row.known_at, order_id))
    void = {customer_id: void_since(theirs) for customer_id, theirs in told.items()}
    rows = [(*row[:3], void.get(row[0], {}).get(row[3], np.inf)) for row in found]
    return _frame(rows, ("customer_id", "at", "known_at", "void_at")).astype({"void_at": "float64"})


def responses(workspace: Workspace, as_of: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What was sent, shown and accepted, as known by `as_of`: the frames that `propensity_labels` takes."""
    columns = database.events.c
    chosen = columns.name.in_(_RESPONSES) & columns.customer_id.is_not(None) & (columns.known_at <= as_of)
    told = (columns.name, columns.occurred_at, columns.known_at, columns.channel, columns.body)
    query = sa.select(*_IDS, *told).where(chosen)
    sent, shown, accepted = [], [], []
    with database.reading(database.connect(workspace)) as connection:
        then = whose_at(connection, as_of)
        for row in connection.execute(query.order_by(columns.seq)):
            body, customer_id = orjson.loads(row.body), then(row)
            if row.name == "Campaign Sent":
                sent.append((customer_id, body.get("group"), row.occurred_at, row.known_at))
            elif body.get("response") == "shown":
                place = (row.channel or body.get("channel"), body.get("placement"))
                shown.append((customer_id, body.get("offer_id"), row.occurred_at, row.known_at, *place))
            elif body.get("response") == "accepted":
                accepted.append((customer_id, body.get("offer_id"), row.occurred_at, row.known_at))
    return (
        _frame(sent, ("customer_id", "group", "at", "known_at")),
        _frame(shown, ("customer_id", "offer_id", "at", "known_at", "channel", "placement")),
        _frame(accepted, ("customer_id", "offer_id", "at", "known_at")),
    )


def customers(workspace: Workspace, as_of: float) -> list[str]:
    """Every customer of whom anything was known by `as_of`, sorted."""
    columns = database.events.c
    query = sa.select(*_IDS).where(columns.customer_id.is_not(None), columns.known_at <= as_of)
    with database.reading(database.connect(workspace)) as connection:
        return sorted(set(map(whose_at(connection, as_of), connection.execute(query.distinct()))))


def last_heard(workspace: Workspace, as_of: float | None = None) -> float | None:
    """Up to when there is something to learn from: `as_of`, or when we had last heard of anything that a customer did,
    where that is longer ago than `SILENCE_S`. None where nothing was known by then.

    Silence after the last event is no label: nobody listened. What comes later moves no cut of before.
    """
    columns = database.events.c
    query = sa.select(sa.func.max(columns.known_at)).where(columns.customer_id.is_not(None))
    if as_of is not None:
        query = query.where(columns.known_at <= as_of)
    with database.reading(database.connect(workspace)) as connection:
        found: float | None = connection.execute(query).scalar_one()
    return found if found is None or as_of is None or as_of - found > SILENCE_S else as_of


def _frame(rows: Sequence[Sequence[object]], names: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame([tuple(row) for row in rows], columns=list(names))
    return frame.astype({"at": "float64", "known_at": "float64"})


# ------------------------------------------------------------------------------------------ propensity


def propensity_dataset(
    workspace: Workspace,
    store: ProfileStore,
    catalog: Catalog,
    as_of: float,
    columns: Sequence[str],
    progress: Progress = lambda *_: None,
) -> Dataset:
    """Every matured exposure to an offer with its label, and the features as known when it happened.

    Exposures before the log's first order are left out: of their customers nothing could be known yet.
    """
    offers = pd.DataFrame(
        [(offer.offer_id, offer.group, offer.valid_until) for offer in catalog.offers.values()],
        columns=["offer_id", "group", "valid_until"],
    ).astype({"valid_until": "float64"})
    frame = propensity_labels(*responses(workspace, as_of), offers, as_of)
    bought = orders(workspace, as_of)
    begin = bought["at"].min() if len(bought) else np.inf
    frame = frame[frame["as_of"] > begin].reset_index(drop=True)
    if not frame["label"].nunique() == 2:
        raise NoLabels(
            "propensity needs offers that were sent or shown, some accepted and some not, and are over by --as-of; "
            f"found {len(frame)} exposures with {int(frame['label'].sum())} acceptances"
        )
    rows, segments = pair_features(store, catalog, frame, columns, progress)
    kinds = [catalog.offers[offer_id].kind for offer_id in frame["offer_id"]]
    whole = Dataset(frame.assign(segment=segments, kind=kinds), rows, tuple(columns))
    return whole.part(segments != "")


def pair_features(
    store: ProfileStore,
    catalog: Catalog,
    pairs: pd.DataFrame,
    columns: Sequence[str],
    progress: Progress = lambda *_: None,
) -> tuple[Floats, np.ndarray]:
    """The features of `pairs` (customer_id, offer_id, as_of, channel, placement), and the segment of each customer.

    Of a customer of whom nothing was known at that moment the features are NaN and the segment is empty.
    """
    positions = np.array([PAIR_COLUMNS.index(name) for name in columns], np.int64)
    rows = np.full((len(pairs), len(columns)), np.nan)
    segments = np.full(len(pairs), "", dtype="<U6")
    index = index_of(catalog)
    keys = ["customer_id", "as_of", "channel", "placement"]
    asked = pairs.assign(channel=pairs["channel"].fillna(""), placement=pairs["placement"].fillna(""))
    groups = dict(asked.groupby(keys, sort=False).indices.items())
    moments = sorted({(part_of(key[0]), key[0], float(key[1])) for key in groups})
    of_moment: dict[tuple[str, float], list[tuple[str, str]]] = {}
    for customer_id, moment, channel, placement in groups:
        of_moment.setdefault((customer_id, float(moment)), []).append((channel, placement))
    offer_ids = pairs["offer_id"].tolist()
    for start in range(0, len(moments), MOMENTS_AT_ONCE):
        progress("profiles as known then", start, len(moments))
        chunk = pd.DataFrame([moment[1:] for moment in moments[start : start + MOMENTS_AT_ONCE]])
        found = store.profiles_at(chunk.set_axis(["customer_id", "as_of"], axis=1))
        for customer_id, at, state, items in found[["customer_id", "as_of", "state", "items"]].itertuples(index=False):
            if not isinstance(state, bytes):
                continue
            profile = profiles.unpack(state, items)
            affinity = Affinity(profile, index, at)
            customer = profiles.derive(profile, at)
            segment = segment_of(customer["orders"], customer["days_since_order"])
            for channel, placement in of_moment[customer_id, at]:
                places = groups[customer_id, at, channel, placement]
                offers = [catalog.offers[offer_ids[place]] for place in places]
                rows[places] = pair_rows(customer.values(), affinity, index, offers, channel, placement)[:, positions]
                segments[places] = segment
    progress("profiles as known then", len(moments), len(moments))
    return rows, segments


# --------------------------------------------------------------------------------------------- churn


def churn_dataset(
    workspace: Workspace, store: ProfileStore, as_of: float, columns: Sequence[str], service: str = "churn"
) -> Dataset:
    """Every customer who could still churn at each cut point, with label and features as known at the cut."""
    bought = orders(workspace, as_of)
    cuts = churn_cuts(float(bought["at"].min()), as_of) if len(bought) else []
    frame = churn_labels(bought, cuts, as_of)
    if not frame["label"].nunique() == 2:
        raise NoLabels(
            "churn needs orders over more than 90 days before --as-of, and customers who stayed and who left; "
            f"found {len(frame)} customers at {len(cuts)} cut points, {int(frame['label'].sum())} of them gone"
        )
    names = ("orders", "days_since_order", *columns)
    found = customer_features(store, frame, names, service)
    segments = [segment_of(ordered, days) for ordered, days in found[:, :2]]
    return Dataset(frame.assign(segment=segments), np.ascontiguousarray(found[:, 2:]), tuple(columns))


def customer_features(store: ProfileStore, frame: pd.DataFrame, columns: Sequence[str], service: str) -> Floats:
    """The features of each customer of `frame` (customer_id, as_of) as known then, by Feast's point-in-time join."""
    found = store.historical(frame[["customer_id", "as_of"]], service)
    return np.ascontiguousarray(found[list(columns)].to_numpy(np.float64))


NEW_ORDERS = 5
LAPSED_DAYS = 60.0


def segment_of(orders: float, days_since_order: float) -> str:
    """Whom reports tell apart: `new` with fewer than 5 orders, `lapsed` after 60 days without one, else `loyal`."""
    if not orders >= NEW_ORDERS:
        return "new"
    return "lapsed" if days_since_order > LAPSED_DAYS else "loyal"
