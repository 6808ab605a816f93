"""Pictures of a model: ROC, precision and recall, calibration, gain on the validation rows; SHAP. Drawing only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import rankdata

from features.offer_index import Floats
from training.calibration import any_of, units_of
from training.evaluate import Truth, auroc, pr_auc, reliability

POINTS = 500
Scores = Mapping[str, Floats]


def pictures(truth: Truth, scores: Scores, unit: str) -> dict[str, Figure]:
    """File name → figure; the models are drawn over each other, the first one in front."""
    happened = units_of(truth.units, truth.label)
    said = {name: any_of(truth.units, score) for name, score in scores.items()}
    return {
        "roc.png": _figure("ROC", "false positive rate", "true positive rate", _roc, truth.label, scores),
        "precision_recall.png": _figure("Precision and recall", "recall", "precision", _pr, truth.label, scores),
        "calibration.png": _figure(f"Calibration, per {unit}", "score", "rate", _calibration, happened, said),
        "gain.png": _figure(f"Gain, per {unit}", "share asked, best first", "share found", _gain, happened, said),
        "lift.png": _figure(
            f"Lift, per {unit}", "share asked, best first", "times the mean rate", _lift, happened, said
        ),
    }


def _figure(title: str, across: str, up: str, draw: Callable[..., None], label: Floats, scores: Scores) -> Figure:
    figure = Figure(figsize=(6.0, 5.0), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=across, ylabel=up)
    for place, (name, score) in reversed(list(enumerate(scores.items()))):
        draw(axes, label, score, label=name, linewidth=2.4 if place == 0 else 1.0, zorder=10 - place)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    return figure


SHAP_ROWS, SHAP_COLUMNS = 1_500, 15


def shap_summary(booster: str, columns: Sequence[str], rows: Floats) -> Figure:
    """What each column adds to the trees' log-odds, a dot per row, coloured by its value; the strongest on top."""
    import lightgbm

    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SHAP_ROWS)).astype(int))
    seen = np.ascontiguousarray(rows[chosen])
    pushed = np.asarray(lightgbm.Booster(model_str=booster).predict(seen, pred_contrib=True, num_threads=1))[:, :-1]
    strongest = np.argsort(np.abs(pushed).mean(axis=0))[-SHAP_COLUMNS:]
    figure = Figure(figsize=(7.0, 0.6 + 0.36 * len(strongest)), layout="constrained")
    axes = figure.add_subplot(title="SHAP values of the trees", xlabel="added to the log-odds")
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(seen))
    for height, column in enumerate(strongest):
        place = rankdata(seen[:, column], nan_policy="omit") / len(seen)
        axes.scatter(pushed[:, column], height + jitter, c=place, cmap="coolwarm", s=3, vmin=0.0, vmax=1.0)
    axes.set_yticks(range(len(strongest)), [columns[column] for column in strongest], fontsize="small")
    axes.axvline(0.0, color="grey", linewidth=0.8)
    return figure


def _thinned(*columns: Floats) -> list[Floats]:
    size = len(columns[0])
    kept = np.unique(np.linspace(0, size - 1, min(size, POINTS)).astype(int))
    return [column[kept] for column in columns]


def _found(label: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Rows asked and events found so far, best score first."""
    hits = np.cumsum(label[np.argsort(-score, kind="stable")])
    return np.arange(1.0, len(label) + 1.0), hits


def _roc(axes: Any, happened: Floats, score: Floats, **style: Any) -> None:
    asked, hits = _found(happened, score)
    across, up = _thinned((asked - hits) / max(1.0, len(happened) - hits[-1]), hits / max(1.0, hits[-1]))
    axes.plot(across, up, **{**style, "label": f"{style['label']} ({auroc(happened, score):.3f})"})


def _pr(axes: Any, happened: Floats, score: Floats, **style: Any) -> None:
    asked, hits = _found(happened, score)
    across, up = _thinned(hits / max(1.0, hits[-1]), hits / asked)
    axes.plot(across, up, **{**style, "label": f"{style['label']} ({pr_auc(happened, score):.3f})"})


def _calibration(axes: Any, happened: Floats, score: Floats, **style: Any) -> None:
    _, said, seen = zip(*reliability(happened, score), strict=True)
    axes.plot(said, seen, marker="o", markersize=4, **style)
    axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)


def _gain(axes: Any, happened: Floats, score: Floats, **style: Any) -> None:
    asked, hits = _found(happened, score)
    axes.plot(*_thinned(asked / len(happened), hits / max(1.0, hits[-1])), **style)


def _lift(axes: Any, happened: Floats, score: Floats, **style: Any) -> None:
    asked, hits = _found(happened, score)
    across, up = _thinned(asked / len(happened), hits / asked / max(happened.mean(), 1e-12))
    axes.plot(across[across >= 0.01], up[across >= 0.01], **style)
