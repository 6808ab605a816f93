"""Models before and after training: shapes, ten rows learnt by heart, directions, calibration, and the gate."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from features.scorer import Scorer
from training import evaluate, gate
from training.calibration import any_of, choose_calibration, fit_calibration, units_of
from training.datasets import Dataset
from training.evaluate import Truth
from training.folds import apart, validation
from training.models import Fitted, fit, library_model, sample
from training.selection import Verdict, choose
from training.tasks import CHURN, PROPENSITY, RETURNS, TASKS, BadSetting, Settings, Task

FAMILIES = ("logistic", "lightgbm", "blend")
QUICK = Settings(trees=40, resamples=50)


def customers(count: int, seed: int = 1, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Churn rows where a long silence and few orders mean goodbye."""
    random = np.random.default_rng(seed)
    rows = np.abs(random.normal(0, 10, (count, len(CHURN.columns))))
    silence = rows[:, CHURN.columns.index("gaps_overdue")]
    orders = rows[:, CHURN.columns.index("orders_90d")]
    return rows, (silence - orders + random.normal(0, 5 * noise, count) > 2).astype(float)


def dataset(task: Task, rows: np.ndarray, label: np.ndarray, moments: int = 3) -> Dataset:
    size = len(label)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{place % (size // moments)}" for place in range(size)],
            "as_of": np.repeat(np.arange(1.0, moments + 1), -(-size // moments))[:size],
            "closes_at": np.repeat(np.arange(1.0, moments + 1), -(-size // moments))[:size] + 0.5,
            "label": label,
            "segment": "loyal",
        }
    )
    return Dataset(frame, rows, task.columns)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Fitted]:
    rows, label = customers(1_500)
    return {family: fit(family, CHURN, CHURN.columns, rows, label, QUICK) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_data_give_the_same_model(fitted: dict[str, Fitted], family: str) -> None:
    again = fit(family, CHURN, CHURN.columns, *customers(1_500), QUICK)
    assert (again.content, again.booster) == (fitted[family].content, fitted[family].booster)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "calibration",
    [None, {"kind": "beta", "a": 0.7, "b": 1.2, "c": 0.1}, {"kind": "isotonic", "x": [0.1, 0.6], "y": [0.05, 0.7]}],
    ids=["raw", "beta", "isotonic"],
)
def test_the_library_model_and_the_portable_one_agree(
    fitted: dict[str, Fitted], family: str, calibration: dict[str, object] | None
) -> None:
    model = fitted[family].calibrated(calibration)
    rows = customers(300, seed=6)[0]
    rows[::7, 3] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = library_model(model).predict_proba(pd.DataFrame(rows, columns=list(CHURN.columns)))[:, 1]
    np.testing.assert_allclose(model.scorer.predict(rows), theirs, rtol=1e-9, atol=1e-12)


def test_a_sample_keeps_every_event_and_weighs_the_rest() -> None:
    label = np.zeros(1_000)
    label[::100] = 1.0
    chosen, weight = sample(label, Settings(most_negatives=99))
    assert label[chosen].sum() == 10 and len(chosen) == 109
    assert weight @ (1 - label[chosen]) == pytest.approx(990)


# ------------------------------------------------------------------------------------- all three models

NAMED = [(task, family) for task in TASKS.values() for family in FAMILIES]
every_model = pytest.mark.parametrize(("task", "family"), NAMED, ids=[f"{t.name}-{f}" for t, f in NAMED])
MORE = {"propensity": "own_trips_90d", "churn": "days_since_order", "returns": "product_return_rate"}
"""Per task the column of which more must mean more likely."""


def invented(task: Task, count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a task where its `MORE` column says the most, with holes as there are in real ones."""
    random = np.random.default_rng(seed)
    rows = np.abs(random.normal(0, 3, (count, len(task.columns))))
    said = rows[:, task.columns.index(MORE[task.name])]
    label = (said + random.normal(0, 1, count) > 3.5).astype(float)
    rows[random.random(rows.shape) < 0.02] = np.nan
    return rows, label


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, str], Scorer]:
    """Every family of every task, calibrated as a registered one is."""
    mapping = {"kind": "beta", "a": 0.9, "b": 1.1, "c": -0.2}
    return {
        (task.name, family): fit(family, task, task.columns, *invented(task, 1_200), QUICK).calibrated(mapping).scorer
        for task, family in NAMED
    }


@every_model
def test_each_model_gives_one_probability_a_row(models: dict[tuple[str, str], Scorer], task: Task, family: str) -> None:
    scores = models[task.name, family].predict(invented(task, 70, seed=2)[0])
    assert scores.shape == (70,) and ((scores > 0) & (scores < 1)).all() and np.unique(scores).size > 10


@every_model
def test_each_model_learns_ten_rows_by_heart(task: Task, family: str) -> None:
    rows = np.zeros((10, len(task.columns)))
    label = np.array([0.0, 1.0] * 5)
    rows[:, task.columns.index(MORE[task.name])] = label * 30 + np.arange(10)
    eager = Settings(trees=300, smallest_leaf=2, l2=0.001, inverse_penalty=1e4)
    scores = fit(family, task, task.columns, rows, label, eager).scorer.predict(rows)
    assert scores[label == 1].min() > 0.5 > scores[label == 0].max()


@every_model
def test_a_row_scores_the_same_bits_alone_among_twenty_and_among_ten_thousand(
    models: dict[tuple[str, str], Scorer], task: Task, family: str
) -> None:
    scorer, rows = models[task.name, family], invented(task, 10_000, seed=3)[0]
    everyone = scorer.predict(rows)
    for first in (0, 4_990, 9_980):
        assert scorer.predict(rows[first : first + 20]).tobytes() == everyone[first : first + 20].tobytes()
        assert scorer.predict(rows[first : first + 1]).tobytes() == everyone[first : first + 1].tobytes()
    order = np.random.default_rng(0).permutation(10_000)
    assert scorer.predict(rows[order]).tobytes() == everyone[order].tobytes()


@every_model
def test_each_model_pulls_the_way_that_the_field_insists_on(
    models: dict[tuple[str, str], Scorer], task: Task, family: str
) -> None:
    """A longer silence, more churn; more own trips, more redemption; a product that comes back more, more returns."""
    rows = np.nan_to_num(invented(task, 200, seed=4)[0], nan=1.0)
    more = rows.copy()
    more[:, task.columns.index(MORE[task.name])] += 2.0
    gain = models[task.name, family].predict(more) - models[task.name, family].predict(rows)
    assert (gain >= 0).all() and gain.mean() > 0.05


@every_model
def test_a_signed_column_never_pulls_the_other_way(
    models: dict[tuple[str, str], Scorer], task: Task, family: str
) -> None:
    rows = np.nan_to_num(invented(task, 40, seed=5)[0], nan=1.0)
    for name, sign in task.signs.items():
        more = rows.copy()
        more[:, task.columns.index(name)] += 25.0
        gain = models[task.name, family].predict(more) - models[task.name, family].predict(rows)
        assert (sign * gain >= -1e-12).all()


# -------------------------------------------------------------------------------------- calibration


def test_a_calibration_mends_scores_that_are_twice_too_high() -> None:
    random = np.random.default_rng(2)
    honest = random.uniform(0.02, 0.4, 5_000)
    label = (random.random(5_000) < honest).astype(float)
    _, mapping, crossed = choose_calibration(2 * honest, label, np.arange(5_000))
    assert mapping["kind"] in ("beta", "isotonic")
    assert evaluate.ece(label, crossed) < 0.02 < evaluate.ece(label, 2 * honest)


def test_offers_of_one_send_are_calibrated_together() -> None:
    """Events come in bunches of two: right for single rows would be far too high for a send."""
    random = np.random.default_rng(3)
    units = np.repeat(np.arange(4_000), 10)
    bunch = np.repeat(random.random(4_000) < 0.1, 10)
    label = (bunch & (np.tile(np.arange(10), 4_000) < 5)).astype(float)
    raw = np.full(len(label), label.mean())
    mapping = fit_calibration("sigmoid", raw, label, units)
    from features.scorer import calibrated

    assert any_of(units, raw).mean() > 0.3
    assert any_of(units, calibrated(raw, mapping)).mean() == pytest.approx(units_of(units, label).mean(), abs=0.005)


# ------------------------------------------------------------------------------------------ metrics

scored = st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.999)), min_size=2, max_size=60)


@given(scored)
def test_auroc_and_average_precision_are_scikit_learns(rows: list[tuple[bool, float]]) -> None:
    label, score = np.array([float(yes) for yes, _ in rows]), np.array([score for _, score in rows])
    if 0 < label.sum() < len(label):
        assert evaluate.auroc(label, score) == pytest.approx(roc_auc_score(label, score))
        assert evaluate.pr_auc(label, score) == pytest.approx(average_precision_score(label, score))
    else:
        assert np.isnan(evaluate.auroc(label, score))


def test_recall_counts_the_events_among_the_best_of_each_send() -> None:
    label = np.array([1, 0, 0, 0, 0, 0, 0, 1, 1, 0], float)
    score = np.array([9, 8, 7, 6, 5, 9, 8, 7, 1, 2], float)
    units = np.repeat([0, 1], 5)
    assert evaluate.recall_at(label, score, units, units) == pytest.approx((1.0 + 0.5) / 2)


def test_ranks_are_compared_within_a_campaign_only() -> None:
    label, score = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.2, 0.1, 0.9, 0.8])
    assert evaluate.within_auroc(label, score, np.array([0, 0, 1, 1])) == 1.0
    assert evaluate.auroc(label, score) == 0.75


def test_an_interval_holds_the_figure_and_a_paired_gain_is_narrower_than_both() -> None:
    rows, label = customers(3_000, seed=8)
    good, worse = rows[:, 1] - rows[:, 5], rows[:, 1] - rows[:, 5] + np.random.default_rng(1).normal(0, 4, 3_000)
    scores = {name: 1 / (1 + np.exp(-score / 10)) for name, score in (("good", good), ("worse", worse))}
    truth = Truth(label, np.arange(3_000) // 3)
    told = evaluate.compared(evaluate.resampled(truth, scores, 200, 1), "worse")
    low, high = told["good"]["auroc"]
    assert low < evaluate.auroc(label, scores["good"]) < high
    gain = evaluate.auroc(label, scores["good"]) - evaluate.auroc(label, scores["worse"])
    assert 0 < told["good"]["auroc_gain"][0] < gain < told["good"]["auroc_gain"][1]
    assert told["worse"]["auroc_gain"] == (0.0, 0.0)


# --------------------------------------------------------------------------------------------- gate


def verdict(noise: float, **more: object) -> Verdict:
    rows, label = customers(2_400, seed=11, noise=noise)
    return choose(CHURN, dataset(CHURN, rows, label), Settings(trees=40, resamples=50, **more))


def test_a_family_that_beats_the_baselines_is_taken_and_refitted_on_everything() -> None:
    found = verdict(noise=1.0)
    assert found.passed and found.bound > 0 and found.intervals[found.chosen.name]["log_loss_gain"][0] > 0
    assert found.validated_rows == 800 and found.begins == (3.0,)
    assert found.fitted.content["calibration"] == found.chosen.mapping
    assert [row["slice"] for row in found.slices] == ["segment"]
    assert next(iter(found.table()["model"])) == found.chosen.name


def test_where_nothing_beats_the_baseline_the_baseline_is_registered() -> None:
    found = verdict(noise=1_000.0)
    assert not found.passed
    assert found.chosen.name == found.rival and found.chosen.columns == CHURN.baselines[found.rival]


def test_a_family_that_is_no_better_than_the_best_baseline_does_not_pass_whatever_else_it_beats() -> None:
    """Recency, frequency and money are all that is known here: nothing can be added to them."""
    random = np.random.default_rng(5)
    rows = np.abs(random.normal(0, 10, (2_400, len(CHURN.columns))))
    known = CHURN.baselines["recency, frequency, money"]
    rows *= [name in known for name in CHURN.columns]
    said = [np.log1p(rows[:, CHURN.columns.index(name)]) for name in known]
    label = (said[0] - said[1] - said[2] + random.normal(0, 4, 2_400) > -2).astype(float)
    found = choose(CHURN, dataset(CHURN, rows, label), Settings(families="logistic", resamples=50))
    assert not found.passed and found.chosen.name == found.rival == "recency, frequency, money"
    beaten = found.table().set_index("model")["auroc"]
    assert beaten["logistic"] > beaten["recency"] + 0.01


def test_offers_sent_together_are_judged_as_sends() -> None:
    """Everybody is sent four offers at a time; the level and the noise are those of a send."""
    size, sent = 1_500, 4
    rows = np.repeat(invented(PROPENSITY, size, seed=7)[0], sent, axis=0)
    said = np.nan_to_num(rows[:, [PROPENSITY.columns.index(name) for name in ("own_trips_90d", "orders_90d")]])
    label = (said.sum(axis=1) + np.random.default_rng(7).normal(0, 2, len(said)) > 10).astype(float)
    data = dataset(PROPENSITY, rows, label)
    who = np.repeat(np.arange(size) % (size // 3), sent)
    offers = pd.Series(np.tile(np.arange(sent), size)).map("offer {}".format)
    moment = data.frame["as_of"].map("campaign {:g}".format)
    frame = data.frame.assign(customer_id=pd.Series(who).map("c{}".format), offer_id=offers, group=moment)
    found = choose(PROPENSITY, replace(data, frame=frame), Settings(families="logistic", resamples=50))
    losses = found.table()["send_log_loss"].tolist()
    assert found.passed and losses == sorted(losses)
    low, high = found.intervals["logistic"]["log_loss"]
    assert found.chosen.figures["pair_log_loss"] < low < found.chosen.figures["send_log_loss"] < high
    rate = found.chosen.figures["send_rate"]
    assert rate > 2 * found.chosen.figures["pair_rate"]
    assert found.chosen.figures["send_mean_score"] == pytest.approx(rate, abs=0.01)
    population = found.fitted.scorer.population
    assert population == found.chosen.scores.mean() < data.label.mean(), "strangers are on the scale of everybody else"


def gain(mean: float, better_ranks: bool = True) -> bool:
    """Whether a family passes whose paired gain in log loss over the second baseline has this mean and spread 1."""
    noise = np.random.default_rng(3).normal(0, 1, 4_000)
    loss = {"family": np.zeros(4_000), "first": np.full(4_000, 9.0), "second": noise - noise.mean() + mean}
    drawn = evaluate.Resampled(loss, loss)
    auroc = {"family": 0.7, "first": 0.6, "second": 0.69 if better_ranks else 0.71}
    return gate.passes("family", ["first", "second"], auroc, drawn)


def test_the_noise_ends_where_19_of_20_resamples_show_a_gain() -> None:
    assert gain(1.75) and not gain(1.55)


def test_a_gain_in_log_loss_does_not_make_up_for_worse_ranks() -> None:
    assert not gain(5.0, better_ranks=False)


def test_under_no_real_gain_a_family_passes_by_luck_at_most_about_as_often_as_the_level_says() -> None:
    """Two scores of equal worth, forty times: 5 % of the passes are luck, and ranks must agree besides."""
    lucky = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        truth = Truth((random.random(400) < 0.4).astype(float), np.arange(400) // 2)
        signal = np.clip(0.3 + 0.2 * truth.label, 0, 1)
        scores = {name: np.clip(signal + random.normal(0, 0.1, 400), 0.05, 0.95) for name in ("family", "baseline")}
        drawn = evaluate.resampled(truth, scores, 100, 1)
        auroc = {name: evaluate.auroc(truth.label, score) for name, score in scores.items()}
        lucky += gate.passes("family", ["baseline"], auroc, drawn)
    assert lucky <= 5


# ---------------------------------------------------------------------------------------- validation


def test_nobody_is_scored_by_a_model_that_saw_them() -> None:
    rows, label = customers(900)
    data = dataset(CHURN, rows, label)
    who, moment = data.frame["customer_id"].to_numpy(), data.frame["as_of"].to_numpy()
    found = validation(CHURN, data, CHURN.settings)
    assert found.begins == (2.0, 3.0) and len(found.parts) == 6
    times = np.zeros(len(who))
    for part in found.parts:
        assert not set(who[part.learning]) & set(who[part.scored])
        assert moment[part.learning].max() < moment[part.scored].min()
        times += part.scored
    assert (times == found.held).all() and found.held.sum() == 600


def test_what_was_not_known_when_a_fold_began_is_not_learnt_from() -> None:
    """A label is known when its window has closed: of what began just before the fold, it has not."""
    rows, label = customers(1_200)
    data = dataset(RETURNS, rows[:, : len(RETURNS.columns)], label, moments=6)
    data.frame["closes_at"] = data.frame["as_of"] + 2.0
    found = validation(RETURNS, data, Settings(validation_share=0.5))
    assert found.begins
    for part in found.parts:
        begins = found.begins[part.fold]
        assert data.frame["closes_at"][part.learning].max() <= begins <= data.frame["as_of"][part.scored].min()


def test_groups_that_could_tell_nothing_apart_are_not_made() -> None:
    data = dataset(CHURN, np.zeros((9, len(CHURN.columns))), np.eye(9)[0])
    everyone = np.ones(9, bool)
    assert len(apart(CHURN, data, everyone, everyone)) == 1


def test_a_single_moment_is_split_by_customer() -> None:
    rows, label = customers(900)
    found = validation(CHURN, dataset(CHURN, rows, label, moments=1), Settings())
    assert not found.begins and 0.2 < found.held.mean() < 0.4
    (part,) = found.parts
    assert (part.learning ^ part.scored).all()


def test_where_hardly_anybody_left_there_is_still_enough_to_learn_from_and_no_family_passes() -> None:
    for gone in range(60):
        label = np.zeros(60)
        label[gone] = 1.0
        data = dataset(CHURN, customers(60)[0], label, moments=1)
        (part,) = validation(CHURN, data, CHURN.settings).parts
        assert label[part.learning].sum() == 1 and part.scored.any()
    assert not choose(CHURN, data, Settings(families="logistic", resamples=20)).passed


def test_scores_of_models_of_different_folds_are_not_ranked_against_each_other() -> None:
    truth = Truth(np.array([1.0, 0.0, 1.0, 0.0]), np.arange(4), folds=np.array([0, 0, 1, 1]))
    score = np.array([0.2, 0.1, 0.9, 0.8])
    assert evaluate.metrics(truth, score)["auroc"] == 1.0
    drawn = evaluate.resampled(truth, {"only": score}, 20, 1).auroc["only"]
    assert set(drawn[~np.isnan(drawn)]) == {1.0}


def test_the_level_is_that_of_everything_known_not_that_of_the_newest_moment() -> None:
    """The refitted model holds the newest rate already; a mapping learnt on that moment alone would add it again."""
    rows, label = customers(2_400, seed=12)
    label[1_600:] = np.maximum(label[1_600:], np.random.default_rng(1).random(800) < 0.4)
    data = dataset(CHURN, rows, label)
    scorer = choose(CHURN, data, Settings(families="logistic", resamples=50)).fitted.scorer
    assert scorer.predict(rows).mean() == pytest.approx(label.mean(), abs=0.02)


def test_only_the_families_asked_for_compete() -> None:
    found = verdict(noise=1.0, families="logistic")
    assert {candidate.name for candidate in found.candidates} == {"logistic", *CHURN.baselines}


# ----------------------------------------------------------------------------------------- settings


def test_settings_come_from_text() -> None:
    assert Settings().with_({"trees": "300", "learning_rate": "0.1"}) == Settings(trees=300, learning_rate=0.1)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("tree", "3", "unknown parameter `tree`; did you mean `trees`?"),
        ("trees", "many", "parameter trees is `many`; expected a whole number"),
        ("trees", "1", "parameter trees is `1`; expected at least 2"),
        ("validation_share", "2", "parameter validation_share is `2.0`; expected a share between 0 and 1"),
        ("validation_folds", "0", "parameter validation_folds is `0`; expected at least 1"),
        ("learning_rate", "nan", "parameter learning_rate is `nan`; expected more than 0"),
        ("families", "forest", "unknown family `forest`; expected some of logistic,lightgbm,blend"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(name: str, value: str, sentence: str) -> None:
    with pytest.raises(BadSetting) as found:
        Settings().with_({name: value})
    assert str(found.value) == sentence


def test_every_baseline_uses_columns_of_its_task() -> None:
    for task in TASKS.values():
        assert {name for columns in task.baselines.values() for name in columns} <= set(task.columns)
        task.settings.check()
