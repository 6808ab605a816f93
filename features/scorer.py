"""A trained model in portable form: a folder of JSON and LightGBM text, and the scores it gives.

Training writes the folder, serving reads it; both score with this class, so both get the same bits.
A row scores the same bits alone, among 20 or among 10,000: linear terms are added up column by column,
trees are LightGBM's own, one thread. Nothing here trains, and nothing is imported but numpy and LightGBM.

`model.json`: task, family (`constant`, `logistic`, `lightgbm`, `blend`), columns, population (the mean
rate), calibration (null, isotonic or beta), logistic (per column: transform, impute, mean, scale, coef;
intercept), blend_weight (LightGBM's share of a blend's log-odds). `booster.txt`: LightGBM's text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FAMILIES = ("constant", "logistic", "lightgbm", "blend")
_TINY = 1e-12


class ScorerProblem(ValueError):
    """A folder that is no portable model, in one sentence."""


class Scorer:
    """P(yes) for rows of features, from a portable model."""

    def __init__(self, content: Mapping[str, Any], booster: str | None = None):
        family = content.get("family")
        if family not in FAMILIES:
            raise ScorerProblem(f"model: unknown family `{family}`; expected one of {', '.join(FAMILIES)}")
        if family in ("lightgbm", "blend") and booster is None:
            raise ScorerProblem(f"model: family `{family}` needs `booster.txt` beside `model.json`")
        self.content = dict(content)
        self.task: str = content["task"]
        self.family: str = content["family"]
        self.columns: tuple[str, ...] = tuple(content["columns"])
        self.population = float(content["population"])
        self._logistic = content.get("logistic")
        self._calibration = content.get("calibration")
        self._blend_weight = float(content.get("blend_weight", 0.5))
        self._booster = _open_booster(booster) if booster is not None else None

    @classmethod
    def load(cls, folder: str | Path) -> Scorer:
        """The model in `folder`. Raises ScorerProblem where there is none."""
        path = Path(folder) / "model.json"
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ScorerProblem(f"model: cannot read `{path}`; expected a portable model ({error})") from error
        trees = Path(folder) / "booster.txt"
        return cls(content, trees.read_text("utf-8") if trees.exists() else None)

    def positions(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Where this model's columns are among `names`, the columns of a caller's matrix."""
        place = {name: position for position, name in enumerate(names)}
        missing = [name for name in self.columns if name not in place]
        if missing:
            raise ScorerProblem(f"model: column `{missing[0]}` is not among the features; build and train again")
        return np.array([place[name] for name in self.columns], np.int64)

    def predict(self, rows: Floats) -> Floats:
        """P(yes) of each row, whose columns are `self.columns` in that order; NaN is unknown."""
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise ScorerProblem(f"model: rows of shape `{rows.shape}`; expected {len(self.columns)} columns")
        if not len(rows):
            return np.empty(0)
        return calibrated(self.raw(rows), self._calibration)

    def raw(self, rows: Floats) -> Floats:
        """P(yes) before calibration."""
        if self.family == "constant":
            return np.full(len(rows), self.population)
        if self.family == "logistic":
            return sigmoid(self._log_odds(rows))
        if self.family == "lightgbm":
            return self._trees(rows)
        weight = self._blend_weight
        return sigmoid(weight * logit(self._trees(rows)) + (1.0 - weight) * self._log_odds(rows))

    def _trees(self, rows: Floats) -> Floats:
        assert self._booster is not None
        return np.asarray(self._booster.predict(rows, num_threads=1), np.float64)

    def _log_odds(self, rows: Floats) -> Floats:
        part = self._logistic
        assert part is not None
        total = np.full(len(rows), float(part["intercept"]))
        terms = zip(part["transform"], part["impute"], part["mean"], part["scale"], part["coef"], strict=True)
        for position, (transform, impute, mean, scale, coef) in enumerate(terms):
            if coef == 0.0:
                continue
            column = np.ascontiguousarray(rows[:, position])
            if transform == "log1p":
                column = np.log1p(np.maximum(column, 0.0))
            column = np.where(np.isnan(column), impute, column)
            total = total + (column - mean) / scale * coef
        return total


def sigmoid(log_odds: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(log_odds, -700.0, 700.0)))


def logit(probability: Floats) -> Floats:
    clipped = np.clip(probability, _TINY, 1.0 - _TINY)
    return np.log(clipped) - np.log1p(-clipped)


def calibrated(probability: Floats, calibration: Mapping[str, Any] | None) -> Floats:
    """Raw scores made honest: a monotone mapping fitted out of fold, or none.

    `isotonic`: straight lines through the points (x, y). `beta`: log-odds a·ln p − b·ln(1 − p) + c.
    """
    if calibration is None:
        return probability
    if calibration["kind"] == "beta":
        clipped = np.clip(probability, _TINY, 1.0 - _TINY)
        odds = calibration["a"] * np.log(clipped) - calibration["b"] * np.log1p(-clipped) + calibration["c"]
        return sigmoid(odds)
    if calibration["kind"] == "isotonic":
        x, y = np.array(calibration["x"], np.float64), np.array(calibration["y"], np.float64)
        if len(x) == 1:
            return np.full(len(probability), y[0])
        right = np.clip(np.searchsorted(x, probability, side="right"), 1, len(x) - 1)
        left = right - 1
        share = np.clip((probability - x[left]) / (x[right] - x[left]), 0.0, 1.0)
        return y[left] + share * (y[right] - y[left])
    raise ScorerProblem(f"model: unknown calibration `{calibration['kind']}`; expected isotonic or beta")


def _open_booster(text: str) -> Any:
    import lightgbm

    return lightgbm.Booster(model_str=text)
