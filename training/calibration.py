"""Probabilities made honest: a monotone mapping from raw scores to rates, fitted out of fold.

Where rows belong together (the coupons of one campaign that a customer was sent) the mapping is fitted so
that 1 − Π(1 − p) over them is the rate of at least one event: events within a send come together, and
probabilities that are right for single rows would make it far too high. The mapping itself is applied in
`features.scorer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from features.offer_index import Floats
from features.scorer import calibrated, logit, sigmoid

KINDS = ("sigmoid", "beta", "isotonic")
_TINY = 1e-9


def units_of(units: np.ndarray | None, label: Floats) -> Floats:
    """Per unit 1.0 where any of its rows has the event; without units the labels themselves."""
    if units is None:
        return label
    found = np.zeros(int(units.max()) + 1)
    np.maximum.at(found, units, label)
    return found


def any_of(units: np.ndarray | None, probability: Floats) -> Floats:
    """Per unit 1 − Π(1 − p) over its rows; without units p itself."""
    if units is None:
        return probability
    return -np.expm1(np.bincount(units, np.log1p(-np.clip(probability, 0.0, 1.0 - _TINY))))


def log_loss(label: Floats, probability: Floats) -> float:
    clipped = np.clip(probability, _TINY, 1.0 - _TINY)
    return float(-np.mean(label * np.log(clipped) + (1.0 - label) * np.log1p(-clipped)))


def fit_calibration(kind: str, raw: Floats, label: Floats, units: np.ndarray | None = None) -> dict[str, Any]:
    """The mapping of this kind under which `raw` predicts `label` best. `sigmoid` is beta with a = b."""
    if kind == "isotonic":
        steps = IsotonicRegression(out_of_bounds="clip").fit(raw, label)
        return {"kind": "isotonic", "x": steps.X_thresholds_.tolist(), "y": steps.y_thresholds_.tolist()}
    odds, target = logit(raw), units_of(units, label)
    both = np.column_stack([np.log(np.clip(raw, 1e-12, 1.0)), -np.log1p(-np.clip(raw, 0.0, 1.0 - 1e-12))])

    def mapped(theta: Floats) -> Floats:
        if kind == "sigmoid":
            return sigmoid(np.exp(theta[0]) * odds + theta[1])
        return sigmoid(np.exp(theta[0]) * both[:, 0] + np.exp(theta[2]) * both[:, 1] + theta[1])

    def loss(theta: Floats) -> float:
        return log_loss(target, any_of(units, mapped(theta))) + 1e-6 * float(theta @ theta)

    start = np.zeros(2 if kind == "sigmoid" else 3)
    found = minimize(loss, start, method="BFGS", options={"gtol": 1e-6})
    a, c = float(np.exp(found.x[0])), float(found.x[1])
    return {"kind": "beta", "a": a, "b": a if kind == "sigmoid" else float(np.exp(found.x[2])), "c": c}


def choose_calibration(
    raw: Floats, label: Floats, customers: np.ndarray, units: np.ndarray | None = None
) -> tuple[str, dict[str, Any], Floats]:
    """The kind that does best on customers it was not fitted on; its name, its mapping over all, and such scores.

    `customers` are codes; they are halved, each half is mapped by what the other one teaches. The plainer
    kind is kept unless a freer one lowers the log loss by more than 0.1 %.
    """
    half = customers % 2
    best: tuple[float, str, Floats] | None = None
    for kind in KINDS if units is None else ("sigmoid",):
        crossed = np.empty(len(raw))
        for side in (0, 1):
            here, there = half == side, half != side
            if not 0.0 < label[there].sum() < there.sum() or not here.any():
                crossed[here] = raw[here]
                continue
            other = None if units is None else np.unique(units[there], return_inverse=True)[1]
            crossed[here] = calibrated(raw[here], fit_calibration(kind, raw[there], label[there], other))
        loss = log_loss(units_of(units, label), any_of(units, crossed))
        if best is None or loss < best[0] * 0.999:
            best = (loss, kind, crossed)
    assert best is not None
    return best[1], fit_calibration(best[1], raw, label, units), best[2]


def describe(calibration: Mapping[str, Any] | None) -> str:
    if calibration is None:
        return "none"
    if calibration["kind"] == "isotonic":
        return f"isotonic, {len(calibration['x'])} points"
    return "beta a={a:.3f} b={b:.3f} c={c:.3f}".format(**calibration)
