"""The gate: families compete on the latest part of what is known, and the best must beat the best simple baseline.

Everything here happens inside the training window; the winner is refitted on all of it. If nothing beats
the baseline outside the noise (95 % interval of the paired gain in AUROC, customers resampled), the
baseline is taken: it is honest and it exists. Who is compared with what and calibrated on what is said in
`choose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from features.offer_index import Floats
from training import evaluate
from training.calibration import choose_calibration, describe
from training.datasets import Dataset
from training.evaluate import Interval, Truth
from training.models import Fitted, blended, fit
from training.tasks import Settings, Task

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One competitor: its figures on the validation rows, with intervals, and whether it is a baseline."""

    name: str
    family: str
    columns: tuple[str, ...]
    baseline: bool
    calibration: str
    mapping: dict[str, Any]
    scores: Floats
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of the competition: the model to register, and everything that a reader may ask about it."""

    fitted: Fitted
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    rival: str
    intervals: dict[str, dict[str, Interval]]
    truth: Truth
    slices: list[dict[str, object]]
    split_at: float | None
    train_rows: int

    @property
    def passed(self) -> bool:
        return not self.chosen.baseline

    def table(self) -> pd.DataFrame:
        """The comparison, one row a competitor, the best first."""
        rows = []
        for candidate in self.candidates:
            told = self.intervals[candidate.name]
            rows.append(
                {
                    "model": candidate.name,
                    "baseline": candidate.baseline,
                    "chosen": candidate is self.chosen,
                    "calibration": candidate.calibration,
                    **candidate.figures,
                    **{
                        f"{name}_{end}": value
                        for name, pair in told.items()
                        for end, value in zip(("low", "high"), pair, strict=True)
                    },
                }
            )
        return pd.DataFrame(rows)


def choose(task: Task, data: Dataset, settings: Settings, progress: Progress = lambda *_: None) -> Verdict:
    """Let the families and baselines compete on `data`, take the winner, and refit it on all of `data`.

    A family passes that beats every simple baseline outside the noise and is not worse than the task's
    yardstick outside it; the best of those wins. Its calibration is what the time-ordered validation taught.
    Where customers come again and again it is instead fitted on everything, each customer scored by a model
    that did not see them: the refitted model has the newest rate in it already, and a level learnt by one that had
    not would count its drift twice.
    """
    validating, split_at = validation(data, settings.validation_share)
    learning, held = data.part(~validating), data.part(validating)
    truth = truth_of(task, held)
    entries = [(name, "logistic", columns, True) for name, columns in task.baselines.items()]
    entries += [(family, family, task.columns, False) for family in settings.competing]
    steps, candidates, done = len(entries) + 2, [], dict[str, list[Fitted]]()
    parts = apart(task.folds, learning, held)
    for step, (name, family, columns, baseline) in enumerate(entries):
        progress(f"fitting {name}", step, steps)
        if family == "blend" and {"lightgbm", "logistic"} <= done.keys():
            pairs = zip(done["lightgbm"], done["logistic"], strict=True)
            models = [blended(trees, logistic, settings) for trees, logistic in pairs]
        else:
            models = _fitted(family, task, columns, learning, parts, settings)
        if not baseline:
            done[family] = models
        raw = _scored(models, _columns(held, columns), parts)
        candidates.append(_judged(name, family, columns, baseline, raw, truth))
    progress("comparing", len(entries), steps)
    measure = "pair_auroc" if task.per_exposure else "auroc"
    candidates.sort(key=lambda candidate: -candidate.figures[measure])
    rival = next(candidate for candidate in candidates if candidate.baseline)
    scores = {candidate.name: candidate.scores for candidate in candidates}
    intervals = evaluate.compared(truth, scores, rival.name, settings.resamples, settings.seed)
    simple = next(candidate for candidate in candidates if candidate.baseline and candidate.name != task.yardstick)
    over_simple = intervals
    if simple is not rival:
        over_simple = evaluate.compared(truth, scores, simple.name, settings.resamples, settings.seed)
    better = [
        c
        for c in candidates
        if not c.baseline and over_simple[c.name]["auroc_gain"][0] > 0.0 and intervals[c.name]["auroc_gain"][1] >= 0.0
    ]
    chosen = better[0] if better else rival
    progress(f"refitting {chosen.name}", steps - 1, steps)
    fitted = fit(chosen.family, task, chosen.columns, _columns(data, chosen.columns), data.label, settings)
    if task.folds > 1:
        known = truth_of(task, data)
        everyone = apart(task.folds, data, data)
        models = _fitted(chosen.family, task, chosen.columns, data, everyone, settings)
        raw = _scored(models, _columns(data, chosen.columns), everyone)
        kind, mapping, _ = choose_calibration(raw, known.label, known.customers)
        recalibrated = replace(chosen, mapping=mapping, calibration=f"{kind} ({describe(mapping)})")
        candidates[candidates.index(chosen)] = chosen = recalibrated
    names = {name: held.frame[name].fillna("").to_numpy(str) for name in _SLICES if name in held.frame}
    progress("done", len(entries) + 2, steps)
    return Verdict(
        fitted=fitted.calibrated(chosen.mapping),
        chosen=chosen,
        candidates=tuple(candidates),
        rival=rival.name,
        intervals=intervals,
        truth=truth,
        slices=evaluate.slices(truth, chosen.scores, names),
        split_at=split_at,
        train_rows=len(learning.frame),
    )


_SLICES = ("segment", "kind", "channel")


def apart(folds: int, learning: Dataset, held: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows to score by it, fold by fold of the customers, drawn by their id; nobody in both.

    A single fold of everything where one is asked for, or where a fold would leave nothing to tell apart.
    """
    everything = [(np.ones(len(learning.frame), bool), np.ones(len(held.frame), bool))]
    if folds < 2:
        return everything
    theirs, others = (_drawn(data, folds) for data in (learning, held))
    parts = [(theirs != fold, others == fold) for fold in range(folds)]
    label = learning.label
    return parts if all(0.0 < label[here].sum() < here.sum() for here, _ in parts) else everything


