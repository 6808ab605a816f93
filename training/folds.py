"""Who is validated, and by models that learnt from whom: as-of folds inside the training window. Pure, no model here.

The latest labelled moments are cut into folds, each validated by what could be learnt before it began. What
could not: rows whose window was still open at that moment (they are purged), or, where the same customers come at
every moment and windows are long, rows of the validated customers themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from training.datasets import Dataset
from training.tasks import Settings, Task

Chosen = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Part:
    """One model's share of a validation: the rows that it learns from and those that it scores, of the whole data."""

    fold: int
    learning: Chosen
    scored: Chosen


@dataclass(frozen=True, slots=True)
class Validation:
    """All parts; every row that any part scores is scored once. `begins` is when the first fold does, if at a time."""

    parts: tuple[Part, ...]
    begins: tuple[float, ...]
    fold: NDArray[np.int64]
    """Per row the fold that it is scored in; -1: only learnt from."""

    @property
    def held(self) -> Chosen:
        return self.fold >= 0


def validation(task: Task, data: Dataset, settings: Settings) -> Validation:
    """The folds of `data`. Where no moment has enough behind it, a share of the customers, drawn by their id."""
    moment = data.frame["as_of"].to_numpy()
    begins = _begins(task, data, settings)
    if not begins:
        scored = _some(data, min(settings.validation_share, MOST_CUSTOMERS))
        return Validation((Part(0, ~scored, scored),), (), np.where(scored, 0, -1))
    fold = np.searchsorted(begins, moment, side="right") - 1
    parts = []
    for number, start in enumerate(begins):
        earlier, here = _known(task, data, start), fold == number
        parts += [Part(number, learning, scored) for learning, scored in apart(task, data, earlier, here)]
    return Validation(tuple(parts), tuple(begins), fold)


MOST_CUSTOMERS = 0.3


def _some(data: Dataset, share: float) -> Chosen:
    """A share of the customers such that the others are enough to learn from, be there only one with the event."""
    drawn = _drawn(data, 1_000)
    shares = [(drawn + shift) % 1_000 < math.ceil(1_000 * share) for shift in range(0, 1_000, 100)]
    return next((scored for scored in shares if _both(data.label[~scored])), shares[0])


def apart(task: Task, data: Dataset, learning: Chosen, scored: Chosen) -> list[tuple[Chosen, Chosen]]:
    """`learning` and `scored` per group of the customers, drawn by their id: nobody is on both sides of one.

    As they are where the task keeps nobody apart, or where a group would leave nothing to tell apart.
    """
    if task.groups < 2:
        return [(learning, scored)]
    theirs = _drawn(data, task.groups)
    parts = [(learning & (theirs != group), scored & (theirs == group)) for group in range(task.groups)]
    return parts if all(_both(data.label[learnt]) for learnt, _ in parts) else [(learning, scored)]


def _begins(task: Task, data: Dataset, settings: Settings) -> list[float]:
    """When the folds begin: they hold about `validation_share` of all customers and moments, in equal shares."""
    asked = data.frame[["customer_id", "as_of"]].drop_duplicates()["as_of"].to_numpy()
    moments, counts = np.unique(asked, return_counts=True)
    left = np.cumsum(counts[::-1])[::-1] / counts.sum()
    label, moment = data.label, data.frame["as_of"].to_numpy()
    found: set[float] = set()
    for fold in range(settings.validation_folds):
        target = settings.validation_share * (settings.validation_folds - fold) / settings.validation_folds
        for place in np.argsort(np.abs(left - target), kind="stable")[:NEAREST]:
            start = float(moments[place])
            if _both(label[moment >= start]) and _both(label[_known(task, data, start)]):
                found.add(start)
                break
    return sorted(found)


NEAREST = 30
"""So many moments are tried for the beginning of a fold, the nearest to its share first."""


def _known(task: Task, data: Dataset, start: float) -> Chosen:
    """The rows that a model made at `start` may learn from."""
    earlier: Chosen = data.frame["as_of"].to_numpy() < start
    if task.groups > 1:  # those validated are kept out as customers
        return earlier
    return earlier & (data.frame["closes_at"].to_numpy() <= start)


def _both(label: NDArray[np.float64]) -> bool:
    return bool(0.0 < label.sum() < len(label))


def _drawn(data: Dataset, groups: int) -> NDArray[np.int64]:
    return np.array([crc32(customer_id.encode()) % groups for customer_id in data.frame["customer_id"]], np.int64)
