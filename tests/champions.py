"""What `python -m training promote` leaves for serving, without a training: small models and the pointer to them."""

from __future__ import annotations

import json
from functools import cache

import lightgbm
import numpy as np

from features.workspace import Workspace
from serving.scoring import COLUMNS


def promote(workspace: Workspace, version: str, population: float = 0.25, task: str = "propensity") -> None:
    """The smallest model there is: everybody has the same chance."""
    model = {"task": task, "family": "constant", "columns": [], "population": population, "calibration": None}
    _hand_over(workspace, version, model, None)


def promote_trees(workspace: Workspace, version: str, task: str = "propensity") -> None:
    """A LightGBM model over all columns of the task, fitted to noise: its scores differ from row to row."""
    columns = list(COLUMNS[task])
    model = {"task": task, "family": "lightgbm", "columns": columns, "population": 0.1, "calibration": None}
    _hand_over(workspace, version, model, _trees(len(columns)))


def promote_blend(workspace: Workspace, version: str, calibration: dict[str, object], task: str = "propensity") -> None:
    """The same trees beside a logistic model over all columns; some as logarithms, some without weight."""
    columns, random = list(COLUMNS[task]), np.random.default_rng(8)
    linear = {
        "transform": ["log1p" if number % 2 else "none" for number in range(len(columns))],
        "impute": random.normal(size=len(columns)).tolist(),
        "mean": random.normal(size=len(columns)).tolist(),
        "scale": random.uniform(1.0, 30.0, len(columns)).tolist(),
        "coef": (random.normal(scale=0.2, size=len(columns)) * (random.random(len(columns)) < 0.7)).tolist(),
        "intercept": -1.0,
    }
    model = {"task": task, "family": "blend", "columns": columns, "population": 0.1, "calibration": calibration}
    _hand_over(workspace, version, {**model, "logistic": linear, "blend_weight": 0.4}, _trees(len(columns)))


@cache
def _trees(columns: int) -> str:
    random = np.random.default_rng(7)
    rows = random.gamma(0.7, 20.0, (2_000, columns))
    rows[random.random(rows.shape) < 0.3] = np.nan
    said = random.random(len(rows)) < 0.1 + 0.3 * (np.nan_to_num(rows[:, ::3]).sum(axis=1) > 20.0 * columns / 6)
    settings = {"objective": "binary", "num_leaves": 15, "verbosity": -1, "num_threads": 1, "seed": 7}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, said.astype(float)), num_boost_round=40)
    return booster.model_to_string()


def _hand_over(workspace: Workspace, version: str, model: dict[str, object], booster: str | None) -> None:
    task, tag = model["task"], f"v{version}-0a1b2c3d"
    folder = workspace.home / "bentoml" / "models" / f"onestory-{task}" / tag
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(model))
    if booster is not None:
        (folder / "booster.txt").write_text(booster)
    (folder / "model.yaml").write_text(f"labels: {{task: {task}, version: '{version}'}}")
    workspace.champions.mkdir(parents=True, exist_ok=True)
    draft = workspace.champions / f".{task}"
    draft.write_text(json.dumps({"task": task, "version": version, "tag": f"onestory-{task}:{tag}"}))
    draft.replace(workspace.champions / f"{task}.json")
