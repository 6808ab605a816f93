"""The promoted models, and one matrix for all open offers of a decision.

Models come from the Bento model store, by the pointer files that `promote` renames into place; training
is never imported. A row of the matrix is the customer's features, the affinity between customer and
offer, the offer's own features, and flags for channel and placement; a model takes its columns by name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.affinity import Affinity, index_of
from features.catalog import Catalog
from features.pairs import PAIR_COLUMNS, pair_rows
from features.profiles import FEATURES
from features.scorer import Scorer
from features.vocabulary import Offer
from features.workspace import Workspace
from serving.facts import Facts

Matrix = npt.NDArray[np.float64]
COLUMNS: Mapping[str, Sequence[str]] = {"propensity": PAIR_COLUMNS, "churn": tuple(FEATURES)}
"""The columns of the rows that each task is scored on."""


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
        propensity=_load(workspace, "propensity"),
        churn=_load(workspace, "churn"),
    )


def load_version(workspace: Workspace, task: str, version: str | None) -> Model | None:
    """The model of that version in the registry, from the copies in the Bento store; None for None.

    Raises FileNotFoundError where no copy is kept.
    """
    if version is None:
        return None
    bentoml = _bentoml(workspace)
    for model in bentoml.models.list():
        if model.info.labels.get("task") == task and model.info.labels.get("version") == version:
            return _opened(version, model.path, task)
    raise FileNotFoundError(f"{task} model of version `{version}` is missing; expected its copy in the Bento store")


def _load(workspace: Workspace, task: str) -> Model | None:
    pointer = read_pointer(workspace, task)
    if pointer is None:
        return None
    return _opened(str(pointer["version"]), _bentoml(workspace).models.get(pointer["tag"]).path, task)


def _opened(version: str, folder: str, task: str) -> Model:
    scorer = Scorer.load(folder)
    return Model(version, scorer, scorer.positions(COLUMNS[task]))


def _bentoml(workspace: Workspace) -> Any:
    """BentoML over this workspace's store. It takes seconds; a workspace without models needs none of it."""
    os.environ["BENTOML_HOME"] = workspace.environment()["BENTOML_HOME"]
    import bentoml

    return bentoml


def read_pointer(workspace: Workspace, task: str) -> Mapping[str, Any] | None:
    """What `promote` says is at work for `task`: its tag in the Bento store and its version; None if nothing is."""
    try:
        pointer: Mapping[str, Any] = json.loads((workspace.champions / f"{task}.json").read_bytes())
    except FileNotFoundError:
        return None
    return pointer
