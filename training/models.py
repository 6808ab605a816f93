"""The families that compete: logistic regression, LightGBM, and their blend. Fitting only, on plain matrices.

A fitted model is held twice: as its portable form (`features.scorer`), which every score of ours comes
from, and as library objects for MLflow's own flavour (`library_model`). The two agree, and a test says so.
What is fitted on what, and which family is taken, is decided in `selection`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, LabelEncoder, StandardScaler

from features.offer_index import Floats
from features.scorer import Scorer
from training.tasks import Settings, Task

THREADS = 1
"""Two are hardly faster on tables of this size, and many times slower while anything else uses the other core."""
PLAIN = ("share", "offer_", "channel_", "placement_", "brand_fit", "rate", "gap_cv", "category_own", "chance")
"""Columns with one of these in their name are shares, flags or logarithms already; the others become log(1 + x)."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """One fitted model: `content` and `booster` are its portable form, `parts` the library's classifiers in it."""

    content: Mapping[str, Any]
    booster: str | None
    parts: tuple[Any, ...]

    @property
    def scorer(self) -> Scorer:
        return Scorer(self.content, self.booster)

    def calibrated(self, calibration: Mapping[str, Any] | None, population: float | None = None) -> Fitted:
        """The same with this calibration; `population` where the rate of single rows is not the scale of its scores."""
        content = {**self.content, "calibration": calibration}
        return Fitted(
            content if population is None else {**content, "population": population}, self.booster, self.parts
        )


def fit(family: str, task: Task, columns: Sequence[str], rows: Floats, label: Floats, settings: Settings) -> Fitted:
    """One family fitted on these rows; the columns of `rows` are `columns`."""
    if family == "blend":
        trees, logistic = (fit(part, task, columns, rows, label, settings) for part in ("lightgbm", "logistic"))
        return blended(trees, logistic, settings)
    chosen, weight = sample(label, settings)
    content: dict[str, Any] = {
        "task": task.name,
        "family": family,
        "columns": list(columns),
        "population": float(label.mean()),
        "calibration": None,
    }
    if family == "lightgbm":
        model = fit_lightgbm(task, columns, rows[chosen], label[chosen], weight, settings)
        return Fitted(content, model.booster_.model_to_string(), (model,))
    content["logistic"], pipeline = fit_logistic(task, columns, rows[chosen], label[chosen], weight, settings)
    return Fitted(content, None, (pipeline,))


def blended(trees: Fitted, logistic: Fitted, settings: Settings) -> Fitted:
    """The weighted mean of the log-odds of two models over the same columns."""
    content = {**logistic.content, "family": "blend", "blend_weight": settings.blend_weight}
    return Fitted(content, trees.booster, (*trees.parts, *logistic.parts))


def sample(label: Floats, settings: Settings) -> tuple[np.ndarray, Floats]:
    """The rows to fit on, and their weights: all with the event, and of the others at most `most_negatives`."""
    without = np.flatnonzero(label == 0.0)
    if len(without) <= settings.most_negatives:
        return np.arange(len(label)), np.ones(len(label))
    drawn = np.random.default_rng(settings.seed).choice(without, settings.most_negatives, replace=False)
    chosen = np.sort(np.concatenate([np.flatnonzero(label > 0.0), drawn]))
    return chosen, np.where(label[chosen] > 0.0, 1.0, len(without) / settings.most_negatives)


