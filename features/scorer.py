"""A trained model in portable form: a folder of JSON and LightGBM text, and the scores it gives.

Training writes the folder, serving reads it; both score with this class, so both get the same bits.
A row scores the same bits alone, among 20 or among 10,000: linear terms are added up column by column,
trees are LightGBM's own (`trees`). Nothing here trains.

`model.json`: task, family (`constant`, `logistic`, `lightgbm`, `blend`), columns, population (the mean rate; of
offers the mean calibrated score), calibration (null, isotonic or beta), logistic (per column: transform,
impute, mean, scale, coef; intercept), blend_weight (LightGBM's share of a blend's log-odds). `booster.txt`:
LightGBM's text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features import trees

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
        self._linear = _Linear(content["logistic"]) if content.get("logistic") else None
        self._calibration = content.get("calibration")
        self._blend_weight = float(content.get("blend_weight", 0.5))
        self._trees_of = trees.opened(booster) if booster is not None else None

    @classmethod
    def load(cls, folder: str | Path) -> Scorer:
        """The model in `folder`. Raises ScorerProblem where there is none."""
        path = Path(folder) / "model.json"
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ScorerProblem(f"model: cannot read `{path}`; expected a portable model ({error})") from error
        booster = Path(folder) / "booster.txt"
        return cls(content, booster.read_text("utf-8") if booster.exists() else None)

    def positions(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Where this model's columns are among `names`, the columns of a caller's matrix."""
        place = {name: position for position, name in enumerate(names)}
        missing = [name for name in self.columns if name not in place]
        if missing:
            raise ScorerProblem(f"model: column `{missing[0]}` is not among the features; build and train again")
        return np.array([place[name] for name in self.columns], np.int64)

    def predict(self, rows: Floats) -> Floats:
        """P(yes) of each row, whose columns are `self.columns` in that order; NaN is unknown."""
        rows = np.asarray(rows, np.float64)
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
        assert self._trees_of is not None
        return self._trees_of(rows)

    def _log_odds(self, rows: Floats) -> Floats:
        assert self._linear is not None
        return self._linear(rows)


class _Linear:
    """The log-odds of a logistic model: every column made a term at once, the terms added up in their order."""

    def __init__(self, part: Mapping[str, Any]):
        coef = np.array(part["coef"], np.float64)
        self._used = np.flatnonzero(coef)
        self._intercept = float(part["intercept"])
        self._impute, self._mean, self._scale = (
            np.array(part[name], np.float64)[self._used, None] for name in ("impute", "mean", "scale")
        )
        self._coef = coef[self._used, None]
        self._logs = np.flatnonzero([part["transform"][position] == "log1p" for position in self._used])

    def __call__(self, rows: Floats) -> Floats:
        if not len(self._used):
            return np.full(len(rows), self._intercept)
        columns = rows.T.take(self._used, axis=0)
        if len(self._logs):
            columns[self._logs] = np.log1p(np.maximum(columns.take(self._logs, axis=0), 0.0))
        np.copyto(columns, self._impute, where=np.isnan(columns))
        columns -= self._mean
        columns /= self._scale
        columns *= self._coef
        columns[0] += self._intercept
        summed: Floats = np.add.accumulate(columns, axis=0)[-1]
        return summed


def sigmoid(log_odds: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-_clipped(log_odds, -700.0, 700.0)))


def _clipped(values: Floats, low: float, high: float) -> Floats:
    """`np.clip` without its detour, which costs more than the clipping."""
    return np.minimum(np.maximum(values, low), high)


def logit(probability: Floats) -> Floats:
    clipped = _clipped(probability, _TINY, 1.0 - _TINY)
    return np.log(clipped) - np.log1p(-clipped)


def calibrated(probability: Floats, calibration: Mapping[str, Any] | None) -> Floats:
    """Raw scores made honest: a monotone mapping fitted out of fold, or none.

    `isotonic`: straight lines through the points (x, y). `beta`: log-odds a·ln p − b·ln(1 − p) + c.
    """
    if calibration is None:
        return probability
    if calibration["kind"] == "beta":
        clipped = _clipped(probability, _TINY, 1.0 - _TINY)
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
