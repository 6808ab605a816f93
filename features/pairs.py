"""One row per customer and offer: every column that a propensity model may use, put together in one place.

Training and serving both build their rows here, so a column means the same in both. What the columns are
is in `profiles` (the customer), `affinity` (both), `offer_index` (the offer); here is the moment beside
them: channel and placement. A model takes the columns that it was trained on by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from features.affinity import AFFINITY_FEATURES, Affinity
from features.offer_index import OFFER_FEATURES, Floats, OfferIndex
from features.profiles import FEATURES
from features.vocabulary import CHANNELS, PLACEMENTS, Offer

MOMENT_FEATURES: Mapping[str, str] = {
    **{f"channel_{name}": f"1 in the channel {name}" for name in CHANNELS},
    **{f"placement_{name}": f"1 in the placement {name}" for name in PLACEMENTS},
}
"""Where the offer is shown. All 0 where that is not known, as for a campaign sent by post."""

PAIR_FEATURES: Mapping[str, str] = {**FEATURES, **AFFINITY_FEATURES, **OFFER_FEATURES, **MOMENT_FEATURES}
PAIR_COLUMNS = tuple(PAIR_FEATURES)
"""The columns of `pair_rows`, in order."""


def pair_rows(
    customer: Iterable[float],
    affinity: Affinity,
    index: OfferIndex,
    offers: Sequence[Offer],
    channel: str | None,
    placement: str | None,
) -> Floats:
    """A row per offer with the columns PAIR_COLUMNS. `customer` holds the values of `profiles.derive`."""
    columns = np.empty((len(PAIR_COLUMNS), len(offers)))  # a column each lies together, as they are scored
    own, both, static = len(FEATURES), len(AFFINITY_FEATURES), len(OFFER_FEATURES)
    columns[:own] = np.fromiter(customer, np.float64, own)[:, None]
    columns[own : own + both] = affinity.matrix(offers).T
    columns[own + both : own + both + static] = index.static.take(index.rows(offers), axis=0).T
    columns[own + both + static :] = _moment(channel, placement)
    return columns.T


@lru_cache(maxsize=128)
def _moment(channel: str | None, placement: str | None) -> Floats:
    here = {f"channel_{channel}", f"placement_{placement}"}
    return np.array([[1.0 if name in here else 0.0] for name in MOMENT_FEATURES])
