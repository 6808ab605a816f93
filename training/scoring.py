"""Scores of a registered model for customers or pairs, as known at a moment: reading the question, asking the model.

The same features and the same scorer as in serving. Which model is asked is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from features.catalog import load_catalog
from features.offers import moment
from features.scorer import Scorer
from features.sentences import suggestion
from features.store import ProfileStore
from features.vocabulary import CHANNELS, PLACEMENTS
from features.workspace import Workspace
from training import datasets, lines
from training.tasks import Task

Progress = Callable[[str, int, int], None]
LATEST_S = datetime(2200, 1, 1, tzinfo=UTC).timestamp()


class BadPairs(ValueError):
    """A file of pairs that cannot be scored, in one sentence."""


def scores(
    workspace: Workspace,
    store: ProfileStore,
    task: Task,
    scorer: Scorer,
    at: float | None,
    pairs: pd.DataFrame | None,
    progress: Progress = lambda *_: None,
) -> pd.DataFrame:
    """What `python -m training score` writes: of every customer at `at`, or of `pairs`."""
    if pairs is None:
        assert at is not None
        return score_customers(workspace, store, task, scorer, at)
    if task.per_line:
        return score_lines(workspace, store, task, scorer, pairs, progress)
    return score_pairs(workspace, store, scorer, pairs, progress)


def score_customers(
    workspace: Workspace, store: ProfileStore, task: Task, scorer: Scorer, as_of: float
) -> pd.DataFrame:
    """customer_id and score of every customer known at `as_of`; the population's rate for those of whom nothing is."""
    frame = pd.DataFrame({"customer_id": datasets.customers(workspace, as_of)}, dtype=object).assign(as_of=as_of)
    if not len(frame):
        return pd.DataFrame({"customer_id": pd.Series([], dtype="string"), "score": np.empty(0)})
    rows = datasets.customer_features(store, frame, scorer.columns, task.service)
    unknown = np.isnan(rows).all(axis=1)
    scores = np.where(unknown, scorer.population, scorer.predict(rows))
    return frame[["customer_id"]].assign(score=scores)


def score_pairs(
    workspace: Workspace, store: ProfileStore, scorer: Scorer, pairs: pd.DataFrame, progress: Progress = lambda *_: None
) -> pd.DataFrame:
    """`pairs` with a `score` each, profiles as known at each `as_of`; the population's rate for unknown customers."""
    catalog = load_catalog(workspace, ended=True)
    asked = checked(pairs)
    for offer_id in asked["offer_id"].unique():
        if offer_id not in catalog.offers:
            near = get_close_matches(offer_id, catalog.offers, n=1)
            meant = f"did you mean `{near[0]}`?" if near else f"expected one of the catalog's {len(catalog.offers):,}"
            raise BadPairs(f"unknown offer `{offer_id}`; {meant}")
    rows, segments = datasets.pair_features(store, catalog, asked, scorer.columns, progress)
    scores = np.where(segments == "", scorer.population, scorer.predict(rows))
    return pairs.assign(score=scores)


def score_lines(
    workspace: Workspace,
    store: ProfileStore,
    task: Task,
    scorer: Scorer,
    pairs: pd.DataFrame,
    progress: Progress = lambda *_: None,
) -> pd.DataFrame:
    """`pairs` of customer and product with a `score` each, of what was known just before each `as_of`."""
    asked = checked_lines(pairs)
    if not len(asked):
        return pairs.assign(score=np.empty(0))
    events = list(lines.heard(workspace, asked["as_of"].max()))
    rows, _ = lines.line_features(store, events, asked, scorer.columns, task.service, progress)
    return pairs.assign(score=scorer.predict(rows))


def read_pairs(path: Path) -> pd.DataFrame:
    try:
        pairs = pd.read_parquet(path)
        return pairs if pairs.index.names == [None] else pairs.reset_index()
    except Exception as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "no parquet file"
        raise BadPairs(f"cannot read `{path}`: {reason}; expected a parquet file of pairs") from error


def checked(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs with ids as texts, `as_of` in epoch seconds, channel and placement known or empty."""
    frame = _keyed(pairs, "offer_id", "channel, placement")
    for name, known in (("channel", CHANNELS), ("placement", tuple(PLACEMENTS))):
        values = [
            None if value is None or value != value or value == "" else str(value) for value in pairs.get(name, [])
        ]
        for value in {value for value in values if value is not None and value not in known}:
            raise BadPairs(f"unknown {name} `{value}`; {suggestion(value, known)}")
        frame[name] = pd.Series(values or [None] * len(frame), dtype=object)
    return frame


def checked_lines(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs with ids as texts, `as_of` in epoch seconds, quantity and price or NaN."""
    frame = _keyed(pairs, "product_id", "quantity, price")
    for name, least in (("quantity", 1.0), ("price", 0.0)):
        values = [_number(name, value, least) for value in pairs.get(name, [])]
        frame[name] = pd.Series(values or [np.nan] * len(frame), dtype=np.float64)
    return frame


def _keyed(pairs: pd.DataFrame, item: str, optional: str) -> pd.DataFrame:
    """Whom and what it is about, and when."""
    for name in ("customer_id", item, "as_of"):
        if name not in pairs:
            raise BadPairs(f"column `{name}` is missing; expected customer_id, {item}, as_of[, {optional}]")
    made = {name: [_id(name, value) for value in pairs[name]] for name in ("customer_id", item)}
    return pd.DataFrame(made, dtype=object).assign(as_of=[_moment(value) for value in pairs["as_of"]])


def _id(name: str, value: object) -> str:
    """A whole number is that number, though a column with gaps makes it 2375.0."""
    if value is None or value is pd.NA or value != value:
        raise BadPairs(f"{name} is empty in a row; expected an id in each")
    if isinstance(value, bytes):
        raise BadPairs(f"{name} is bytes; expected texts or whole numbers")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _number(name: str, value: object, least: float) -> float:
    if value is None or value != value:
        return np.nan
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = np.nan
    if not least <= number < np.inf:
        raise BadPairs(f"{name} is `{value}`; expected a number of at least {least:g}")
    return number


def _moment(value: object) -> float:
    if isinstance(value, pd.Timestamp):
        utc = value.tz_localize("UTC") if value.tzinfo is None else value
        return float(utc.timestamp())
    if isinstance(value, int | float | np.number) and np.isfinite(float(value)):
        if not 0 <= float(value) < LATEST_S:
            raise BadPairs(f"as_of is `{value}`; expected a time, or seconds since 1970 before the year 2200")
        return float(value)
    try:
        return moment(value)
    except ValueError as error:
        raise BadPairs(f"as_of {error}") from error
