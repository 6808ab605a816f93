"""How good scores are: metrics, their intervals by resampling customers, and slices. Pure, numbers in and out.

Rows of one customer are not independent, so intervals come from resampling customers, never rows; the
difference of two models is resampled as a pair. Where rows belong together in sends (the coupons of one
campaign that a customer was sent) there are metrics of sends too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from features.offer_index import Floats
from training.calibration import any_of, units_of

BINS = 10
TOP_SHARE = 0.1
RECALL_AT = 3
SMALL_GROUP = 100
"""Of a campaign with more offers than this a customer got only some: no recall among them."""
_TINY = 1e-9

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Truth:
    """What became of the rows: label, the customer of each as a code, and the send of each where there are sends."""

    label: Floats
    customers: np.ndarray
    units: np.ndarray | None = None
    groups: np.ndarray | None = None
    """The campaign of each row, as a code: ranks are compared within it."""
    folds: np.ndarray | None = None
    """The fold that each row was scored in: scores of two models are not ranked against each other."""

    def of_sends(self) -> Truth:
        """The same of whole sends, in which something happened or not; where there are none, of the rows."""
        if self.units is None:
            return self
        first = np.unique(self.units, return_index=True)[1]
        groups = None if self.groups is None else self.groups[first]
        folds = None if self.folds is None else self.folds[first]
        return Truth(units_of(self.units, self.label), self.customers[first], groups=groups, folds=folds)

    def part(self, chosen: np.ndarray) -> Truth:
        units = None if self.units is None else np.unique(self.units[chosen], return_inverse=True)[1]
        groups = None if self.groups is None else self.groups[chosen]
        folds = None if self.folds is None else self.folds[chosen]
        return Truth(self.label[chosen], self.customers[chosen], units, groups, folds)


def auroc(label: Floats, score: Floats) -> float:
    """P(a row with the event scores above one without); ties count half. NaN where one of the two is missing."""
    positive, negative = float(label.sum()), float(len(label) - label.sum())
    if not (positive > 0.0 and negative > 0.0):
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[label > 0.0].sum() - positive * (positive + 1.0) / 2.0) / (positive * negative))


def pr_auc(label: Floats, score: Floats) -> float:
    """Average precision."""
    if not label.sum() > 0.0:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(label[order])
    last = np.concatenate([score[order][1:] != score[order][:-1], [True]])
    precision, recall = hits[last] / (np.flatnonzero(last) + 1.0), hits[last] / hits[-1]
    return float(np.diff(recall, prepend=0.0) @ precision)


def row_loss(label: Floats, score: Floats) -> Floats:
    clipped = np.clip(score, _TINY, 1.0 - _TINY)
    return -(label * np.log(clipped) + (1.0 - label) * np.log1p(-clipped))


def ece(label: Floats, score: Floats, bins: int = BINS) -> float:
    """Expected calibration error: |mean score − rate| over bins of equal size by score, weighed by size."""
    return float(sum(count * abs(said - seen) for count, said, seen in reliability(label, score, bins)) / len(label))


def reliability(label: Floats, score: Floats, bins: int = BINS) -> list[tuple[int, float, float]]:
    """Per bin: how many, mean score, rate of the event."""
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [(len(part), float(score[part].mean()), float(label[part].mean())) for part in parts]


def lift(label: Floats, score: Floats, share: float = TOP_SHARE) -> float:
    """How many times the mean rate the best-scored share has."""
    top = np.argsort(-score, kind="stable")[: max(1, round(share * len(score)))]
    return float(label[top].mean() / label.mean()) if label.mean() > 0.0 else float("nan")


def within_auroc(label: Floats, score: Floats, groups: np.ndarray) -> float:
    """AUROC among pairs of the same group: every pair counts the same."""
    won = pairs = 0.0
    for group in np.unique(groups):
        here = groups == group
        positive = label[here].sum()
        count = positive * (here.sum() - positive)
        if count:
            won += count * auroc(label[here], score[here])
            pairs += count
    return won / pairs if pairs else float("nan")


def recall_at(label: Floats, score: Floats, units: np.ndarray, groups: np.ndarray, k: int = RECALL_AT) -> float:
    """The mean over sends with an event, of campaigns of at most 100 offers, of the share of events among the top k."""
    found = []
    order = np.lexsort((np.arange(len(score)), -score, units))
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        total = label[rows].sum()
        if total > 0 and k < len(rows) <= SMALL_GROUP:
            found.append(label[rows[:k]].sum() / total)
    return float(np.mean(found)) if found else float("nan")


def metrics(truth: Truth, score: Floats) -> dict[str, float]:
    """All figures of one model; with sends, those of single offers are named `pair_…` and those of sends `send_…`."""
    sends, said = truth.of_sends(), any_of(truth.units, score)
    if truth.units is None or truth.groups is None or sends.groups is None:
        return _figures(truth.label, score, truth.folds)
    found = {f"pair_{name}": value for name, value in _figures(truth.label, score, truth.folds).items()}
    found |= {f"send_{name}": value for name, value in _figures(sends.label, said, sends.folds).items()}
    found["send_auroc_within"] = within_auroc(sends.label, said, sends.groups)
    found[f"recall_at_{RECALL_AT}"] = recall_at(truth.label, score, truth.units, truth.groups)
    return found


def _figures(label: Floats, score: Floats, folds: np.ndarray | None) -> dict[str, float]:
    return {
        "auroc": auroc(label, score) if folds is None else within_auroc(label, score, folds),
        "pr_auc": pr_auc(label, score),
        "log_loss": float(row_loss(label, score).mean()),
        "brier": float(np.mean((score - label) ** 2)),
        "ece": ece(label, score),
        "lift_10": lift(label, score),
        "rate": float(label.mean()),
        "mean_score": float(score.mean()),
    }


# ---------------------------------------------------------------------------------------- intervals


FINE_BINS = 2_000
"""Scores are ranked this finely when customers are resampled; the figures themselves are exact."""


def draws(customers: int, resamples: int, seed: int) -> Floats:
    """Per resample how often each customer counts: drawn with replacement."""
    random = np.random.default_rng(seed)
    drawn = [np.bincount(random.integers(0, customers, customers), minlength=customers) for _ in range(resamples)]
    return np.array(drawn, np.float64)


def interval(values: Floats) -> Interval:
    """The middle 95 %."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Resampled:
    """Per model its AUROC and its log loss in each resample; the same resamples for all, so differences are paired."""

    auroc: Mapping[str, Floats]
    loss: Mapping[str, Floats]


