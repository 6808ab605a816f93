"""What happened afterwards, as far as it was known: labels from facts, pure, values in and values out.

A label exists only when its window has closed by `as_of`, and is made only of what was known by then:
`known_at` is when we heard of a thing, `at` is when it happened, both in epoch seconds. Which profiles
belong to the labels is the business of `datasets`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from features.vocabulary import DAY_S

CHURN_HORIZON_DAYS = 90
"""A customer churns who orders nothing for so long."""
CHURN_POPULATION_DAYS = 180
"""Only who ordered within so many days can still churn."""
SHOWN_DAYS = 90
"""For an offer shown in a channel the window ends after so long, if the offer is not over before."""

RETURN_DAYS = 60
"""A line is returned that is sent back within so many days of the purchase."""

EXPOSURE_COLUMNS = ("customer_id", "offer_id", "group", "as_of", "channel", "placement", "closes_at", "label")


def propensity_labels(
    sends: pd.DataFrame, shown: pd.DataFrame, accepted: pd.DataFrame, offers: pd.DataFrame, as_of: float
) -> pd.DataFrame:
    """One row per customer and offer that the customer was exposed to, with label 1.0 if accepted in time.

    `sends` (customer_id, group, at, known_at) expose a customer to every offer of the group, `shown`
    (customer_id, offer_id, at, known_at, channel, placement) to one. `accepted` (customer_id, offer_id,
    at, known_at). `offers` (offer_id, group, valid_until). The first exposure counts.
    """
    sends, shown, accepted = (frame[frame["known_at"] <= as_of] for frame in (sends, shown, accepted))
    grouped = offers.dropna(subset=["group"])
    sent = sends[["customer_id", "group", "at"]].merge(grouped, on="group", how="inner")
    sent = sent.assign(channel=None, placement=None, ends_at=sent["valid_until"])
    seen = shown[["customer_id", "offer_id", "at", "channel", "placement"]].merge(offers, on="offer_id", how="inner")
    seen = seen.assign(ends_at=np.minimum(seen["valid_until"], seen["at"] + SHOWN_DAYS * DAY_S))
    parts = [frame for frame in (sent, seen) if len(frame)]
    if not parts:
        return pd.DataFrame(columns=list(EXPOSURE_COLUMNS)).astype({"as_of": float, "closes_at": float, "label": float})
    exposed = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    exposed = exposed[(exposed["at"] < exposed["ends_at"]) & (exposed["ends_at"] <= as_of)]
    exposed = exposed.sort_values(["at", "customer_id", "offer_id"], kind="stable", ignore_index=True)
    exposed = exposed.drop_duplicates(["customer_id", "offer_id"], ignore_index=True)
    answers = accepted[["customer_id", "offer_id", "at"]].rename(columns={"at": "accepted_at"})
    joined = exposed.reset_index(names="row").merge(answers, on=["customer_id", "offer_id"], how="inner")
    in_time = (joined["at"] <= joined["accepted_at"]) & (joined["accepted_at"] <= joined["ends_at"])
    label = np.zeros(len(exposed))
    label[joined.loc[in_time, "row"].unique()] = 1.0
    return exposed.assign(label=label, as_of=exposed["at"], closes_at=exposed["ends_at"])[list(EXPOSURE_COLUMNS)]


def churn_labels(orders: pd.DataFrame, cuts: Iterable[float], as_of: float) -> pd.DataFrame:
    """One row per cut and customer who ordered in the 180 days before it: label 1.0 if no order in the 90 after.

    `orders` (customer_id, at, known_at, void_at: when we heard that it was cancelled, else infinite). Cuts whose 90
    days have not passed by `as_of` give no rows. Who is asked about is as known at the cut, cancelled later or not;
    who stayed is as known at `as_of`, like what came back in `return_labels`.
    """
    known = orders[orders["known_at"] <= as_of]
    found = []
    for cut in sorted(cuts):
        if cut + CHURN_HORIZON_DAYS * DAY_S > as_of:
            continue
        here = known[(known["at"] > cut - CHURN_POPULATION_DAYS * DAY_S) & (known["at"] <= cut)]
        # who ordered by then but whose order was heard of later was not known at the cut
        standing = (here["known_at"] <= cut) & (here["void_at"] > cut)
        population = np.sort(here.loc[standing, "customer_id"].unique())
        after = known[(known["at"] > cut) & (known["at"] <= cut + CHURN_HORIZON_DAYS * DAY_S)]
        after = after[after["void_at"] > as_of]
        stayed = np.isin(population, after["customer_id"].unique())
        found.append(pd.DataFrame({"customer_id": population, "as_of": cut, "label": np.where(stayed, 0.0, 1.0)}))
    if not found:
        return pd.DataFrame({"customer_id": pd.Series([], dtype=object), "as_of": [], "label": []}, dtype=None)
    return pd.concat(found, ignore_index=True)


def churn_cuts(first_order: float, as_of: float, every_days: float = 30.0, most: int = 6) -> list[float]:
    """The newest cut points whose labels are known at `as_of`, `every_days` apart, ascending.

    A cut needs at least 60 days of history before it, or half of what there is.
    """
    newest = as_of - CHURN_HORIZON_DAYS * DAY_S
    oldest = first_order + min(60.0 * DAY_S, max(0.0, newest - first_order) / 2)
    cuts = [newest - step * every_days * DAY_S for step in range(most)]
    return sorted(cut for cut in cuts if cut >= oldest and cut > first_order)


def return_labels(lines: pd.DataFrame, returned: pd.DataFrame, as_of: float) -> pd.DataFrame:
    """One row per line whose 60 days have passed, label 1.0 if its product came back within them, as_of the purchase.

    `lines` (customer_id, order_id, product_id, at, known_at, quantity, price), `returned` (customer_id, order_id,
    product_id, at, known_at): what came back of an order that is not among the lines labels nothing.
    """
    window_s = RETURN_DAYS * DAY_S
    chosen = lines[(lines["known_at"] <= as_of) & (lines["at"] + window_s <= as_of)]
    key = ["customer_id", "order_id", "product_id"]
    chosen = chosen.sort_values(["at", *key], kind="stable", ignore_index=True)
    known = returned.loc[returned["known_at"] <= as_of, [*key, "at"]].rename(columns={"at": "returned_at"})
    joined = chosen[[*key, "at"]].reset_index(names="row").merge(known, on=key, how="inner")
    in_time = (joined["at"] <= joined["returned_at"]) & (joined["returned_at"] <= joined["at"] + window_s)
    label = np.zeros(len(chosen))
    label[joined.loc[in_time, "row"].unique()] = 1.0
    return chosen.assign(label=label, as_of=chosen["at"], closes_at=chosen["at"] + window_s).drop(
        columns=["at", "known_at"]
    )