def _drawn(data: Dataset, parts: int) -> np.ndarray:
    return np.array([crc32(customer_id.encode()) % parts for customer_id in data.frame["customer_id"]], np.int64)


def _fitted(
    family: str,
    task: Task,
    columns: tuple[str, ...],
    learning: Dataset,
    parts: list[tuple[np.ndarray, np.ndarray]],
    settings: Settings,
) -> list[Fitted]:
    rows, label = _columns(learning, columns), learning.label
    if len(parts) == 1:
        return [fit(family, task, columns, rows, label, settings)]
    return [fit(family, task, columns, rows[here], label[here], settings) for here, _ in parts]


def _scored(models: list[Fitted], rows: Floats, parts: list[tuple[np.ndarray, np.ndarray]]) -> Floats:
    raw = np.empty(len(rows))
    for model, (_, there) in zip(models, parts, strict=True):
        raw[there] = model.scorer.predict(rows[there])
    return raw


def _judged(name: str, family: str, columns: tuple[str, ...], baseline: bool, raw: Floats, truth: Truth) -> Candidate:
    kind, mapping, crossed = choose_calibration(raw, truth.label, truth.customers, truth.units)
    label = f"{kind} ({describe(mapping)})"
    return Candidate(name, family, columns, baseline, label, mapping, crossed, evaluate.metrics(truth, crossed))


def truth_of(task: Task, data: Dataset) -> Truth:
    frame = data.frame
    customers = pd.factorize(frame["customer_id"])[0]
    if not task.per_exposure:
        return Truth(data.label, customers)
    groups = frame["group"].fillna(frame["offer_id"])
    units = frame.assign(group=groups).groupby(["customer_id", "group", "as_of"], sort=False).ngroup().to_numpy()
    return Truth(data.label, customers, units, pd.factorize(groups)[0])


def validation(data: Dataset, share: float) -> tuple[np.ndarray, float | None]:
    """Which rows validate: the latest moments, about `share` of all customers and moments, and from when on.

    With a single moment there is no later one: then a share of the customers, drawn by their id, and no time.
    """
    moment = data.frame["as_of"].to_numpy()
    moments, place = np.unique(moment, return_inverse=True)
    seen = np.bincount(moments.searchsorted(data.frame[["customer_id", "as_of"]].drop_duplicates()["as_of"]))
    rows, events = np.bincount(place), np.bincount(place, data.label)
    later_rows, later_events = (np.cumsum(counts[::-1])[::-1] for counts in (rows, events))
    earlier_rows, earlier_events = later_rows[0] - later_rows, later_events[0] - later_events
    later_both = (later_events > 0) & (later_events < later_rows)
    both = later_both & (earlier_events > 0) & (earlier_events < earlier_rows)
    if both.any():
        off = np.abs(np.cumsum(seen[::-1])[::-1] / seen.sum() - share)
        start = float(moments[np.argmin(np.where(both, off, np.inf))])
        return moment >= start, start
    return _drawn(data, 1_000) < math.ceil(1_000 * share), None


def _columns(data: Dataset, names: tuple[str, ...]) -> Floats:
    if names == data.columns:
        return data.rows
    return np.ascontiguousarray(data.rows[:, [data.columns.index(name) for name in names]])