def fit_lightgbm(
    task: Task, columns: Sequence[str], rows: Floats, label: Floats, weight: Floats, settings: Settings
) -> lightgbm.LGBMClassifier:
    model = lightgbm.LGBMClassifier(
        n_estimators=settings.trees,
        num_leaves=settings.leaves,
        learning_rate=settings.learning_rate,
        min_child_samples=min(settings.smallest_leaf, max(1, len(label) // 10)),
        min_data_in_bin=3 if len(label) >= 100 else 1,
        reg_lambda=settings.l2,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.6,
        monotone_constraints=[task.signs[name] for name in columns],
        random_state=settings.seed,
        deterministic=True,
        force_row_wise=True,
        n_jobs=THREADS,
        verbose=-1,
    )
    return model.fit(rows, label, sample_weight=weight)


def fit_logistic(
    task: Task, columns: Sequence[str], rows: Floats, label: Floats, weight: Floats, settings: Settings
) -> tuple[dict[str, Any], Any]:
    """A logistic regression that honours the signs: without a column that pulls the wrong way it is fitted anew."""
    logs = [position for position, name in enumerate(columns) if not any(part in name for part in PLAIN)]
    spread = np.nanstd(np.where(np.isnan(rows), np.nan, rows), axis=0) if len(rows) else np.zeros(len(columns))
    used = [position for position in range(len(columns)) if spread[position] > 0.0]
    while used:
        pipeline = _pipeline(used, logs, settings)
        pipeline.fit(rows, label, model__sample_weight=weight)
        coefficients = pipeline["model"].coef_[0]
        names = _order(used, logs)
        wrong = {p: c for p, c in zip(names, coefficients, strict=True) if task.signs[columns[p]] * c < 0.0}
        if not wrong:
            return _portable(columns, names, logs, pipeline), pipeline
        worst = max(map(abs, wrong.values()))  # those near to the worst go at once, the others may yet turn
        used = [position for position in used if abs(wrong.get(position, 0.0)) < worst / 2]
    return _portable_rate(columns, label, weight), DummyClassifier().fit(rows, label, sample_weight=weight)


def _order(used: Sequence[int], logs: Sequence[int]) -> list[int]:
    """The columns in the order in which the pipeline hands them on: first those taken as logarithms."""
    return [p for p in used if p in logs] + [p for p in used if p not in logs]


def _pipeline(used: Sequence[int], logs: Sequence[int], settings: Settings) -> Pipeline:
    steps = ColumnTransformer(
        [
            ("log", FunctionTransformer(np.log1p), [p for p in used if p in logs]),
            ("as_is", FunctionTransformer(), [p for p in used if p not in logs]),
        ]
    )
    return Pipeline(
        [
            ("columns", steps),
            ("impute", SimpleImputer(keep_empty_features=True)),
            ("scale", StandardScaler()),
            ("model", LogisticRegression(C=settings.inverse_penalty, solver="newton-cholesky", max_iter=100)),
        ]
    )


def _portable_rate(columns: Sequence[str], label: Floats, weight: Floats) -> dict[str, Any]:
    """A logistic regression without any column: the mean rate."""
    size, rate = len(columns), float(label @ weight / weight.sum())
    plain = {"impute": [0.0] * size, "mean": [0.0] * size, "scale": [1.0] * size, "coef": [0.0] * size}
    return {"transform": ["none"] * size, **plain, "intercept": math.log(rate / (1.0 - rate))}


def _portable(columns: Sequence[str], names: Sequence[int], logs: Sequence[int], pipeline: Pipeline) -> dict[str, Any]:
    part = _portable_rate(columns, np.array([0.0, 1.0]), np.ones(2))
    part["transform"] = ["log1p" if position in logs else "none" for position in range(len(columns))]
    part["intercept"] = float(pipeline["model"].intercept_[0])
    for place, position in enumerate(names):
        part["impute"][position] = float(pipeline["impute"].statistics_[place])
        part["mean"][position] = float(pipeline["scale"].mean_[place])
        part["scale"][position] = float(pipeline["scale"].scale_[place])
        part["coef"][position] = float(pipeline["model"].coef_[0][place])
    return part


# ----------------------------------------------------------------------- the same as one library object


def library_model(fitted: Fitted) -> Any:
    """The model as a scikit-learn classifier of library classes only, so that a pickle of it opens anywhere."""
    content = fitted.content
    if content["family"] == "blend":
        weight = content["blend_weight"]
        model = _on_log_odds(fitted.parts, [(weight, weight), (1 - weight, 1 - weight)], 0.0)
    else:
        model = fitted.parts[0]
    calibration = content.get("calibration")
    if calibration is None:
        return Pipeline([("values", FunctionTransformer(np.asarray)), ("model", model)])
    if calibration["kind"] == "beta":
        model = _on_log_odds([model], [(calibration["b"], calibration["a"])], calibration["c"])
    else:
        model = _on_steps(model, calibration)
    return Pipeline([("values", FunctionTransformer(np.asarray)), ("model", model)])


def _on_log_odds(models: Sequence[Any], weights: Sequence[tuple[float, float]], intercept: float) -> Pipeline:
    """sigmoid(Σ a·ln p − b·ln(1 − p) + c) over models that are fitted already; weights are (b, a)."""
    final = _fixed(LogisticRegression(), [[sign for b, a in weights for sign in (-b, a)]], intercept)
    return Pipeline([("models", _together(models)), ("log", FunctionTransformer(np.log)), ("final", final)])


def _together(models: Sequence[Any]) -> VotingClassifier:
    """Fitted models side by side: `transform` gives ln-ready P(no), P(yes) of each."""
    voting = VotingClassifier([(f"model{place}", model) for place, model in enumerate(models)], voting="soft")
    voting.estimators_ = list(models)
    voting.le_ = LabelEncoder().fit([0, 1])
    voting.classes_ = voting.le_.classes_
    return voting


def _fixed(model: LogisticRegression, coefficients: Sequence[Sequence[float]], intercept: float) -> LogisticRegression:
    model.coef_ = np.array(coefficients, np.float64)
    model.intercept_ = np.array([intercept])
    model.classes_ = np.array([0, 1])
    model.n_features_in_ = model.coef_.shape[1]
    return model


def _on_steps(model: Any, calibration: Mapping[str, Any]) -> Any:
    """Isotonic calibration over a fitted model."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.isotonic import IsotonicRegression

    size = model.n_features_in_
    only_probabilities = _together([model])  # else it would calibrate log-odds where a model gives them
    outer = CalibratedClassifierCV(FrozenEstimator(only_probabilities), method="isotonic", ensemble=False, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outer.fit(np.zeros((4, size)), np.array([0.0, 1.0, 0.0, 1.0]))
    steps = IsotonicRegression(out_of_bounds="clip").fit(calibration["x"], calibration["y"])
    outer.calibrated_classifiers_[0].calibrators = [steps]
    return outer
