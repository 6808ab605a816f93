"""The promoted models, and one matrix for all open offers of a decision.

Models come from the Bento model store, by the pointer files that `promote` renames into place; training
is never imported. A row of the matrix is the customer's features, the affinity between customer and
offer, the offer's own features, and flags for channel and placement; a model takes its columns by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.affinity import Affinity, index_of
from features.catalog import Catalog
from features.pairs import PAIR_COLUMNS, pair_rows
from features.profiles import FEATURES
from features.scorer import Scorer
from features.vocabulary import Offer
from features.workspace import Workspace

if TYPE_CHECKING:
    from serving.decide import Facts

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """One propensity per open offer (None without a model) and the customer's churn risk (None without a model)."""

    propensity: list[float | None]
    churn: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One promoted model: its version in MLflow's registry, and the scorer over `columns`."""

    version: str
    scorer: Scorer
    positions: npt.NDArray[np.int64]

    def predict(self, rows: Matrix) -> list[float]:
        return [float(score) for score in self.scorer.predict(rows[:, self.positions])]


@dataclass(frozen=True, slots=True)
class Models:
    """The champions at work; None where none was promoted."""

    propensity: Model | None = None
    churn: Model | None = None

    @property
    def versions(self) -> dict[str, str | None]:
        return {
            "propensity": self.propensity.version if self.propensity else None,
            "churn": self.churn.version if self.churn else None,
        }

    def score(
        self, facts: Facts, catalog: Catalog, offers: Sequence[Offer], features: Mapping[str, float], affinity: Affinity
    ) -> Scores:
        """Scores for one customer: population propensity where nobody knows the customer."""
        if not offers:
            return Scores([])
        if not facts.known:
            return Scores([self.propensity.scorer.population if self.propensity else None] * len(offers))
        churn = self.churn.predict(np.array([list(features.values())]))[0] if self.churn else None
        if self.propensity is None:
            return Scores([None] * len(offers), churn)
        index = index_of(catalog)
        rows = pair_rows(features.values(), affinity, index, offers, facts.channel, facts.placement)
        return Scores(list(self.propensity.predict(rows)), churn)


def load_models(workspace: Workspace) -> Models:
    """The champions that the pointer files of the workspace name."""
    return Models(
        propensity=_load(workspace, "propensity", PAIR_COLUMNS),
        churn=_load(workspace, "churn", tuple(FEATURES)),
    )


def _load(workspace: Workspace, task: str, columns: Sequence[str]) -> Model | None:
    pointer = read_pointer(workspace, task)
    if pointer is None:
        return None
    import bentoml  # takes seconds; a workspace without models needs none

    scorer = Scorer.load(bentoml.models.get(pointer["tag"]).path)
    return Model(str(pointer["version"]), scorer, scorer.positions(columns))


def read_pointer(workspace: Workspace, task: str) -> Mapping[str, Any] | None:
    """What `promote` says is at work for `task`: its tag in the Bento store and its version; None if nothing is."""
    try:
        pointer: Mapping[str, Any] = json.loads((workspace.champions / f"{task}.json").read_bytes())
    except FileNotFoundError:
        return None
    return pointer
