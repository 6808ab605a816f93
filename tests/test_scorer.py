"""The portable scorer: what a folder must hold, and that a row scores the same bits whatever its company."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import trees
from features.scorer import Scorer, ScorerProblem, calibrated
from training.models import fit
from training.registry import write_portable
from training.tasks import CHURN, Settings

COLUMNS = CHURN.columns
CALIBRATIONS: list[dict[str, Any] | None] = [
    None,
    {"kind": "beta", "a": 0.8, "b": 1.1, "c": -0.3},
    {"kind": "isotonic", "x": [0.1, 0.4, 0.8], "y": [0.0, 0.5, 0.6]},
]


def rows(count: int, seed: int = 3) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = np.exp(random.normal(0, 2, (count, len(COLUMNS))))
    made[random.random(made.shape) < 0.1] = np.nan
    return made


@cache
def model(family: str, calibration: int) -> Scorer:
    known = rows(400)
    label = (np.nan_to_num(known[:, 0]) + np.random.default_rng(1).normal(0, 2, 400) > 2).astype(float)
    fitted = fit(family, CHURN, COLUMNS, known, label, Settings(trees=60))
    return fitted.calibrated(CALIBRATIONS[calibration]).scorer


MANY = rows(10_000, seed=9)


@given(
    st.sampled_from(["logistic", "lightgbm", "blend"]), st.integers(0, 2), st.integers(0, 9_999), st.integers(0, 9_980)
)
def test_a_row_scores_the_same_bits_alone_among_twenty_and_among_ten_thousand(
    family: str, calibration: int, place: int, start: int
) -> None:
    scorer = model(family, calibration)
    among_all = _scores_of_many(family, calibration)
    assert scorer.predict(MANY[place : place + 1]).tobytes() == among_all[place : place + 1].tobytes()
    assert scorer.predict(MANY[start : start + 20]).tobytes() == among_all[start : start + 20].tobytes()
    assert (
        scorer.predict(np.asfortranarray(MANY[start : start + 20])).tobytes() == among_all[start : start + 20].tobytes()
    )


@cache
def _scores_of_many(family: str, calibration: int) -> np.ndarray:
    return model(family, calibration).predict(MANY)


@pytest.mark.parametrize("family", ["logistic", "lightgbm", "blend"])
def test_a_folder_read_back_scores_the_same_bits(tmp_path: Path, family: str) -> None:
    known = rows(300)
    fitted = fit(family, CHURN, COLUMNS, known, (known[:, 1] > 1).astype(float), Settings(trees=20))
    write_portable(fitted, tmp_path)
    assert Scorer.load(tmp_path).predict(known).tobytes() == fitted.scorer.predict(known).tobytes()


def test_no_rows_give_no_scores() -> None:
    assert model("blend", 0).predict(np.empty((0, len(COLUMNS)))).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.sampled_from(CALIBRATIONS))
def test_calibration_keeps_the_order_and_stays_a_probability(raw: list[float], calibration: Any) -> None:
    mapped = calibrated(np.sort(np.array(raw)), calibration)
    assert (np.diff(mapped) >= -1e-15).all() and ((mapped >= 0) & (mapped <= 1)).all()


def test_a_model_takes_its_columns_by_name() -> None:
    scorer = model("logistic", 0)
    mixed = tuple(reversed(COLUMNS))
    positions = scorer.positions(("other", *mixed))
    wide = np.column_stack([np.zeros(5), rows(5)[:, ::-1]])
    assert scorer.predict(wide[:, positions]).tobytes() == scorer.predict(rows(5)).tobytes()
    with pytest.raises(ScorerProblem, match="column `days_since_order` is not among the features"):
        scorer.positions(("other",))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "cannot read"),
        (
            json.dumps({"family": "forest"}),
            "unknown family `forest`; expected one of constant, logistic, lightgbm, blend",
        ),
        (json.dumps({"family": "lightgbm"}), "family `lightgbm` needs `booster.txt`"),
    ],
)
def test_a_folder_that_is_no_model_says_what_is_wrong(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ScorerProblem) as found:
        Scorer.load(tmp_path)
    assert problem in str(found.value)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ScorerProblem, match="expected 25 columns"):
        model("logistic", 0).predict(np.zeros((2, 3)))


def _boosters() -> dict[str, lightgbm.Booster]:
    random = np.random.default_rng(2)
    known = random.normal(size=(1_500, 8)).round(1)
    known[random.random(known.shape) < 0.1] = np.nan
    label = (np.nan_to_num(known[:, 0] * known[:, 1]) + random.normal(size=1_500) > 0).astype(float)
    made = {}
    for leaves in (2, 7, 8, 9, 31, 60):
        settings = {"objective": "binary", "num_leaves": leaves, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1}
        made[f"{leaves} leaves"] = lightgbm.train(settings, lightgbm.Dataset(known, label), 30)
    no_missing = {**settings, "use_missing": False}
    made["nothing missing"] = lightgbm.train(no_missing, lightgbm.Dataset(np.nan_to_num(known), label), 30)
    return made


@pytest.mark.parametrize(("name", "booster"), _boosters().items())
def test_trees_score_the_bits_of_lightgbm(name: str, booster: lightgbm.Booster) -> None:
    read = trees._read(booster.model_to_string())
    assert read is not None
    quick = trees._Quick(*read)
    for seed in range(20):
        random = np.random.default_rng(seed)
        asked = np.concatenate([random.normal(size=(30, 8)).round(seed % 3), quick.rows_to_try(8)])
        asked[random.random(asked.shape) < 0.1] = np.nan
        asked[:, : seed % 9] = asked[0, : seed % 9]
        assert quick(asked).tobytes() == booster.predict(asked, num_threads=1).tobytes()
        assert quick(asked[:1]).tobytes() == booster.predict(asked[:1], num_threads=1).tobytes()


@pytest.mark.parametrize(
    ("settings", "by_category"),
    [({"zero_as_missing": True}, []), ({}, [0]), ({"num_leaves": 80}, []), ({"objective": "rmse"}, [])],
)
def test_what_is_not_told_of_trees_is_scored_by_lightgbm_itself(
    settings: dict[str, Any], by_category: list[int]
) -> None:
    random = np.random.default_rng(2)
    known = random.integers(0, 9, size=(2_000, 3)).astype(float)
    label = (known.sum(axis=1) + random.normal(size=2_000) > 12).astype(float)
    given = {"objective": "binary", "min_data_in_leaf": 2, "verbose": -1, "num_threads": 1, **settings}
    booster = lightgbm.train(given, lightgbm.Dataset(known, label, categorical_feature=by_category), 20)
    assert trees._read(booster.model_to_string()) is None
    score = trees.opened(booster.model_to_string())
    assert score(known[:20]).tobytes() == booster.predict(known[:20], num_threads=1).tobytes()
