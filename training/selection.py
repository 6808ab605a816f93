"""The competition: families and baselines on time-ordered validation; the winner, refitted on all that is known.

Everything here happens inside the training window. Who is validated by whom is in `folds`, the rule that a
family must pass in `gate`, how a model is fitted in `models`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from features.offer_index import Floats
from training import evaluate, gate
from training.calibration import any_of, choose_calibration, describe
from training.datasets import Dataset
from training.evaluate import Interval, Truth
from training.folds import Part, apart, validation
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
    """The best baseline."""
    bound: float
    """What the gain in log loss over the baseline that comes nearest exceeds outside the noise."""
    intervals: dict[str, dict[str, Interval]]
    """Per competitor, of sends where offers are sent together."""
    truth: Truth
    slices: list[dict[str, object]]
    begins: tuple[float, ...]
    """When the folds of the validation begin; none: a share of the customers validated."""
    validated_rows: int

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

    Offers that were sent together are judged together, as they are calibrated: by the log loss of sends. Ranks must be
    better among the single offers.

    The winner's calibration is what the time-ordered validation taught. Where customers come again and again it is
    instead fitted on everything, each customer scored by a model that did not see them: the refitted model has the
    newest rate in it already, and a level learnt by one that had not would count its drift twice.
    """
    split = validation(task, data, settings)
    held = data.part(split.held)
    truth = truth_of(task, held, split.fold[split.held])
    entries = [(name, "logistic", columns, True) for name, columns in task.baselines.items()]
    entries += [(family, family, task.columns, False) for family in settings.competing]
    steps, candidates, done = len(entries) + 2, [], dict[str, list[Fitted]]()
    for step, (name, family, columns, baseline) in enumerate(entries):
        progress(f"fitting {name}", step, steps)
        if family == "blend" and {"lightgbm", "logistic"} <= done.keys():
            pairs = zip(done["lightgbm"], done["logistic"], strict=True)
            models = [blended(trees, logistic, settings) for trees, logistic in pairs]
        else:
            models = _fitted(family, task, columns, data, split.parts, settings)
        if not baseline:
            done[family] = models
        raw = _scored(models, columns, data, split.parts)[split.held]
        candidates.append(_judged(name, family, columns, baseline, raw, truth))
    progress("comparing", len(entries), steps)
    whole, part = ("send_", "pair_") if task.per_exposure else ("", "")
    candidates.sort(key=lambda candidate: candidate.figures[f"{whole}log_loss"])
    baselines = [candidate.name for candidate in candidates if candidate.baseline]
    scores = {candidate.name: any_of(truth.units, candidate.scores) for candidate in candidates}
    drawn = evaluate.resampled(truth.of_sends(), scores, settings.resamples, settings.seed)
    auroc = {candidate.name: candidate.figures[f"{part}auroc"] for candidate in candidates}
    passed = [c for c in candidates if not c.baseline and gate.passes(c.name, baselines, auroc, drawn)]
    chosen = (passed or [c for c in candidates if c.baseline])[0]
    progress(f"refitting {chosen.name}", steps - 1, steps)
    fitted = fit(chosen.family, task, chosen.columns, _columns(data, chosen.columns), data.label, settings)
    if task.groups > 1:
        candidates[candidates.index(chosen)] = chosen = _levelled(task, chosen, data, settings)
    # strangers get the mean of what all others get: calibrated per send, that is half the rate of single offers
    population = float(chosen.scores.mean()) if task.per_exposure else None
    names = {name: held.frame[name].fillna("").to_numpy(str) for name in _SLICES if name in held.frame}
    progress("done", len(entries) + 2, steps)
    return Verdict(
        fitted=fitted.calibrated(chosen.mapping, population),
        chosen=chosen,
        candidates=tuple(candidates),
        rival=baselines[0],
        bound=min(gate.bound(drawn, chosen.name, rival) for rival in baselines),
        intervals=evaluate.compared(drawn, baselines[0]),
        truth=truth,
        slices=evaluate.slices(truth, chosen.scores, names),
        begins=split.begins,
        validated_rows=int(split.held.sum()),
    )


_SLICES = ("segment", "kind", "channel")


def _levelled(task: Task, chosen: Candidate, data: Dataset, settings: Settings) -> Candidate:
    """`chosen` with a calibration fitted on everything, nobody scored by a model that saw them."""
    everyone = np.ones(len(data.frame), bool)
    parts = [Part(0, learning, scored) for learning, scored in apart(task, data, everyone, everyone)]
    models = _fitted(chosen.family, task, chosen.columns, data, parts, settings)
    known = truth_of(task, data)
    kind, mapping, _ = choose_calibration(_scored(models, chosen.columns, data, parts), known.label, known.customers)
    return replace(chosen, mapping=mapping, calibration=f"{kind} ({describe(mapping)})")


def _fitted(
    family: str, task: Task, columns: tuple[str, ...], data: Dataset, parts: Sequence[Part], settings: Settings
) -> list[Fitted]:
    rows, label = _columns(data, columns), data.label
    return [fit(family, task, columns, rows[part.learning], label[part.learning], settings) for part in parts]


def _scored(models: list[Fitted], columns: tuple[str, ...], data: Dataset, parts: Sequence[Part]) -> Floats:
    """Per row the score of the model that is to score it; NaN for rows that none scores."""
    rows = _columns(data, columns)
    raw = np.full(len(rows), np.nan)
    for model, part in zip(models, parts, strict=True):
        raw[part.scored] = model.scorer.predict(rows[part.scored])
    return raw


def _judged(name: str, family: str, columns: tuple[str, ...], baseline: bool, raw: Floats, truth: Truth) -> Candidate:
    kind, mapping, crossed = choose_calibration(raw, truth.label, truth.customers, truth.units)
    label = f"{kind} ({describe(mapping)})"
    return Candidate(name, family, columns, baseline, label, mapping, crossed, evaluate.metrics(truth, crossed))


def truth_of(task: Task, data: Dataset, folds: np.ndarray | None = None) -> Truth:
    frame = data.frame
    customers = pd.factorize(frame["customer_id"])[0]
    if not task.per_exposure:
        return Truth(data.label, customers, folds=folds)
    groups = frame["group"].fillna(frame["offer_id"])
    units = frame.assign(group=groups).groupby(["customer_id", "group", "as_of"], sort=False).ngroup().to_numpy()
    return Truth(data.label, customers, units, pd.factorize(groups)[0], folds)


def _columns(data: Dataset, names: tuple[str, ...]) -> Floats:
    if names == data.columns:
        return data.rows
    return np.ascontiguousarray(data.rows[:, [data.columns.index(name) for name in names]])