def resampled(truth: Truth, scores: Mapping[str, Floats], resamples: int, seed: int) -> Resampled:
    """The figures of each model when customers are drawn anew, with replacement."""
    customers = np.unique(truth.customers, return_inverse=True)[1]
    weights = draws(int(customers.max()) + 1, resamples, seed)
    count = weights @ np.bincount(customers)
    losses = {name: np.bincount(customers, row_loss(truth.label, score)) for name, score in scores.items()}
    return Resampled(
        auroc={name: _ranks(truth, score, customers, weights) for name, score in scores.items()},
        loss={name: weights @ loss / count for name, loss in losses.items()},
    )


def compared(drawn: Resampled, rival: str) -> dict[str, dict[str, Interval]]:
    """Per model the intervals of its AUROC and log loss, and of its gain over `rival` in both (above 0 is better)."""
    return {
        name: {
            "auroc": interval(drawn.auroc[name]),
            "log_loss": interval(drawn.loss[name]),
            "auroc_gain": interval(drawn.auroc[name] - drawn.auroc[rival]),
            "log_loss_gain": interval(drawn.loss[rival] - drawn.loss[name]),
        }
        for name in drawn.auroc
    }


def _ranks(truth: Truth, score: Floats, customers: np.ndarray, weights: Floats) -> Floats:
    """The AUROC of each resample, of pairs within a fold."""
    folds = np.zeros(len(score), np.int64) if truth.folds is None else truth.folds
    won, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(folds):
        here = folds == fold
        more = _pairs(truth.label[here], score[here], customers[here], weights)
        won, pairs = won + more[0], pairs + more[1]
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0.0)


def _pairs(label: Floats, score: Floats, customers: np.ndarray, weights: Floats) -> tuple[Floats, Floats]:
    """Per resample the pairs of rows with and without the event in the right order, and all of them.

    Rows are counted per customer and bin of the score.
    """
    edges = np.unique(np.quantile(score, np.linspace(0.0, 1.0, FINE_BINS + 1), method="inverted_cdf"))
    place = np.searchsorted(edges, score)
    shape = (weights.shape[1], len(edges) + 1)
    yes, no = (
        weights @ sparse.csr_matrix((amount, (customers, place)), shape=shape) for amount in (label, 1.0 - label)
    )
    below = np.cumsum(no, axis=1) - 0.5 * no
    return (yes * below).sum(axis=1), yes.sum(axis=1) * no.sum(axis=1)


def slices(truth: Truth, score: Floats, names: Mapping[str, np.ndarray], fewest: int = 30) -> list[dict[str, object]]:
    """Per value of each name (segment, kind, channel): rows, rate, mean score, AUROC; small ones without AUROC."""
    found: list[dict[str, object]] = []
    for name, values in names.items():
        for value in sorted(set(values.tolist())):
            here = values == value
            label, said = truth.label[here], score[here]
            enough = min(label.sum(), len(label) - label.sum()) >= fewest
            figures = {"rate": float(label.mean()), "mean_score": float(said.mean())}
            folds = np.zeros(len(label), np.int64) if truth.folds is None else truth.folds[here]
            figures["auroc"] = within_auroc(label, said, folds) if enough else float("nan")
            found.append({"slice": name, "value": value or "–", "rows": int(here.sum()), **figures})
    return found
