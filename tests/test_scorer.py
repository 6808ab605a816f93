"""The portable scorer: what a folder must hold, and that a row scores the same bits whatever its company."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
